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
from product_studio.app import create_app
from product_studio.settings import FOLDER, Settings, SettingsError, load

from tests.cli.flows import environ
from tests.product_studio.studio import NAME, STOP, STREAM, Studio, events, followed

NAMES = ("DIFY_WORKFLOW_API_ENDPOINT", "DIFY_CREATE_PRODUCT_DETAIL_API_KEY", "DIFY_USER_ID", "LOG_LEVEL", "ENVIRONMENT")
NEEDED = {"DIFY_WORKFLOW_API_ENDPOINT": "http://127.0.0.1:9/v1", "DIFY_CREATE_PRODUCT_DETAIL_API_KEY": "app-hidden"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def start(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """The back end as users start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "product_studio"],
        cwd=folder,
        env=environ(
            **{"PYTHONPATH": f"{FOLDER}", "STUDIO_PORT": "0", "STUDIO_DATABASE": str(folder / "p.db")} | variables
        ),
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
    (request_line,) = [line for line in lines if line["message"] == "request"]
    assert (request_line["method"], request_line["status"], request_line["level"]) == ("POST", 200, "INFO")
    (failed,) = [line for line in lines if line["level"] == "ERROR"]
    assert failed["reason"] == "unreachable"
    assert "app-hidden" not in err


async def test_a_run_outlives_the_back_end(tmp_path: Path, studios: dict[str, Studio]):
    slow = studios["slow"]
    process = start(tmp_path, DIFY_WORKFLOW_API_ENDPOINT=slow.endpoint, DIFY_CREATE_PRODUCT_DETAIL_API_KEY=slow.key)
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("Product Studio is at ").strip()
    body = {"product_name": NAME}
    async with httpx.AsyncClient(timeout=60) as client, client.stream("POST", address + STREAM, json=body) as response:
        stream = events(response)  # kept: without it the connection would be closed
        first = await anext(stream)
        process.terminate()
        await asyncio.to_thread(process.communicate, timeout=60)
    assert await slow.status(first["run_id"], wait=0) == "running"
    async with slow.client() as client:
        await client.post(STOP, json={"task_id": first["task_id"]})
    assert (await followed(slow, first["run_id"]))[-1] == {"kind": "failed", "reason": "stopped"}


@pytest.mark.parametrize(
    ("hosts", "host", "status"),
    [
        ("", "localhost:8050", 404),
        ("", "[::1]:8050", 404),
        ("", "127.0.0.1", 404),
        ("", "evil.example", 400),
        ("", "", 400),
        ("shop.example; *.studio.example", "SHOP.example:443", 404),
        ("shop.example; *.studio.example", "a.studio.example", 404),
        ("shop.example; *.studio.example", "studio.example", 400),
        ("shop.example; *.studio.example", "localhost", 400),
        ("*", "evil.example", 404),
    ],
)
async def test_only_allowed_hosts_are_served(tmp_path: Path, hosts: str, host: str, status: int):
    settings = Settings.model_validate({**NEEDED, "AllowedHosts": hosts, "STUDIO_DATABASE": tmp_path / "p.db"})
    app = httpx.ASGITransport(create_app(settings))
    async with httpx.AsyncClient(transport=app, base_url="http://x") as client:
        response = await client.get("/api/nothing", headers={"Host": host})
    assert response.status_code == status
    assert "default-src 'self'" in response.headers["content-security-policy"]


def test_a_server_that_others_reach_allows_any_host_by_default():
    assert Settings.model_validate({**NEEDED, "studio_host": "0.0.0.0"}).hosts == {"*"}


def test_the_settings_of_the_tutorial_mean_the_same(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "DifyWorkFlowApiEndpoint": "https://dify.example/v1/workflows/run",
        "DifyCreateProductDetailApiKey": "app-hidden",
        "DifyUserId": "me",
        "AllowedHosts": "shop.example",
        "Logging__LogLevel__Default": "Information",
        "Logging__LogLevel__product_studio.service": "Trace",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.dify_workflow_api_endpoint == "https://dify.example/v1"
    assert settings.dify_create_product_detail_api_key.get_secret_value() == "app-hidden"
    assert (settings.dify_user_id, settings.hosts) == ("me", {"shop.example"})
    assert settings.log_levels == {"": "INFO", "httpx": "WARNING", "product_studio.service": "DEBUG"}
    monkeypatch.setenv("Logging__LogLevel__httpx", "Loud")
    with pytest.raises(SettingsError, match="LOGGING__LOGLEVEL__HTTPX is wrong: Input should be 'DEBUG'"):
        load()


def test_levels_by_namespace_reach_the_log(tmp_path: Path):
    levels = {"Logging__LogLevel__Default": "Error", "Logging__LogLevel__product_studio.security": "Information"}
    process = start(tmp_path, **NEEDED, **levels)
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("Product Studio is at ").strip()
    with urllib.request.urlopen(f"{address}/api/products", timeout=60) as response:
        assert response.status == 200
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert [json.loads(line)["logger"] for line in err.splitlines()] == ["product_studio.security"]


def test_the_lock_of_the_page_names_no_registry():
    lock = json.loads(FOLDER.joinpath("web", "package-lock.json").read_text("utf-8"))
    packages = {name: received for name, received in lock["packages"].items() if name and not received.get("inBundle")}
    assert len(packages) > 50
    assert [name for name, received in packages.items() if "resolved" in received] == []
    assert [name for name, received in packages.items() if "integrity" not in received] == []
