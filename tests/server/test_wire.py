"""Two serving processes that a wire connects: what one drives, clients of the other receive by it."""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from tests.server.gated import FINISHED, FLOW, Client, Peer, read_until
from tests.server.process import Serve


@pytest.fixture(params=["postgresql", "sqlite and valkey"])
def two(request: pytest.FixtureRequest, tmp_path: pathlib.Path, peer: Peer) -> Iterator[list[Serve]]:
    environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
    if request.param == "postgresql":
        environ["HEADRACE_DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    else:
        environ["HEADRACE_WIRE_URL"] = request.getfixturevalue("valkey_server").url
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    with ExitStack() as stack:
        yield [stack.enter_context(Serve(tmp_path, [flow], environ)) for _ in range(2)]


def metric(serve: Serve, name: str) -> float:
    with urlopen(f"{serve.url}/metrics", timeout=60) as answer:
        match = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert match, f"{name} is not measured"
    return float(match[1])


def test_a_client_of_another_process_receives_what_a_run_does(two: list[Serve], peer: Peer) -> None:
    driving, other = two
    fields = {"inputs": {"q": "x"}, "user": "u", "response_mode": "streaming"}
    for attempt in range(20):
        peer.gate.clear()
        with Client(driving).stream("POST", "/v1/workflows/run", fields) as stream:
            events, _ = read_until(stream, ("node_started", "second"))
            run = events[0]["workflow_run_id"]
            with Client(other).stream("GET", f"/v1/workflow/{run}/events?user=u") as followed:
                time.sleep(0.1 * attempt)  # the process that drives the run may not know of it yet
                peer.gate.set()
                done = read_until(followed, FINISHED)[0][-1]["data"]
            assert done == read_until(stream, FINISHED)[0][-1]["data"]
        assert done["status"] == "succeeded"
        if metric(other, "headrace_wire_received_total"):
            break
    assert metric(other, "headrace_wire_received_total") > 0
    assert metric(driving, "headrace_wire_published_total") > 0
    assert [metric(serve, "headrace_wire_connected") for serve in two] == [1, 1]
    assert [metric(serve, "headrace_wire_ignored_total") for serve in two] == [0, 0]
