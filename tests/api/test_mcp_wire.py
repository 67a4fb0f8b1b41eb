"""The Model Context Protocol as it is on the wire: what the official client does not send, and what others may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from headrace.node import Context, Result
from headrace.ports import RunFilter
from tests.api.chats import chatflow
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
BOTH = "application/json, text/event-stream"


def message(method: str = "tools/list", id_: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


async def post(
    app: Client, body: Any, headers: Mapping[str, str] | None = None, **more: Any
) -> tuple[int, Any, Mapping[str, str]]:
    """(status, JSON, headers) of a response that is not a stream."""
    all_headers = {"Authorization": f"Bearer {app.key}", "Accept": BOTH, **(headers or {})}
    content = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with app.session.post(f"{app.url}/mcp", headers=all_headers, **content, **more) as response:
        raw = await response.read()
        return response.status, json.loads(raw) if raw else None, response.headers


def stateless(method: str, name: str | None = None) -> dict[str, str]:
    named = {} if name is None else {"Mcp-Name": name}
    return {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, **named}


async def begin(app: Client, version: str = "2025-11-25") -> dict[str, str]:
    """The headers of a session's requests."""
    body = message("initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "t", "version": "0"})
    status, answer, headers = await post(app, body)
    assert (status, answer["result"]["protocolVersion"]) == (200, version)
    return {"Mcp-Session-Id": headers["Mcp-Session-Id"], "MCP-Protocol-Version": version}


class Reading:
    """The events of a stream, as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str | None, Any]:
        """(id, message) of the next event; (None, None) at the end."""
        id_, data = None, None
        while line := (await self.response.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(":")
            if name == "id":
                id_ = value.strip()
            elif name == "data":
                data = value.strip()
            elif not line.strip() and data is not None:
                return id_, json.loads(data) if data else None
        return None, None

    async def rest(self) -> list[tuple[str | None, Any]]:
        events: list[tuple[str | None, Any]] = []
        while (event := await self.next()) != (None, None):
            events.append(event)
        return events


def call(app: Client, headers: Mapping[str, str], id_: Any = 7, **params: Any) -> Any:
    body = message("tools/call", id_, **{"name": "tiny", "_meta": {"progressToken": "p"}, **params})
    all_headers = {"Authorization": f"Bearer {app.key}", "Accept": BOTH, **headers}
    return app.session.post(f"{app.url}/mcp", headers=all_headers, json=body)


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (b"{", -32700),
        ([message()], -32700),
        ({"id": 1, "method": "tools/list"}, -32600),
        ({"jsonrpc": "2.0", "id": 1}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, -32600),
        ({"jsonrpc": "2.0", "id": None, "method": "tools/list"}, -32600),
        ({"jsonrpc": "2.0", "id": True, "method": "tools/list"}, -32600),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "tools/list"}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": []}, -32602),
    ],
)
async def test_malformed_messages_are_refused(server: Serving, body: Any, number: int) -> None:
    app = await server.add("flow.yml", workflow())
    status, answer, _ = await post(app, body, {"Content-Type": "application/json"})
    assert (status, answer["error"]["code"]) == (400, number)
    assert answer["id"] == (1 if isinstance(body, dict) and repr(body["id"]) == "1" else None)


async def test_the_headers_of_a_stateless_request_are_checked(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    listing, calling = message(_meta=META), message("tools/call", name="tiny", _meta=META)

    async def refusal(body: Any, headers: Mapping[str, str]) -> tuple[int, int]:
        status, answer, _ = await post(app, body, headers)
        return status, answer["error"]["code"]

    good = stateless("tools/list")
    assert (await post(app, listing, good))[0] == 200
    assert await refusal(listing, {**good, "MCP-Protocol-Version": "2025-11-25"}) == (400, -32020)
    assert await refusal(listing, {"Mcp-Method": "tools/list"}) == (400, -32020)
    assert await refusal(listing, {**good, "Mcp-Method": "tools/call"}) == (400, -32020)
    assert await refusal(listing, {"MCP-Protocol-Version": "2026-07-28"}) == (400, -32020)
    assert await refusal(message(), good) == (400, -32602)
    version_only = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    assert await refusal(message(_meta=version_only), good) == (400, -32602)
    for name in (None, "other", "=?base64?b3RoZXI=?=", "=?base64?%?="):
        assert await refusal(calling, stateless("tools/call", name)) == (400, -32020)
    headers = {"Authorization": f"Bearer {app.key}", "Accept": BOTH, **stateless("tools/call", "=?base64?dGlueQ==?=")}
    async with app.session.post(f"{app.url}/mcp", headers=headers, json=calling) as response:
        assert response.status == 200
        (event,) = await Reading(response).rest()
    assert event[0] is None  # nothing to resume from
    assert event[1]["result"]["resultType"] == "complete"


async def test_a_version_that_is_not_spoken_is_told_what_is(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    for meta in ({**META, "io.modelcontextprotocol/protocolVersion": "1900-01-01"}, {}):
        status, answer, _ = await post(app, message(_meta=meta), {"MCP-Protocol-Version": "1900-01-01"})
        assert (status, answer["id"], answer["error"]["code"]) == (400, 1, -32022)
        assert answer["error"]["data"]["requested"] == "1900-01-01"
        assert "2025-11-25" in answer["error"]["data"]["supported"]


async def test_a_client_that_begins_with_another_version_is_offered_ours(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    for version in ("2025-11-25", "2025-06-18", "2025-03-26"):
        await begin(app, version)
    _, answer, _ = await post(app, message("initialize", protocolVersion="2024-11-05", capabilities={}))
    assert answer["result"]["protocolVersion"] == "2025-11-25"


async def test_methods_that_there_are_not(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    status, answer, _ = await post(app, message("resources/list"), await begin(app))
    assert (status, answer["error"]["code"]) == (200, -32601)
    for method in ("resources/list", "initialize", "ping"):
        status, answer, _ = await post(app, message(method, _meta=META), stateless(method))
        assert (status, answer["error"]["code"]) == (404, -32601)


async def test_notifications_and_responses_are_accepted_in_silence(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    session = await begin(app)
    for body in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "id": 3, "result": {}},
    ):
        assert (await post(app, body, session))[:2] == (202, None)


async def test_a_session_is_a_uuid_and_its_requests_have_ids_of_their_own(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    session = await begin(app)
    async with call(app, session) as response:
        assert (await Reading(response).rest())[-1][1]["id"] == 7
    status, answer, _ = await post(app, message("tools/call", 7, name="tiny"), session)
    assert (status, answer["error"]["code"], answer["id"]) == (400, -32600, 7)
    async with call(app, session, "7") as response:
        assert (await Reading(response).rest())[-1][1]["id"] == "7"
    status, _, _ = await post(app, message("tools/call", 8, name="tiny"), {**session, "Mcp-Session-Id": "x"})
    assert status == 404
    async with call(app, {}) as response:  # a client without a session
        assert response.status == 200
        assert (await Reading(response).rest())[-1][1]["result"]["structuredContent"] == {}


async def test_a_run_goes_on_without_its_client_who_may_come_back(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    app = await server.add("flow.yml", workflow(["wait"]))
    session = await begin(app)
    seen: list[tuple[str | None, Any]] = []
    async with call(app, session) as response:
        reading = Reading(response)
        while len(seen) < 3:  # an empty event, then the first two nodes
            seen.append(await reading.next())
    assert seen[0][1] is None
    assert [event[1]["params"]["message"] for event in seen[1:]] == ["Start", "Wait"]
    headers = {"Authorization": f"Bearer {app.key}", "Accept": "text/event-stream", **session}

    async def rest(last: str | None) -> list[Any]:
        async with app.session.get(f"{app.url}/mcp", headers={**headers, "Last-Event-ID": str(last)}) as response:
            assert response.status == 200
            return [event for _, event in await Reading(response).rest() if event is not None]

    resumed = asyncio.create_task(rest(seen[-1][0]))
    gate.let()
    progress, result = await resumed
    assert progress["params"] == {"progressToken": "p", "progress": 3, "message": "End"}
    assert (result["id"], result["result"]["structuredContent"]) == (7, {})
    assert len(await rest(seen[0][0])) == 4
    assert not gate.cancelled.is_set()


async def test_what_cannot_be_resumed(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    other = await server.add("chat.yml", chatflow())
    session = await begin(app)
    async with call(app, session) as response:
        id_ = (await Reading(response).next())[0]

    async def status(last: str | None, key: str) -> int:
        headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
        headers |= {} if last is None else {"Last-Event-ID": last}
        async with app.session.get(f"{app.url}/mcp", headers=headers) as response:
            return response.status

    assert await status(None, app.key) == 405
    assert await status(id_, other.key) == 404
    assert await status(id_, "app-wrong") == 401
    assert await status(json.dumps([str(uuid4()), 0, 1, None]), app.key) == 404
    for broken in ("x", "[]", "[" * 5_000, "[1,2,3,4]", '["x",0,1,null]', json.dumps([str(uuid4()), 0, None, None])):
        assert await status(broken, app.key) == 400
    async with app.session.delete(f"{app.url}/mcp", headers=session) as response:
        assert response.status == 405


async def test_another_key_cannot_cancel(server: Serving) -> None:
    gate = Scripted.scripts["wait"] = Gate([])
    app = await server.add("flow.yml", workflow(["wait"]))
    other = await server.add("chat.yml", chatflow())
    session = await begin(app)
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    async with call(app, session) as response:
        await gate.reached.wait()
        assert (await post(other, cancel, session))[0] == 202
        assert not gate.cancelled.is_set()
        assert (await post(app, cancel, session))[0] == 202
        await gate.cancelled.wait()
        assert (await Reading(response).rest())[-1][1]["result"]["isError"] is True


async def test_old_clients_get_neither_links_nor_empty_events(server: Serving) -> None:
    async def make(ctx: Context) -> Result:
        file = await ctx.resources.files.save(b"%PDF", filename="report.pdf", mime_type="application/pdf")
        return Result({"file": file})

    Scripted.scripts["make"] = make
    app = await server.add("flow.yml", workflow(["make"], outputs={"file": ["make", "file"]}))
    session = await begin(app, "2025-03-26")
    async with call(app, session) as response:
        events = [event for _, event in await Reading(response).rest()]
    assert all(events)
    file = events[-1]["result"]["content"][1]
    assert file["type"] == "text"
    assert file["text"].startswith("report.pdf: http://")


async def test_errors_before_the_message_is_read_are_in_the_same_form(server: Serving) -> None:
    app = await server.add("flow.yml", workflow())
    status, answer, headers = await post(app, message(), {"Authorization": "Bearer app-wrong"})
    assert (status, answer["error"]["data"]) == (401, {"code": "unauthorized", "status": 401})
    assert headers["WWW-Authenticate"] == 'Bearer realm="api"'  # without an issuer there is nowhere to sign in
    async with app.session.get(f"{app.url}/.well-known/oauth-protected-resource/mcp") as response:
        assert response.status == 404
    status, answer, _ = await post(app, b"{}", {"Content-Type": "text/plain"})
    assert (status, answer["error"]["code"]) == (415, -32700)
    status, answer, _ = await post(app, message("tools/call", name="tiny"), {"Accept": "application/json"})
    assert (status, answer["error"]["data"]["code"], answer["id"]) == (406, "not_acceptable", 1)
    status, answer, _ = await post(app, message("tools/call", name="tiny", arguments=[]))
    assert (status, answer["error"]["code"]) == (200, -32602)


async def test_pages_of_other_origins_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, cors_origins=["https://app.example"]) as server:
        app = await server.add("flow.yml", workflow())
        assert (await post(app, message(), {"Origin": "https://evil.example"}))[0] == 403
        status, _, headers = await post(app, message("initialize", capabilities={}), {"Origin": "https://app.example"})
        assert status == 200
        exposed = ", ".join(headers.getall("Access-Control-Expose-Headers"))  # pyright: ignore[reportAttributeAccessIssue]
        assert "Mcp-Session-Id" in exposed


async def test_a_silent_stream_is_kept_alive(tmp_path: Path) -> None:
    async with serving(tmp_path, ping_seconds=0.01) as server:
        gate = Scripted.scripts["wait"] = Gate([])
        app = await server.add("flow.yml", workflow(["wait"]))
        async with call(app, await begin(app)) as response:
            await gate.reached.wait()
            while await response.content.readline() != b": ping\n":
                pass
            gate.let()
            assert (await Reading(response).rest())[-1][1]["result"]["structuredContent"] == {}


async def test_limits_are_told_and_hold(tmp_path: Path) -> None:
    plans = tmp_path / "plans.yml"
    plans.write_text("{plans: {a: {requests_per_minute: 2}}, default: a}")
    async with serving(tmp_path, plans=plans) as server:
        app = await server.add("flow.yml", workflow())
        assert (await post(app, message()))[0] == 200
        async with call(app, {}) as response:
            assert response.status == 200
            assert response.headers["RateLimit-Policy"]
            await Reading(response).rest()
        status, answer, headers = await post(app, message("tools/call", name="tiny"))
        assert (status, answer["error"]["data"]["code"]) == (429, "rate_limit_error")
        assert int(headers["Retry-After"]) > 0
        assert len((await server.store.runs.list_runs(RunFilter(app=app.release.app.id)))[1]) == 1
