"""`headrace serve`, and `apps` and `keys` on the data folder of a server that runs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.unknown_settings import unknown_settings
from headrace.settings import Settings
from tests.cli.conftest import Invoke
from tests.cli.flows import Server, code, field, flow, headrace, llm


def echo(path: Path, **more: str) -> Path:
    return flow(path, variables=[field("query", required=True)], **more)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(echo(tmp_path / "echo.yml"), cwd=tmp_path)
    yield server
    if server.process.poll() is None:
        server.stop()


def test_it_says_what_is_served_and_how_to_call_it(server: Server):
    (app,) = server.ready["apps"]
    assert (app["name"], app["mode"]) == ("echo", "workflow")
    assert server.call(app["key"], {"query": "hi"})[1]["data"]["outputs"] == {"query": "hi"}
    assert server.stop() == 0
    line = next(line for line in server.said.splitlines() if "curl" in line)
    command = shlex.split(line.strip().removeprefix("call"))
    assert command[:3] == ["curl", "-N", f"{server.url}/v1/workflows/run"]
    assert f"Authorization: Bearer {app['key']}" in command
    assert json.loads(command[-1])["inputs"] == {"query": "query"}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("HEADRACE_EGRES_ALLOW", "HEADRACE_EGRESS_ALLOW"),
        ("HEADRACE_MAXBODY", "HEADRACE_MAX_BODY"),
        ("headrace_ports", "HEADRACE_PORT"),
        ("HEADRACE_METRICS_URL_OF_OURS", ""),
        ("HEADRACE_TEST_TLS", ""),
        ("HEADRACE_PORT", None),
        ("headrace_port", None),
        ("HEADRACE_", None),
        *(
            (f"HEADRACE_{name}", None)
            for name in (
                "URL",
                "API_KEY",
                "CHAT_API_KEY",
                "WORKSPACE_KEY",
                "CALLBACK_URL",
                "COMPLETE",
                "WEBHOOK_SECRET_1",
            )
        ),
        ("PORT", None),
    ],
)
def test_a_variable_that_is_not_a_setting(name: str, nearest: str | None):
    assert unknown_settings(["PATH", name]) == ({} if nearest is None else {name: nearest})


def test_an_empty_variable_is_an_unset_path(monkeypatch: pytest.MonkeyPatch):
    paths = [name for name, field in Settings.model_fields.items() if "Path" in str(field.annotation)]
    unset = Settings().model_dump(include={*paths})
    for name in paths:
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", "")
    assert {"data", "tools", "credentials"} <= {*paths}
    assert Settings().model_dump(include={*paths}) == unset


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DRAIN_SECONDS", "inf"),
        ("MAX_SECONDS", "nan"),
        ("FILE_URL_SECONDS", "inf"),
        ("FILE_URL_SECONDS", "-1"),
        ("SANDBOX_URL", "nonsense"),
        ("MARKETPLACE_URL", "marketplace.example"),
        ("OTEL_ENDPOINT", "collector:4318"),
        ("PUBLIC_URL", "http://host:port"),
        ("SUMMARY_MODEL", "nonsense"),
        ("MODEL_CONCURRENCY", "openai=0"),
        ("MODEL_CONCURRENCY", "openai=-1"),
        ("MODEL_CONCURRENCY", "openai =1,openai=2"),
    ],
)
def test_a_value_that_is_not_valid_is_one_line(name: str, value: str, invoke: Invoke, tmp_path: Path):
    done = invoke("serve", tmp_path / "flow.yml", **{f"HEADRACE_{name}": value})
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: HEADRACE_{name}: ")
    assert done.stderr.endswith(f"(it is {value!r})\n") or "," in value
    assert done.stderr.count("\n") == 1


def test_a_name_that_is_none_of_a_host_is_one_line(invoke: Invoke, tmp_path: Path):
    done = invoke("serve", echo(tmp_path / "echo.yml"), "--host", "no..host", "--data", tmp_path)
    assert (done.exit_code, done.stderr) == (1, "Error: cannot listen on no..host:8040: it is not the name of a host\n")


def test_variables_that_are_not_settings_are_named(tmp_path: Path):
    unknown = {"HEADRACE_DRAIN_SECOND": "1", "HEADRACE_COLOUR": "red", "HEADRACE_URL": "http://x"}
    server = Server(echo(tmp_path / "echo.yml"), cwd=tmp_path, **unknown)
    assert server.stop() == 0
    warnings = "\n".join(line for line in server.said.splitlines() if "[warning" in line)
    assert "HEADRACE_DRAIN_SECOND is not a setting and is ignored: did you mean HEADRACE_DRAIN_SECONDS?" in warnings
    assert "HEADRACE_COLOUR is not a setting and is ignored  [" in warnings
    assert len(warnings.splitlines()) == 2


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(server: Server, how: signal.Signals):
    assert server.stop(how) == 0
    assert "Traceback" not in server.said


def test_nobody_else_reads_what_it_keeps(tmp_path: Path, server: Server):
    assert (tmp_path / ".headrace" / "headrace.db").exists()
    assert (tmp_path / ".headrace").stat().st_mode & 0o077 == 0


def test_served_again_it_keeps_its_apps_and_keys(tmp_path: Path, server: Server):
    before = server.ready["apps"]
    server.stop()
    again = Server(cwd=tmp_path)  # no file: what the data folder has
    try:
        assert again.ready["apps"] == before
        assert again.call(before[0]["key"], {"query": "hi"})[0] == 200
    finally:
        again.stop()


def test_a_workflow_that_a_trigger_starts_can_be_called(tmp_path: Path):
    file = tmp_path / "nightly.yml"
    text = flow(file, variables=[field("query")]).read_text().replace("type: start\n", "type: trigger-schedule\n", 1)
    file.write_text(text)
    server = Server(file, cwd=tmp_path)
    try:
        status, response = server.call(server.ready["apps"][0]["key"], {})
        assert (status, response["data"]["status"]) == (200, "succeeded")
    finally:
        assert server.stop() == 0


def test_what_a_workflow_does_not_have_is_reported_at_the_start(tmp_path: Path):
    file = flow(tmp_path / "ask.yml", llm("deepseek"), variables=[field("query")], outputs={"t": ("llm", "text")})
    server = Server(file, file, cwd=tmp_path)
    assert server.stop() == 0
    assert "note  node 'Write': " in server.said
    assert "DEEPSEEK_API_KEY" in server.said
    assert f"{file} is given more than once; it is used once." in server.said


@pytest.mark.skipif(os.name != "posix", reason="needs the modes of POSIX")
def test_the_ready_file_has_keys_and_is_its_owners_only(server: Server, tmp_path: Path):
    ready = tmp_path / "ready.json"
    (entry,) = json.loads(ready.read_text("utf-8"))["apps"]
    assert entry["key"].startswith("app-")
    assert stat.S_IMODE(ready.stat().st_mode) == 0o600


def test_every_file_that_cannot_be_served_is_named(tmp_path: Path, invoke: Invoke):
    (tmp_path / "words.yml").write_text("just words")
    files = [echo(tmp_path / "echo.yml"), tmp_path / "words.yml", tmp_path / "gone.yml"]
    ready = tmp_path / "ready.json"
    ready.write_text("of a server that is gone")
    done = invoke("serve", *files, "--port", "0", "--ready-file", ready)
    assert (done.exit_code, done.stdout, ready.exists()) == (2, "", False)
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert "words.yml" in lines[0]
    assert "gone.yml: cannot be read: No such file or directory" in lines[1]


def test_a_port_that_is_taken(tmp_path: Path, invoke: Invoke):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = invoke("serve", "--port", str(port))
    assert done.exit_code == 1
    in_use = f"cannot listen on 127.0.0.1:{port}: the port is in use (--port 0 picks a free one)"
    assert done.stderr == f"Error: {in_use}\n"


@pytest.mark.parametrize(
    "arguments", [["--port", "x"], ["--port", "70000"], ["--ready-file", "no/such/folder/r.json"], ["--what"]]
)
def test_bad_usage(tmp_path: Path, invoke: Invoke, arguments: list[str]):
    done = invoke("serve", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")


def test_keys_are_made_and_revoked_while_it_serves(tmp_path: Path, invoke: Invoke, server: Server):
    created = headrace("keys", "create", "echo", cwd=tmp_path)
    key = created.stdout.strip()
    assert key.startswith("app-")
    assert server.call(key, {"query": "hi"})[0] == 200

    listed = json.loads(invoke("keys", "list", "echo.yml", "--json").stdout)
    assert [key["revoked_at"] for key in listed] == [None, None]
    assert key not in json.dumps(listed)  # they cannot be read back

    assert invoke("keys", "revoke", key).exit_code == 0
    deadline = time.monotonic() + 60
    while server.call(key, {"query": "hi"})[0] == 200:
        assert time.monotonic() < deadline, "a revoked key still opens the app"
    status, error = server.call(key, {"query": "hi"})
    assert (status, error["code"]) == (401, "unauthorized")
    assert server.call(server.ready["apps"][0]["key"], {"query": "hi"})[0] == 200

    again = invoke("keys", "revoke", key)
    assert (again.exit_code, again.stderr) == (2, "Error: that key is revoked already\n")
    assert "revoked" in invoke("keys", "list").stdout


def test_apps_are_added_changed_and_removed_while_it_serves(tmp_path: Path, invoke: Invoke, server: Server):
    file = flow(
        tmp_path / "more.yml",
        code("def main():\n    return {'y': 'one'}\n", y="string"),
        outputs={"y": ("code", "y")},
    )
    added = json.loads(invoke("apps", "add", file).stdout)
    assert server.call(added["key"], {})[1]["data"]["outputs"] == {"y": "one"}

    file.write_text(file.read_text().replace("'one'", "'two'"))
    changed = json.loads(invoke("apps", "add", file).stdout)
    assert (changed["app_id"], changed["key"], changed["version"]) == (added["app_id"], added["key"], 2)
    deadline = time.monotonic() + 60
    while server.call(added["key"], {})[1]["data"]["outputs"] != {"y": "two"}:
        assert time.monotonic() < deadline, "the new version is not served"
    old = server.call(added["key"], {}, version=added["workflow_id"])[1]
    assert old["data"]["outputs"] == {"y": "one"}
    versions = json.loads(invoke("apps", "versions", "more", "--json").stdout)
    assert [(version["number"], version["current"]) for version in versions] == [(2, True), (1, False)]

    assert invoke("apps", "remove", added["app_id"]).exit_code == 0
    deadline = time.monotonic() + 60
    while server.call(added["key"], {})[0] == 200:
        assert time.monotonic() < deadline, "a removed app still answers"
    listed = json.loads(invoke("apps", "list", "--json").stdout)
    assert [app["name"] for app in listed] == ["echo"]


def test_an_app_that_cannot_be_distinguished_from_another(tmp_path: Path, invoke: Invoke):
    for name in ("a.yml", "b.yml"):
        assert invoke("apps", "add", echo(tmp_path / name, name="twin")).exit_code == 0
    twins = invoke("keys", "create", "twin")
    assert twins.exit_code == 2
    assert twins.stderr.startswith("Error: 'twin' names 2 apps; choose one by its id: ")
    assert invoke("keys", "create", "b.yml").exit_code == 0
    none = invoke("apps", "versions", "nobody")
    assert (none.exit_code, "no app has the id, file or name 'nobody'" in none.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["apps", "list"], ["keys", "list"], ["keys", "revoke", "app-x"]])
def test_a_mistyped_data_folder_is_not_made(tmp_path: Path, invoke: Invoke, arguments: list[str]):
    done = invoke(*arguments, "--data", "typo")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: typo: no such folder.")
    assert not (tmp_path / "typo").exists()
