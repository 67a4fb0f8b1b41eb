"""Runs for callers who hold no connection open: submit, poll, wait, follow, stop, retry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, flag, named_user, user_of
from headrace.api.dify.chat_events import events_for
from headrace.api.dify.message_requests import submission_of
from headrace.api.dify.run_requests import last_event_id, tell, wants_ids
from headrace.api.dify.stream_position import START
from headrace.api.http.errors import of_status
from headrace.api.http.json import encode
from headrace.api.http.routing import OperationList
from headrace.api.http.sse import EventStream
from headrace.api.native import run_docs as operations
from headrace.api.native.callbacks import callback_url
from headrace.api.native.node_executions import executions
from headrace.api.native.run_watch import Standing, Watches
from headrace.api.native.services import Polling
from headrace.api.openapi import add_get
from headrace.apps.catalog import Served
from headrace.errors import InvalidParam, LoadError, NotFound, RequestError
from headrace.kernel.events import RunId
from headrace.runs.service import RunView, Submitted
from headrace.runs.submission import Submission
from headrace.times import whole_seconds
from headrace.values import Value

_JSON, _EVENTS = "application/json", "text/event-stream"
_MODES = ("async", "streaming", "blocking")
_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}", re.ASCII)
_LONGEST_WAIT = 60.0
_STOP_SECONDS = 1.0  # how long a stop waits to see the run stopped


class PolledRunRoutes:
    """`/workflows/{workflow_id}/run` and `/workflow-runs/{workflow_run_id}...`. Another app's are not found."""

    def __init__(self, api: Api, parts: Polling) -> None:
        self.api = api
        self._once = parts.idempotency.once
        self._watches = Watches(api.run_service)

    def add_to(self, router: OperationList) -> None:
        run = "/workflow-runs/{workflow_run_id}"
        router.add_api_route("/workflows/{workflow_id}/run", self.run, methods=["POST"], **operations.RUN)
        add_get(router, run, self.detail, operations.DETAIL)
        add_get(router, f"{run}/node-executions", self.node_executions, operations.NODE_EXECUTIONS)
        router.add_api_route(f"{run}/events", self.events, methods=["GET"], **operations.EVENTS)
        router.add_api_route(f"{run}/stop", self.stop, methods=["POST"], **operations.STOP)
        router.add_api_route(f"{run}/retry", self.retry, methods=["POST"], **operations.RETRY)

    # --------------------------------------------------------------------------------------------------------- run

    async def run(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        _check_json(request)
        body = await self.api.body(request)

        async def make(run: RunId | None) -> Response:
            asked = self.api.object_of(body)
            mode = _mode(request, asked)
            submission = await self._submission(served, request.path_params["workflow_id"], asked, run)
            if mode == "async":
                return _queued(await self.api.run_service.submit(submission, run))
            if mode == "streaming":
                return await self._stream(submission, run, ids=wants_ids(request))
            return await self._block(submission, run)

        return await self._once(request, served, body, make)

    async def _submission(
        self, served: Served, workflow: str, asked: Mapping[str, Value], run: RunId | None
    ) -> Submission:
        user = user_of(asked)
        callback = callback_url(asked.get("callback_url"))
        name = as_uuid(workflow, NotFound(f"Workflow not found with id: {workflow[:50]}"))
        if name != served.app.id:
            served = await self.api.apps.version(served.app, name)
        return await submission_of(self.api, served, user, asked, callback=callback, run=run)

    async def _block(self, submission: Submission, run: RunId | None) -> Response:
        """Waits for the run's end or pause, also if the caller hangs up meanwhile: the run goes on either way."""
        async with self.api.run_service.open(submission, run) as started:
            standing = Standing(started.run, started.flow)
            async for record in started.records:
                standing.apply(record)
        return _answer(bytes(standing.answer().body))

    async def _stream(self, submission: Submission, run: RunId | None, *, ids: bool) -> Response:
        async with AsyncExitStack() as stack:
            started = await stack.enter_async_context(self.api.run_service.open(submission, run))
            told = tell(events_for(started.run, started.flow), started.records, started.task, ids=ids)
            return EventStream(told, self.api.options.ping_seconds, stack.pop_all())

    # --------------------------------------------------------------------------------------------------------- look

    async def detail(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        standing = await self._standing(served, request.path_params["workflow_run_id"], _wait(request))
        known = request.headers.get("if-none-match")
        if known and standing.tag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(status_code=304, headers={"ETag": standing.tag})
        return standing.answer()

    async def node_executions(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        return _answer(encode({"data": executions(await self._view(served, request))}))

    async def events(self, request: Request) -> Response:
        """As /v1 has it, but from the beginning unless the reader says how far it has come."""
        served = await self.api.authenticate(request)
        view = await self._view(served, request)
        on, last = flag(request, "continue_on_pause"), view.state.seq
        after = last_event_id(request) or START
        if after.seq > last:
            raise InvalidParam(f"Last-Event-ID {after} is beyond the run's last event, {last}")
        assert view.state.queued is not None
        run, task = view.records[0].run, view.state.queued.task
        records = self.api.run_service.follow(run, on_pause=True)
        frames, close_from = events_for(run, view.served.flow, after), None if on else max(last, after.seq + 1)
        told = tell(frames, records, task, close_from, ids=wants_ids(request))
        return EventStream(told, self.api.options.ping_seconds)

    async def _standing(self, served: Served, name: str, wait: float = 0) -> Standing:
        """How a run of this app stands. NotFound for an unknown one, a malformed id, and another app's."""
        unknown = NotFound("Workflow run not found")
        try:
            standing = await self._watches.find(as_uuid(name, unknown), served.app.id, wait)
        except LoadError as error:
            raise _not_loadable(error) from error
        if standing is None:
            raise unknown
        return standing

    async def _view(self, served: Served, request: Request) -> RunView:
        unknown = NotFound("Workflow run not found")
        try:
            view = await self.api.run_service.get(as_uuid(request.path_params["workflow_run_id"], unknown))
        except LoadError as error:
            raise _not_loadable(error) from error
        if view is None or view.served.app.id != served.app.id:
            raise unknown
        return view

    # -------------------------------------------------------------------------------------------------- stop, retry

    async def stop(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        asked = await self._optional(request)
        by = named_user(asked.get("user")) or "api"
        standing = await self._standing(served, request.path_params["workflow_run_id"])
        if standing.ended is None:
            await self.api.run_service.stop(standing.run, by)
            standing = await self._standing(served, standing.run, _STOP_SECONDS)
        assert standing.queued is not None
        told = {"workflow_run_id": standing.run, "task_id": standing.queued.task, "status": standing.status}
        return _answer(encode(told))

    async def retry(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        body = await self.api.body(request)

        async def make(run: RunId | None) -> Response:
            if body:
                self.api.object_of(body)
            standing = await self._standing(served, request.path_params["workflow_run_id"])
            return _queued(await self.api.run_service.retry(standing.run, run))

        return await self._once(request, served, body, make)

    async def _optional(self, request: Request) -> Mapping[str, Value]:
        """A body that may be left out."""
        body = await self.api.body(request)
        return self.api.object_of(body) if body else {}


def _check_json(request: Request) -> None:
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != _JSON and not declared.endswith("+json"):
        raise of_status(415)


def _mode(request: Request, asked: Mapping[str, Value]) -> str:
    """`streaming` is what callers of Dify's API write into every request: only one that accepts events gets them."""
    mode = asked.get("response_mode")
    if mode is not None and mode not in _MODES:
        raise InvalidParam("response_mode: Input should be 'async', 'streaming' or 'blocking'")
    if mode is None or (mode == "streaming" and _EVENTS not in request.headers.get("accept", "").lower()):
        return "async"
    return mode


def _wait(request: Request) -> float:
    """How many seconds a poll may be held."""
    if not request.scope["query_string"]:
        return 0.0
    text = request.query_params.get("wait", "")
    if not text:
        return 0.0
    if not _SECONDS.fullmatch(text) or float(text) > _LONGEST_WAIT:
        raise InvalidParam(f"wait: Input should be a number of seconds from 0 to {_LONGEST_WAIT:g}, not {text[:50]!r}")
    return float(text)


def _queued(run: Submitted) -> Response:
    at = whole_seconds(run.at)
    told: dict[str, Value] = {"task_id": run.task, "workflow_run_id": run.run, "status": "queued", "created_at": at}
    if run.message:
        told |= {"conversation_id": run.conversation, "message_id": run.run}
    return _answer(encode(told), 202)


def _answer(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type=_JSON)


def _not_loadable(error: LoadError) -> RequestError:
    message = f"The version that this run is of cannot be loaded any more: {error}"
    return RequestError(message, "version_not_loadable", 409)
