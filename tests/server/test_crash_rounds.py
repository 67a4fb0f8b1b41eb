"""A serving process dies in the middle of rounds; the next one goes on with those under way, and with no others."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from tests.engine.nests import iteration, node, source
from tests.server.gated import FINISHED, Client, Peer, read_until
from tests.server.process import Serve

ITEMS = ["a", "b", "c", "d", "e"]


def calls(url: str, **data: Any) -> str:
    """For each item a call that is answered at once, and one that waits for the gate."""
    asks = {"method": "post", "params": "", "authorization": {"type": "no-auth"}, "body": {"type": "none", "data": []}}
    return source(
        [
            iteration("it", ["start", "items", "list"], ["second", "body"], **data),
            node("first", "http-request", "it", url=f"{url}/first/{{{{#it.item#}}}}", headers="", **asks),
            node(
                "second",
                "http-request",
                "it",
                url=f"{url}/second/{{{{#it.item#}}}}",
                headers="Idempotency-Key:",
                **asks,
            ),
        ],
        "start>it it-start>first first>second it>end",
        {"out": ["it", "output"]},
    )


@pytest.mark.parametrize("at_once", [1, 3])
def test_killed_in_the_middle_of_rounds(tmp_path: pathlib.Path, peer: Peer, at_once: int):
    flow = tmp_path / "flow.yml"
    flow.write_text(calls(f"http://{peer.address}", is_parallel=at_once > 1, parallel_nums=at_once))
    environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
    fields = {"inputs": {"items": {"list": ITEMS}}, "user": "u", "response_mode": "streaming"}
    with Serve(tmp_path, [flow], environ) as serve:
        with Client(serve).stream("POST", "/v1/workflows/run", fields) as stream:
            before, last = read_until(stream, ("node_started", "second"))
            for _ in range(at_once):
                assert peer.waiting.acquire(timeout=60)
        serve.kill()
    cut_off = set(peer.calls)
    peer.gate.set()
    run = before[0]["workflow_run_id"]
    with (
        Serve(tmp_path, [flow], environ) as serve,
        Client(serve).stream("GET", f"/v1/workflow/{run}/events?user=u", **{"Last-Event-ID": last}) as stream,
    ):
        after, _ = read_until(stream, FINISHED)
    events = [event for event in before + after if event["event"] != "text_chunk"]
    assert events[-1]["data"]["outputs"] == {"out": [f"/second/{item}" for item in ITEMS]}
    names = [event["event"] for event in events]
    assert [names.count(f"iteration_{name}") for name in ("started", "next", "completed")] == [1, len(ITEMS), 1]
    ends = [event["data"] for event in events if event["event"] == "node_finished"]
    done = [(end["node_id"], end["execution_metadata"]["iteration_index"]) for end in ends if end["iteration_id"]]
    assert sorted(done) == [(name, index) for name in ("first", "second") for index in range(len(ITEMS))]
    firsts = [path for path, _ in peer.calls if path.startswith("/first")]
    assert sorted(firsts) == [f"/first/{item}" for item in ITEMS], "a node that had ended is not run again"
    keys = {call for call in peer.calls if call[0].startswith("/second")}
    assert len(keys) == len(ITEMS), "a call made again brings the same key"
    again = [call for call in cut_off if call[0].startswith("/second")]
    assert len(again) == at_once
    assert all(peer.calls.count(call) == 2 for call in again)
