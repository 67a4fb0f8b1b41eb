"""Recorded answers of a real Dify, replayed against a served Headrace."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.conformance import compare, peers

RUNS = pathlib.Path(__file__).parent / "runs"
BY_HAND = {"22_stop_running"}
CASES = sorted(case.name for case in RUNS.iterdir() if case.name not in BY_HAND)


class Served:
    """A `headrace serve` of every recorded workflow, with the peers they talk to."""

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        self.url = url
        self.keys = keys


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    ready = folder / "ready.json"
    files = [str(RUNS / case / "dsl.yml") for case in [*CASES, *BY_HAND]]
    options = ["--host", "127.0.0.1", "--port", "0", "--data", str(folder / "data"), "--ready-file", str(ready)]
    environ = os.environ | {
        "OPENAI_API_COMPATIBLE_BASE_URL": "http://127.0.0.1:8901/v1",
        "OPENAI_API_COMPATIBLE_API_KEY": "none",
        "HEADRACE_EGRESS_ALLOW": "127.0.0.1:8900",
    }
    servers = peers.start()
    command = [sys.executable, "-m", "headrace", "serve", *files, *options]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environ, stdout=quiet, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        heard: list[str] = []
        for line in process.stderr:  # serve says something once it is ready, and ends its output where it cannot be
            heard.append(line)
            if ready.exists():
                break
        else:
            pytest.fail("headrace serve did not get ready:\n" + "".join(heard))
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        told = json.loads(ready.read_text())
        yield Served(told["url"], {pathlib.Path(app["file"]).parent.name: app["key"] for app in told["apps"]})
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        drain.join(5)
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("case", CASES)
def test_the_recorded_answer(served: Served, case: str):
    assert compare.replay(RUNS / case, served.url, served.keys[case]) is None
