"""The servers, started in the way of the Node tests."""

from __future__ import annotations

import json
import pathlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.background import child
from tests.sdk_contract.dify_server import cases

_ROOT = pathlib.Path(__file__).parent.parent.parent


@contextmanager
def _process(module: str, ready: pathlib.Path, *more: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", f"tests.sdk_contract.{module}", "--ready-file", str(ready), *more]
    with child(command, cwd=_ROOT) as process:
        until = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, "the server ended before it was ready"
            assert time.monotonic() < until
            time.sleep(0.01)
        yield json.loads(ready.read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_faults_before_dify(tmp_path: pathlib.Path) -> None:
    with (
        _process("dify_server", tmp_path / "dify.json") as dify,
        _process("fault_server", tmp_path / "fault.json", "--upstream", dify["url"]) as fault,
        httpx.Client(base_url=fault["url"], headers={"Authorization": f"Bearer {dify['keys']['02_template']}"}) as http,
    ):
        assert set(dify["keys"]) == {*cases(), "knowledge"}
        assert http.post("/_script", json=[{"status": 503, "body": {"code": "busy"}}]).json() == {"steps": 1}
        assert [http.get("/v1/info").status_code for _ in range(2)] == [503, 200]
        assert [request["path"] for request in http.get("/_requests").json()] == ["/v1/info", "/v1/info"]
        assert http.get("/api/v1/nothing").headers["content-type"].startswith("text/html")
