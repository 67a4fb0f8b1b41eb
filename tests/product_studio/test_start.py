from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
import pytest
from product_studio.settings import FOLDER, SettingsError, load

from tests.cli.flows import environ
from tests.product_studio.studio import NAME, STREAM, Studio, told

NAMES = ("DIFY_WORKFLOW_API_ENDPOINT", "DIFY_CREATE_PRODUCT_DETAIL_API_KEY", "DIFY_USER_ID", "LOG_LEVEL", "ENVIRONMENT")
NEEDED = {"DIFY_WORKFLOW_API_ENDPOINT": "http://127.0.0.1:9/v1", "DIFY_CREATE_PRODUCT_DETAIL_API_KEY": "app-hidden"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def start(folder: Path, **told: str) -> subprocess.Popen[str]:
    """The back end as users start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "product_studio"],
        cwd=folder,
        env=environ(**{"PYTHONPATH": f"{FOLDER}", "STUDIO_PORT": "0", "STUDIO_DATABASE": str(folder / "p.db")} | told),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_setting_stops_the_start_with_its_name(tmp_path: Path, name: str):
    process = start(tmp_path, **{**NEEDED, name: ""})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == f"Product Studio cannot start: {name} is not set. See .env.example.\n"


@pytest.mark.parametrize("port", ["taken", "99999"])
def test_a_port_that_cannot_be_had_is_told_of(tmp_path: Path, port: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1]) if port == "taken" else port
        process = start(tmp_path, **NEEDED, STUDIO_PORT=number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("Product Studio cannot ")
    assert "STUDIO_PORT" in err
    assert err.count("\n") == 1


def test_a_wrong_setting_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIFY_WORKFLOW_API_ENDPOINT", "ftp://user:password@host")
    monkeypatch.setenv("DIFY_CREATE_PRODUCT_DETAIL_API_KEY", "app-hidden")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SettingsError) as caught:
        load()
    received = str(caught.value)
    assert "DIFY_WORKFLOW_API_ENDPOINT is wrong: it must begin with http:// or https://" in received
    assert "LOG_LEVEL is wrong" in received
    assert "password" not in received
    assert "app-hidden" not in received


def test_settings_are_read_from_a_file_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = [f"{name}={value}" for name, value in NEEDED.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "DIFY_USER_ID=file", "LOG_LEVEL=info", "OTHER=1"]), "utf-8")
    assert load().dify_user_id == "file"
    assert load().log_level == "INFO"
    monkeypatch.setenv("DIFY_USER_ID", "environment")
    assert load().dify_user_id == "environment"
    monkeypatch.setenv("DIFY_USER_ID", "")
    (tmp_path / ".env").write_text("\n".join(lines), "utf-8")
    assert load().dify_user_id == "local-dev-test"
    assert "app-hidden" not in repr(load())


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/v1/workflows/run"])
def test_the_endpoint_may_be_the_whole_address(monkeypatch: pytest.MonkeyPatch, end: str):
    monkeypatch.setenv("DIFY_WORKFLOW_API_ENDPOINT", f"https://dify.example{end}")
    monkeypatch.setenv("DIFY_CREATE_PRODUCT_DETAIL_API_KEY", "app-hidden")
    assert load().dify_workflow_api_endpoint in ("https://dify.example", "https://dify.example/v1")


def test_it_says_where_it_is_and_logs_json_lines_without_the_key(tmp_path: Path):
    process = start(tmp_path, **NEEDED, ENVIRONMENT="testing")
    assert process.stdout is not None
    received = process.stdout.readline()
    address = received.removeprefix("Product Studio is at ").strip()
    body = json.dumps({"product_name": "宜蘭礁溪五日遊"}).encode()
    request = urllib.request.Request(
        f"{address}/api/Dify/CreateProductDetail/stream", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert b'"reason":"unreachable"' in answer.read()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in err.splitlines()]
    assert {(line["application"], line["environment"]) for line in lines} == {("product-studio", "testing")}
    (asked,) = [line for line in lines if line["message"] == "request"]
    assert (asked["method"], asked["status"], asked["level"]) == ("POST", 200, "INFO")
    (failed,) = [line for line in lines if line["level"] == "ERROR"]
    assert failed["reason"] == "unreachable"
    assert "app-hidden" not in err


async def test_a_back_end_that_is_told_to_end_first_stops_its_runs(tmp_path: Path, studios: dict[str, Studio]):
    slow = studios["slow"]
    process = start(tmp_path, DIFY_WORKFLOW_API_ENDPOINT=slow.endpoint, DIFY_CREATE_PRODUCT_DETAIL_API_KEY=slow.key)
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("Product Studio is at ").strip()
    asked = {"product_name": NAME}
    async with httpx.AsyncClient(timeout=60) as client, client.stream("POST", address + STREAM, json=asked) as answer:
        events = told(answer)  # kept: without it the connection would be closed
        first = await anext(events)
        process.terminate()
        await asyncio.to_thread(process.communicate, timeout=60)
    assert await slow.standing(first["run_id"]) == "stopped"


def test_the_lock_of_the_page_names_no_registry():
    lock = json.loads(FOLDER.joinpath("web", "package-lock.json").read_text("utf-8"))
    packages = {name: received for name, received in lock["packages"].items() if name and not received.get("inBundle")}
    assert len(packages) > 50
    assert [name for name, received in packages.items() if "resolved" in received] == []
    assert [name for name, received in packages.items() if "integrity" not in received] == []
