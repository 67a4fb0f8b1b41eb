"""A process that accepts runs and one that drives them."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue

import pytest

from headrace.engine.attempts import MAX_RECOVERIES, TOO_MANY_RECOVERIES
from tests import forking
from tests.server.gated import FLOW, Client, Peer
from tests.server.process import Serve


@contextmanager
def working(folder: pathlib.Path, environ: Mapping[str, str]) -> Generator[tuple[subprocess.Popen[str], str]]:
    """(`headrace worker`, the URL of its probes). It is killed at the end, unless it has ended."""
    ready = folder / "worker.json"
    ready.unlink(missing_ok=True)
    command = ["worker", "--data", str(folder / "data"), "--port", "0", "--ready-file", str(ready)]
    process = forking.start(command, env={**os.environ, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        said = ""
        while not ready.exists():
            line = process.stderr.readline()
            said += line
            assert line, said
        yield process, json.loads(ready.read_text())["url"]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(60)
        process.stderr.close()


@pytest.fixture
def environ(url: str, peer: Peer) -> dict[str, str]:
    return {"HEADRACE_DATABASE_URL": url, "HEADRACE_EGRESS_ALLOW": peer.address, "HEADRACE_DRAIN_SECONDS": "1"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return f"sqlite:///{tmp_path}/headrace.db"


def begin(api: Serve, name: str) -> str:
    path = f"/api/v1/workflows/{api.apps['flow']['app_id']}/run"
    with Client(api).stream("POST", path, {"inputs": {"q": name}, "user": "u"}) as answer:
        body = json.loads(answer.read())
        assert answer.status == 202, body
    return body["workflow_run_id"]


def test_one_process_accepts_runs_and_others_drive_them(
    tmp_path: pathlib.Path, peer: Peer, environ: dict[str, str]
) -> None:
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    with Serve(tmp_path, [flow], environ, ["--no-worker"]) as api:
        early = begin(api, "early")  # before there is a worker
        with working(tmp_path, environ) as (worker, probes):
            assert peer.waiting.acquire(timeout=60)
            for path in ("/healthz", "/readyz"):
                with urllib.request.urlopen(probes + path, timeout=60) as answer:
                    assert answer.status == 200
            worker.send_signal(signal.SIGTERM)  # the run does not end while it drains
            assert worker.wait(60) == 0
        with working(tmp_path, environ):
            assert peer.waiting.acquire(timeout=60)
            api.kill()
            peer.gate.set()
            with api:
                ended = Client(api).get(f"/api/v1/workflow-runs/{early}?wait=60")
                assert (ended["status"], ended["outputs"]["two"]) == ("succeeded", "/second/early")
                body = {"inputs": {"q": "blocking"}, "user": "u", "response_mode": "blocking"}
                with Client(api).stream("POST", "/v1/workflows/run", body, Accept="application/json") as answer:
                    blocking = json.loads(answer.read())
                assert blocking["data"]["outputs"]["two"] == "/second/blocking"
    calls = [path for path, _ in peer.calls]
    assert sorted(calls) == ["/first/blocking", "/first/early", "/second/blocking", "/second/early", "/second/early"]
    assert len({key for path, key in peer.calls if path == "/second/early"}) == 1


def test_a_run_that_kills_its_worker_again_and_again_is_ended(
    tmp_path: pathlib.Path, peer: Peer, environ: dict[str, str]
) -> None:
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    victims = SimpleQueue[subprocess.Popen[str]]()
    peer.on_call = lambda: victims.get(timeout=60).kill()
    with Serve(tmp_path, [flow], environ, ["--no-worker"]) as api:
        run = begin(api, "deadly")
        for _ in range(1 + MAX_RECOVERIES):
            with working(tmp_path, environ) as (worker, _):
                victims.put(worker)
                assert worker.wait(60) == -signal.SIGKILL
        with working(tmp_path, environ):
            ended = Client(api).get(f"/api/v1/workflow-runs/{run}?wait=60")
    assert (ended["status"], ended["error"]) == ("failed", TOO_MANY_RECOVERIES)
    assert len(peer.calls) == 1 + MAX_RECOVERIES
