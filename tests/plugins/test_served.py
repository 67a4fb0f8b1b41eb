"""Plugins of a server: it dies in the middle of a call, or they do."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import time
import urllib.request
from contextlib import ExitStack

import pytest
import yaml

from tests.plugins.fakes import install, processes_of
from tests.server.gated import FINISHED, Client, events_and_nodes, read_until
from tests.server.process import Serve


def flow(folder: pathlib.Path, do: str, **strategy: object) -> pathlib.Path:
    """A workflow that calls the plugin of the tests."""
    node = {
        "type": "tool",
        "title": "Act",
        "provider_type": "builtin",
        "provider_id": "tests/fake/fake",
        "provider_name": "tests/fake/fake",
        "tool_name": "act",
        "tool_parameters": {"do": {"type": "constant", "value": do}},
        "tool_configurations": {},
        **strategy,
    }
    end = {"type": "end", "title": "End", "outputs": [{"variable": "text", "value_selector": ["act", "text"]}]}
    data = {"s": {"type": "start", "title": "Start", "variables": []}, "act": node, "e": end}
    edges = [("s", "act"), ("act", "e")]
    file = folder / "flow.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "app": {"mode": "workflow", "name": "plugins"},
                "kind": "app",
                "version": "0.5.0",
                "workflow": {
                    "features": {},
                    "graph": {
                        "nodes": [{"id": id_, "data": item} for id_, item in data.items()],
                        "edges": [
                            {"id": f"{source}-{target}", "source": source, "sourceHandle": "source", "target": target}
                            for source, target in edges
                        ],
                    },
                },
            }
        )
    )
    return file


ENVIRON = {"FAKE_API_KEY": "the-key-of-the-plugin", "HEADRACE_DRAIN_SECONDS": "0"}
RUN = {"inputs": {}, "user": "u", "response_mode": "streaming"}


def test_a_run_continues_after_the_server_was_killed_in_the_middle_of_a_call(tmp_path: pathlib.Path) -> None:
    install(tmp_path / "data")
    file = flow(tmp_path, "never, then at once")
    marker = tmp_path / "data" / "plugin-data" / "tests" / "fake" / "home" / "called"
    with Serve(tmp_path, [file], ENVIRON) as serve, Client(serve).stream("POST", "/v1/workflows/run", RUN) as stream:
        events, last = read_until(stream, ("node_started", "act"))
        until = time.monotonic() + 60
        while not marker.exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        serve.kill()
    with Serve(tmp_path, [file], ENVIRON) as serve:
        run = events[0]["workflow_run_id"]
        path = f"/v1/workflow/{run}/events?user=u"
        with Client(serve).stream("GET", path, **{"Last-Event-ID": last}) as stream:
            after, _ = read_until(stream, FINISHED)
    assert after[-1]["data"]["status"] == "succeeded"
    assert after[-1]["data"]["outputs"] == {"text": "done"}
    assert processes_of(tmp_path / "data" / "plugins") == []


DEFAULT = {
    "error_strategy": "default-value",
    "default_value": [{"key": "text", "type": "string", "value": "instead"}],
}


@pytest.mark.parametrize(
    ("strategy", "status", "outputs"),
    [({}, "failed", None), (DEFAULT, "partial-succeeded", {"text": "instead"})],
)
def test_a_plugin_that_is_killed_in_the_middle_of_50_calls(
    tmp_path: pathlib.Path, strategy: dict[str, object], status: str, outputs: dict[str, str] | None
) -> None:
    """They fail as their nodes' error strategies say, and the next call is served."""
    install(tmp_path / "data")
    with Serve(tmp_path, [flow(tmp_path, "hold", **strategy)], ENVIRON) as serve, ExitStack() as stack:
        client = Client(serve)
        streams = [stack.enter_context(client.stream("POST", "/v1/workflows/run", RUN)) for _ in range(50)]
        for stream in streams:
            read_until(stream, ("text_chunk", None))
        (pid,) = processes_of(tmp_path / "data" / "plugins")
        os.kill(pid, signal.SIGKILL)
        for stream in streams:
            events, _ = read_until(stream, FINISHED)
            assert events[-1]["data"]["status"] == status
            if outputs is None:
                assert "Failed to invoke tool tests/fake/fake: The plugin tests/fake was ended by SIGKILL." in str(
                    events[-1]["data"]["error"]
                )
            else:
                assert events[-1]["data"]["outputs"] == outputs
        with client.stream("POST", "/v1/workflows/run", RUN) as stream:
            assert events_and_nodes(read_until(stream, ("text_chunk", None))[0])[-1] == ("text_chunk", None)


