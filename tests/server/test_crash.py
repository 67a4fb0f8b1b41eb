"""A serving process dies in the middle of runs; the next one finishes them, and nothing is told twice."""

from __future__ import annotations

import pathlib
import time
from contextlib import ExitStack

from tests.server.gated import FINISHED, FLOW, Client, Event, Peer, events_and_nodes, read_until
from tests.server.process import Serve


def test_killed_in_mid_run_and_started_again(tmp_path: pathlib.Path, peer: Peer):
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
    runs = [f"run{n}" for n in range(5)]
    before: dict[str, list[Event]] = {}
    last_ids: dict[str, str] = {}

    with Serve(tmp_path, [flow], environ) as serve, ExitStack() as streams:
        key, client = serve.keys["flow"], Client(serve)
        for name in runs:
            fields = {"inputs": {"q": name}, "user": "u", "response_mode": "streaming"}
            stream = streams.enter_context(client.stream("POST", "/v1/workflows/run", fields))
            before[name], last_ids[name] = read_until(stream, ("node_started", "second"))
        for _ in runs:
            assert peer.waiting.acquire(timeout=60)
        serve.kill()
    peer.gate.set()

    with Serve(tmp_path, [flow], environ) as serve:
        assert serve.keys["flow"] == key
        client = Client(serve)
        for name in runs:
            run = before[name][0]["workflow_run_id"]
            with client.stream(
                "GET", f"/v1/workflow/{run}/events?user=u", **{"Last-Event-ID": last_ids[name]}
            ) as stream:
                after, _ = read_until(stream, FINISHED)
            kinds = [(event, node) for event, node in events_and_nodes(before[name] + after) if event != "text_chunk"]
            assert len(kinds) == len(set(kinds)), "nothing is told twice"
            assert kinds[-1] == ("workflow_finished", None)
            assert after[-1]["data"]["status"] == "succeeded"
            assert after[-1]["data"]["outputs"] == {"one": f"/first/{name}", "two": f"/second/{name}"}
            chunks = [event for event in before[name] + after if event["event"] == "text_chunk"]
            text = "".join(chunk["data"]["text"] for chunk in chunks)
            assert text == f"/first/{name}\n/second/{name}"
            assert client.get(f"/v1/workflows/run/{run}")["status"] == "succeeded"

    for name in runs:
        firsts = [call for call in peer.calls if call[0] == f"/first/{name}"]
        keys = {key for path, key in peer.calls if path == f"/second/{name}"}
        assert len(firsts) == 1, "a node that had ended is not run again"
        assert len(keys) == 1, "a node that is run again after a crash brings the same idempotency key"
        assert None not in keys


def test_a_stopped_service_ends_its_streams_and_goes_on_with_its_runs(tmp_path: pathlib.Path, peer: Peer):
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    environ = {"HEADRACE_EGRESS_ALLOW": peer.address, "HEADRACE_DRAIN_SECONDS": "1"}
    with Serve(tmp_path, [flow], environ) as serve:
        fields = {"inputs": {"q": "x"}, "user": "u", "response_mode": "streaming"}
        with Client(serve).stream("POST", "/v1/workflows/run", fields) as stream:
            events, _ = read_until(stream, ("node_started", "second"))
        assert peer.waiting.acquire(timeout=60)
        began = time.monotonic()
    assert time.monotonic() - began < 60, "it does not wait for the run"
    peer.gate.set()
    with Serve(tmp_path, [flow], environ) as serve:
        run = events[0]["workflow_run_id"]
        with Client(serve).stream("GET", f"/v1/workflow/{run}/events?user=u") as stream:
            assert read_until(stream, FINISHED)[0][-1]["data"]["status"] == "succeeded"
