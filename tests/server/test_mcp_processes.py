"""Calls over MCP that concern a run in another process: two processes share a database, and keep no sessions."""

from __future__ import annotations

import http.client
import json
import pathlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.background import serving
from tests.server.gated import FLOW, Client, Peer
from tests.server.process import Serve

CALL = {"name": "waits", "arguments": {"q": "x"}, "_meta": {"progressToken": "p"}}


def message(method: str, id_: int | None = None, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, **({} if id_ is None else {"id": id_})}


class Two:
    """Two processes."""

    def __init__(self, folder: pathlib.Path, peer: Peer, stack: ExitStack) -> None:
        self.peer = peer
        flow = folder / "flow.yml"
        flow.write_text(FLOW.format(url=f"http://{peer.address}"))
        environ = {"HEADRACE_EGRESS_ALLOW": peer.address}
        self.first, self.second = (stack.enter_context(Serve(folder, [flow], environ)) for _ in range(2))
        self.session: dict[str, str] = {}

    def begin(self) -> None:
        """Begins a session at one of them; the gate that runs wait for is closed."""
        self.peer.gate.clear()
        with self.post(self.first, message("initialize", 0, protocolVersion="2025-11-25"), {}) as response:
            session = response.headers["Mcp-Session-Id"]
        self.session = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}

    def post(self, serve: Serve, body: Any, headers: dict[str, str] | None = None) -> Any:
        sent = {"Accept": "application/json, text/event-stream", **(self.session if headers is None else headers)}
        return Client(serve).stream("POST", "/mcp", body, **sent)

    def resumed(self, serve: Serve, last: str) -> Any:
        return Client(serve).stream(
            "GET", "/mcp", Accept="text/event-stream", **{"Last-Event-ID": last}, **self.session
        )


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    peer = Peer()
    with serving(peer), ExitStack() as stack:
        yield Two(tmp_path_factory.mktemp("mcp"), peer, stack)
        peer.gate.set()


@pytest.fixture
def two(processes: Two) -> Two:
    processes.begin()
    return processes


def events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """(id, message) of the events as they come, without empty ones."""
    id_ = ""
    for line in response:
        name, _, value = line.decode().strip().partition(": ")
        if name == "id":
            id_ = value
        elif name == "data":
            yield id_, json.loads(value)


def until_second(response: http.client.HTTPResponse) -> str:
    """Reads until the node that waits for the gate has started; the id of that event."""
    assert response.status == 200
    return next(id_ for id_, event in events(response) if event["params"]["message"] == "Second")


def test_a_response_that_was_cut_off_is_resumed_at_the_other_process(two: Two) -> None:
    with two.post(two.first, message("tools/call", 7, **CALL)) as response:
        last = until_second(response)
    with two.post(two.second, message("tools/call", 7, **CALL)) as response:
        assert response.status == 400  # the request is known there, too
    with two.resumed(two.second, last) as response:
        two.peer.gate.set()
        (_, progress), (_, result) = events(response)
    assert progress["params"] == {"progressToken": "p", "progress": 4, "message": "End"}
    assert result["id"] == 7
    assert result["result"]["structuredContent"] == {"one": "/first/x", "two": "/second/x"}
    with two.resumed(two.first, last) as response:
        assert [event for _, event in events(response)][-1] == result


def test_a_call_is_cancelled_at_the_other_process(two: Two) -> None:
    with two.post(two.first, message("tools/call", 7, **CALL)) as response:
        until_second(response)
        with two.post(two.second, message("notifications/cancelled", requestId=7)) as accepted:
            assert accepted.status == 202
        (_, stopped) = list(events(response))[-1]
    assert stopped["result"]["content"] == [{"type": "text", "text": "The run was stopped."}]
    assert not two.peer.gate.is_set()


def test_the_run_of_a_client_that_leaves_a_process_is_stopped_without_sessions(two: Two) -> None:
    meta = {
        **CALL["_meta"],
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "waits"}
    with two.post(two.first, message("tools/call", 1, **{**CALL, "_meta": meta}), headers) as response:
        next(event for _, event in events(response) if event["params"]["message"] == "Second")
    run = Client(two.second).get("/v1/workflows/logs")["data"][0]["workflow_run"]["id"]
    waited = Client(two.second).get(f"/api/v1/workflow-runs/{run}?wait=25")
    assert waited["status"] == "stopped"
    assert not two.peer.gate.is_set()
