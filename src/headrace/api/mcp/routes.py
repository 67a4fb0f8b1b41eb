"""The Model Context Protocol over HTTP: every app that a key gives access to is a tool.

Nothing is remembered between requests, so that any process answers any of them. The run of a call made in a session
has an id that follows from the session and the request: a notification that cancels the call finds it by that.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import NamedTuple, cast
from uuid import UUID, uuid4, uuid5

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import named_user
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.errors import interrupted, request_error
from headrace.api.http.responses import EventStream
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, JSON
from headrace.api.mcp import protocol
from headrace.api.mcp.authorization import challenge
from headrace.api.mcp.protocol import Message, ProtocolError, RequestId
from headrace.api.mcp.results import ToolCall, error_result
from headrace.api.mcp.tools import describe, submission, tool_names
from headrace.errors import Forbidden, HeadraceError, LoadError, NotFound, RequestError, StoreError
from headrace.kernel.events import Record, RunId
from headrace.ports import App
from headrace.values import Value

logger = logging.getLogger(__name__)

SESSION = "Mcp-Session-Id"
_USER = "headrace-user"
_PING = b": ping\n\n"
_INSTRUCTIONS = (
    "Each tool is an app: a workflow, which takes the inputs that its schema names, or a chat, which takes a query."
)
_RESUMABLE = "2025-11-25"  # the version whose clients take an event without data, to have a place to resume from
_TO_SCRIPTS = {"Access-Control-Expose-Headers": SESSION}


class _Place(NamedTuple):
    """How far a client has read the response to a call: all that is needed to send the rest."""

    run: RunId
    seq: int
    request: RequestId
    token: RequestId | None

    def event_id(self) -> bytes:
        return json.dumps(self, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, text: str) -> _Place:
        """ProtocolError where it is not one that was sent from here."""
        try:
            run, seq, request, token = json.loads(text)
            if not isinstance(seq, int) or protocol.request_id({"id": request}) is None:
                raise ValueError
            return cls(str(UUID(run)), seq, request, token)
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise ProtocolError(protocol.INVALID_REQUEST, "Last-Event-ID is not an id of an event.", 400) from None


class McpRoutes(Routes):
    """`/mcp`."""

    tag = "MCP"

    @Operation("POST", "")
    async def post(self, request: Request) -> Response:
        """Responds to one message of a client's."""
        id_: RequestId | None = None
        try:
            self._check_origin(request)
            apps = await self.api.choices(request)
            try:
                body = await self.api.json(request)
            except RequestError as error:
                raise ProtocolError(protocol.PARSE_ERROR, error.message, error.status) from None
            id_ = protocol.request_id(body)
            return await self._respond(request, protocol.read(body, request.headers), apps)
        except (RequestError, LoadError, StoreError) as error:
            return self._failed(request, request_error(request, error), id_)

    @Operation("GET", "")
    async def resume(self, request: Request) -> Response:
        """The rest of a response that was cut off: runs go on without their clients. (Nothing else is sent to a client
        that has asked for nothing, which is what GET is for otherwise.)"""
        if "last-event-id" not in request.headers:
            raise HTTPException(405, headers={"Allow": "POST"})
        try:
            self._check_origin(request)
            place = _Place.parse(request.headers["last-event-id"])
            view = await self.api.run_service.get(place.run)
            if view is None:
                raise NotFound("Workflow run not found")
            await self.api.authenticate(request, app=view.release.app.id)
            call = ToolCall(place.run, view.release.flow)
            version = protocol.spoken(request.headers.get("mcp-protocol-version"))
            records = self.api.run_service.follow(place.run)
            message = Message("tools/call", {"_meta": {"progressToken": place.token}}, place.request, version)
            return EventStream(
                self._events(call, message, records, place.seq), self.api.options.ping_seconds, ping_event=_PING
            )
        except (RequestError, LoadError, StoreError) as error:
            return self._failed(request, request_error(request, error), None)

    async def _respond(self, request: Request, message: Message, apps: Sequence[App]) -> Response:
        if message.method == "tools/call" and message.id is not None:
            return await self._call(request, message, apps)
        await self.api.principal(request)
        if message.id is None:
            if message.method == "notifications/cancelled":
                await self._cancel(request, message, apps)
            return Response(status_code=202)
        match message.method:
            case "tools/list":
                return _json(protocol.result(message, {"tools": await self._tools(message, apps)}, cacheable=True))
            case "server/discover" if message.is_stateless:
                discovery = {"supportedVersions": protocol.VERSIONS, **_about()}
                return _json(protocol.result(message, discovery, cacheable=True))
            case "initialize" if not message.is_stateless:
                client_version = message.params.get("protocolVersion")
                version = client_version if client_version in protocol.WITH_SESSIONS else protocol.WITH_SESSIONS[0]
                response = protocol.result(
                    message, {"protocolVersion": version, "serverInfo": protocol.SERVER, **_about()}
                )
                return _json(response, headers={SESSION: str(uuid4()), **_TO_SCRIPTS})
            case "ping" if not message.is_stateless:
                return _json(protocol.result(message, {}))
            case _:
                status = 404 if message.is_stateless else 200  # to older clients a 404 means that their session is over
                raise ProtocolError(protocol.METHOD_NOT_FOUND, f"Method not found: {message.method[:100]}", status)

    async def _tools(self, message: Message, apps: Sequence[App]) -> list[dict[str, object]]:
        if message.params.get("cursor") is not None:
            raise ProtocolError(protocol.INVALID_PARAMS, "Invalid cursor: the list of tools has one page.")
        tools: list[dict[str, object]] = []
        for name, app in tool_names(apps).items():
            try:
                tools.append(describe(name, await self.api.apps.version(app, app.version)))
            except LoadError as error:
                logger.warning("the app '%s' is not listed as a tool: %s", app.name, error)
        return tools

    async def _call(self, request: Request, message: Message, apps: Sequence[App]) -> Response:
        name, arguments = message.params.get("name"), message.params.get("arguments", {})
        app = tool_names(apps).get(name) if isinstance(name, str) else None
        if app is None:
            raise ProtocolError(protocol.INVALID_PARAMS, f"Unknown tool: {str(name)[:100]}")
        if not isinstance(arguments, dict):
            raise ProtocolError(protocol.INVALID_PARAMS, "The arguments of a tool must be an object.")
        if not _accepts_stream(request):
            raise RequestError("The client must accept text/event-stream.", "not_acceptable", 406)
        release = await self.api.authenticate(request, app=app.id)
        run = None if message.is_stateless else _run_of(request, message.id)
        if run is not None and await self.api.run_service.runs.find_run(run) is not None:
            raise ProtocolError(protocol.INVALID_REQUEST, "This session has had a request with this id.", 400)
        user = named_user(request.headers.get(_USER)) or ANONYMOUS
        try:
            submission_of_call = await submission(self.api, release, user, cast("dict[str, Value]", arguments), run)
        except RequestError as error:  # the arguments are at fault: the model can mend them
            return _json(protocol.result(message, error_result(error.message)))
        async with AsyncExitStack() as stack:
            started_run = await stack.enter_async_context(self.api.run_service.open(submission_of_call, run))
            call = ToolCall(started_run.run, started_run.flow)
            if message.is_stateless:
                await stack.enter_async_context(self._stopped_if_left(call))
            events = self._events(call, message, started_run.records)
            return EventStream(events, self.api.options.ping_seconds, stack.pop_all(), _PING)

    async def _events(
        self, call: ToolCall, message: Message, records: AsyncGenerator[Record], after: int = 0
    ) -> AsyncGenerator[bytes]:
        """The response to a call: its progress after a record's number, if the client wants to hear of it, and the
        result. An error in the middle is sent as one, since the status is sent already."""
        assert message.id is not None
        token, progress = message.progress_token, 0
        if message.version == _RESUMABLE and not after:
            yield b"id: %b\ndata:\n\n" % _Place(call.run, 0, message.id, token).event_id()
        try:
            async with aclosing(records):
                async for record in records:
                    text, seq = call.feed(record), record.seq
                    if text is None or seq is None or token is None:
                        continue
                    progress += 1
                    if seq > after:
                        params = {"progressToken": token, "progress": progress, "message": text}
                        data = protocol.notification("notifications/progress", params)
                        place = b"" if message.is_stateless else _Place(call.run, seq, message.id, token).event_id()
                        yield b"id: %b\ndata: %b\n\n" % (place, data) if place else b"data: %b\n\n" % data
                result = await call.result(self.api.files, message.version)
                yield b"data: %b\n\n" % protocol.result(message, result)
        except Exception as error:
            yield b"data: %b\n\n" % protocol.failure(interrupted(call.run, error), message.id)

    @asynccontextmanager
    async def _stopped_if_left(self, call: ToolCall) -> AsyncGenerator[None]:
        """Stops the run of a call whose client disconnects: that is how it cancels one. A process that shuts down loses
        its clients, too, but the run continues elsewhere."""
        try:
            yield
        finally:
            if not call.is_done and not self.api.run_service.draining:
                try:
                    await self.api.run_service.stop(call.run, "client disconnected")
                except HeadraceError as error:
                    logger.warning("run %s, whose client has disconnected, cannot be stopped: %s", call.run, error)

    async def _cancel(self, request: Request, message: Message, apps: Sequence[App]) -> None:
        """Stops the run of a call. One that is unknown or has ended is ignored."""
        id_ = protocol.request_id({"id": message.params.get("requestId")})
        run = _run_of(request, id_)
        existing = await self.api.run_service.runs.find_run(run) if run is not None else None
        if run is not None and existing is not None and any(app.id == existing.app for app in apps):
            await self.api.run_service.stop(run, "client cancelled")

    def _failed(self, request: Request, error: RequestError, id_: RequestId | None) -> Response:
        headers = dict(error.headers)
        if error.status == 401:
            headers |= challenge(request, self.api.options)
        return _json(protocol.failure(error, id_), error.status, headers)

    def _check_origin(self, request: Request) -> None:
        """Forbidden for a web page that may not call: a browser can be led to a server on its own machine."""
        origin, origins = request.headers.get("origin"), self.api.options.cors_origins
        if origin is not None and "*" not in origins and origin not in origins:
            raise Forbidden("Requests from this origin are not allowed.")


def _run_of(request: Request, id_: RequestId | None) -> RunId | None:
    """The id of the run of a call made in a session; None without one. NotFound for a session that was never begun."""
    session = request.headers.get(SESSION)
    if session is None or id_ is None:
        return None
    try:
        return str(uuid5(UUID(session), json.dumps(id_)))
    except ValueError:
        raise NotFound("Session not found") from None


def _accepts_stream(request: Request) -> bool:
    accept = request.headers.get("accept", "*/*")
    return any(kind in accept for kind in (EVENT_STREAM, "text/*", "*/*"))


def _about() -> dict[str, object]:
    return {"capabilities": {"tools": {}}, "instructions": _INSTRUCTIONS}


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, JSON)
