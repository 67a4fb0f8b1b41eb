"""`headrace tools`: what can be called here, one call by hand, and what `lint` says of tools that are missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.background import serving
from tests.cli.conftest import Invoke
from tests.cli.flows import flow
from tests.plugins.fakes import install

DESCRIPTION = """
openapi: 3.0.0
servers: [{url: "http://127.0.0.1:1"}]
components: {securitySchemes: {key: {type: apiKey, in: query, name: key}}}
paths: {/today: {get: {operationId: today, summary: Today's weather}}}
"""


def tool(id_: str, provider: str, name: str, type_: str = "builtin", **data: Any) -> Mapping[str, Any]:
    return {
        "id": id_,
        "type": "tool",
        "title": f"Node {id_}",
        "provider_type": type_,
        "provider_id": provider,
        "provider_name": provider,
        "tool_name": name,
        "tool_parameters": {},
        "tool_configurations": {},
        **data,
    }


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    folder = tmp_path / "descriptions"
    folder.mkdir()
    (folder / "weather.yaml").write_text(DESCRIPTION)
    return folder


def test_a_list_of_the_tools(invoke: Invoke, weather: Path):
    done = invoke("tools", "list", HEADRACE_TOOLS=str(weather))
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["NAME", "TYPE", "PARAMETERS"]
    assert ["time/weekday", "builtin", "year*", "month*", "day*"] in rows
    assert ["weather/today", "api"] in rows
    assert done.stderr == "The API 'weather' needs a key: set WEATHER_API_KEY.\n"


def test_a_list_as_json(invoke: Invoke, weather: Path):
    done = invoke("tools", "list", "--json", HEADRACE_TOOLS=str(weather))
    known = {item["name"]: item for item in json.loads(done.stdout)}
    assert known["weather/today"] == {
        "name": "weather/today",
        "provider_type": "api",
        "description": "Today's weather",
        "parameters": [],
        "missing": "The API 'weather' needs a key: set WEATHER_API_KEY.",
    }
    url, *_ = known["webscraper/webscraper"]["parameters"]
    assert (url["name"], url["required"], url["form"]) == ("url", True, "llm")


def test_a_call(invoke: Invoke):
    done = invoke("tools", "call", "time/weekday", "-p", "year=2026", "-p", "month=1", "-p", "day=5")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "text": "January 5, 2026 is Monday.",
        "files": [],
        "json": [{"data": []}],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["time/weekdya"], 2, "there is no tool 'time/weekdya'; did you mean time/weekday"),
        (["x"], 2, "there is no tool 'x'; `headrace tools list` lists them"),
        (["time/weekday", "-p", "year=2026"], 2, "'time/weekday' needs -p month=... -p day=..."),
        (
            ["time/current_time", "-p", "zone=UTC"],
            2,
            "-p zone: the parameters of 'time/current_time' are: format, timezone",
        ),
        (["audio/asr", "-p", "audio_file=x.mp3", "-p", "model=a#b"], 2, "x.mp3: a file is given as @PATH"),
        (["audio/asr", "-p", "audio_file=@gone.mp3", "-p", "model=a#b"], 2, "gone.mp3 cannot be read"),
        (
            ["time/localtime_to_timestamp", "-p", "localtime=noon"],
            1,
            "Failed to invoke tool time: time data 'noon' does not match format",
        ),
    ],
)
def test_a_call_that_cannot_be_made(invoke: Invoke, arguments: list[str], code: int, message: str):
    done = invoke("tools", "call", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr


def test_an_answer_that_is_nested_too_deeply(invoke: Invoke, tmp_path: Path):
    (tmp_path / "x.json").write_text('{"a":' * 900 + "1" + "}" * 900)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    with serving(server):
        (tmp_path / "deep.yaml").write_text(
            f"openapi: 3.0.0\nservers: [{{url: 'http://127.0.0.1:{server.server_port}'}}]\n"
            "paths: {/x.json: {get: {operationId: x}}}"
        )
        deep = str(tmp_path / "deep.yaml")
        done = invoke("tools", "call", "deep/x", HEADRACE_TOOLS=deep, HEADRACE_EGRESS_ALLOW="127.0.0.1")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nested more than 250 levels deep" in done.stderr


def test_the_tool_of_an_mcp_server_starts_no_other_server(invoke: Invoke, tmp_path: Path):
    clock = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}
    mark = tmp_path / "mark"
    other = {"command": sys.executable, "args": ["-c", f"open({str(mark)!r}, 'w')"]}
    servers = tmp_path / "mcp.json"
    servers.write_text(json.dumps({"mcpServers": {"time": clock, "other": other}}))
    environ = {"HEADRACE_MCP_SERVERS": str(servers)}
    arguments = ("-p", "time=12:00", "-p", "source_timezone=UTC", "-p", "target_timezone=Asia/Tokyo")
    done = invoke("tools", "call", "time/convert_time", *arguments, **environ)
    assert json.loads(done.stdout)["target"]["timezone"] == "Asia/Tokyo"
    assert not mark.exists()
    done = invoke("tools", "call", "time/weekday", "-p", "year=2026", "-p", "month=1", "-p", "day=5", **environ)
    assert json.loads(done.stdout)["text"] == "January 5, 2026 is Monday."  # a tool of Dify's of the same provider name
    done = invoke("tools", "call", "other/x", **environ)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: Failed to connect to MCP server 'other': ")


def test_a_file_is_given_by_its_path(invoke: Invoke, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not audio")
    done = invoke("tools", "call", "audio/asr", "-p", "audio_file=@notes.txt", "-p", "model=openai#whisper-1")
    assert json.loads(done.stdout)["text"] == "not a valid audio file"


def test_descriptions_that_cannot_be_read_are_named(invoke: Invoke, tmp_path: Path):
    (tmp_path / "broken.yaml").write_text("openapi: 3.0.0")
    done = invoke("tools", "list", HEADRACE_TOOLS=str(tmp_path / "broken.yaml"))
    assert done.exit_code == 1
    assert "broken.yaml is not an OpenAPI or Swagger description" in done.stderr


def test_lint_names_once_what_a_tool_lacks(invoke: Invoke, tmp_path: Path, weather: Path):
    identifier = "langgenius/google:0.0.9@0123456789abcdef0123456789abcdef"
    file = flow(
        tmp_path / "f.yml",
        tool("a", "time", "current_time"),
        tool("b", "langgenius/google/google", "google_search", plugin_unique_identifier=identifier),
        tool("c", "langgenius/google/google", "google_search", plugin_unique_identifier=identifier),
        tool("d", "weather", "today", "api"),
        tool("e", "weather", "today", "api"),
        tool("f", "stocks", "price", "api"),
        tool("g", "builtin", "calculator"),
    )
    done = invoke("lint", file, HEADRACE_TOOLS=str(weather))
    assert done.exit_code == 1
    messages = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert messages == [
        f"node 'Node b': The plugin {identifier} is needed: run `headrace plugins add {identifier}`. "
        "(also for 'Node c')",
        "node 'Node d': The API 'weather' needs a key: set WEATHER_API_KEY. (also for 'Node e')",
        "node 'Node f': The description of the API 'stocks' is needed: put its OpenAPI or Swagger file into the folder "
        "of HEADRACE_TOOLS, as stocks.yaml or stocks.json.",
        "node 'Node g': Dify has no tool provider 'builtin': the tool 'calculator' does not exist.",
    ]


def test_tools_of_plugins(invoke: Invoke, tmp_path: Path):
    install(tmp_path)
    environment = {"HEADRACE_PLUGINS": str(tmp_path / "plugins"), "FAKE_API_KEY": "of-the-plugin"}
    listed = invoke("tools", "list", **environment)
    assert ["tests/fake/fake/act", "plugin", "do", "files"] in [line.split() for line in listed.stdout.splitlines()]
    (tmp_path / "notes.txt").write_text("what a plugin fetches")
    call = ("tools", "call", "tests/fake/fake/act")
    done = invoke(*call, "-p", "do=fetch", "-p", "files=@notes.txt", **environment)
    assert done.exit_code == 0, done.stderr
    assert json.loads(json.loads(done.stdout)["text"])["size"] == len("what a plugin fetches")
    failed = invoke(*call, "-p", "do=crash", **environment)
    assert failed.exit_code == 1
    assert "Failed to invoke tool tests/fake/fake: The plugin tests/fake ended with exit code 3" in failed.stderr
    unset = invoke(*call, HEADRACE_PLUGINS=str(tmp_path / "plugins"))
    assert unset.exit_code == 1
    assert "FAKE_API_KEY" in unset.stderr


def test_lint_knows_the_tools_of_installed_plugins(invoke: Invoke, tmp_path: Path):
    install(tmp_path)
    file = flow(tmp_path / "f.yml", tool("a", "tests/fake/fake", "act"), tool("b", "tests/fake/fake", "dance"))
    done = invoke("lint", file, HEADRACE_PLUGINS=str(tmp_path / "plugins"))
    assert "node 'Node a': The plugin's provider 'fake' needs credentials: set FAKE_API_KEY." in done.stdout
    assert "has no tool 'dance'; its tools are: act, dynamic." in done.stdout