USAGE = {
    "prompt_tokens": 7,
    "prompt_unit_price": "2",
    "prompt_price_unit": "0.001",
    "prompt_price": "0.014",
    "completion_tokens": 3,
    "completion_unit_price": "4",
    "completion_price_unit": "0.001",
    "completion_price": "0.012",
    "total_tokens": 10,
    "total_price": "0.026",
    "currency": "USD",
    "latency": 0.5,
}


def agent(folder: pathlib.Path) -> pathlib.Path:
    """An agent-chat app whose model and tool are those of the plugin of the tests."""
    function = {"name": "act", "arguments": json.dumps({"do": "umbrella"})}
    rounds = [
        [{"content": "", "calls": [{"id": "c1", "type": "function", "function": function}], "usage": USAGE}],
        [{"content": "Take "}, {"content": "it.", "usage": USAGE, "finish_reason": "stop"}],
    ]
    act = {
        "enabled": True,
        "provider_type": "builtin",
        "provider_id": "tests/fake/fake",
        "provider_name": "tests/fake/fake",
        "tool_name": "act",
        "tool_label": "Act",
        "tool_parameters": {"do": ""},
    }
    parameters = {"rounds": rounds}
    model = {"provider": "tests/fake/fake", "name": "plain", "mode": "chat", "completion_params": parameters}
    mode = {"enabled": True, "strategy": "function_call", "max_iteration": 5, "tools": [act]}
    config = {"model": model, "pre_prompt": "Help.", "user_input_form": [], "agent_mode": mode}
    file = folder / "flow.yml"
    app = {"name": "helper", "mode": "agent-chat"}
    file.write_text(yaml.safe_dump({"kind": "app", "version": "0.5.0", "app": app, "model_config": config}))
    return file


def test_an_agent_with_a_model_and_a_tool_of_a_plugin(tmp_path: pathlib.Path) -> None:
    """It is called by a client, and by an endpoint of the plugin."""
    install(tmp_path / "data")
    hooks = tmp_path / "hooks.yaml"
    hooks.write_text("hook: {plugin: tests/fake, settings: {token: t, app: helper}}")
    environ = {**ENVIRON, "HEADRACE_PLUGIN_ENDPOINTS": str(hooks)}
    with Serve(tmp_path, [agent(tmp_path)], environ) as serve:
        assert processes_of(tmp_path / "data" / "plugins") == [], "none runs before it is used"
        message = {"query": "Will it rain?", "inputs": {}, "user": "u", "response_mode": "streaming"}
        with Client(serve).stream("POST", "/v1/chat-messages", message) as stream:
            events = [json.loads(line[5:]) for line in stream if line.startswith(b"data:")]
        called = [event for event in events if event["event"] == "agent_thought" and event["observation"]]
        assert [event["tool"] for event in called] == ["act"]
        assert json.loads(called[0]["tool_input"]) == {"act": {"do": "umbrella"}}
        assert "umbrella" in called[0]["observation"]
        assert "".join(event["answer"] for event in events if event["event"] == "agent_message") == "Take it."
        assert events[-1]["metadata"]["usage"]["total_tokens"] == 20
        with urllib.request.urlopen(f"{serve.url}/e/hook/rain?chat=Will+it%3F", timeout=60) as response:
            (answer,) = json.loads(response.read())
        assert (answer["answer"], response.status) == ("Take it.", 200)
        assert len(processes_of(tmp_path / "data" / "plugins")) == 1
