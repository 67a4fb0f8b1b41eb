"""Runs: ask for one, follow it, look at it, stop it, list them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, flag, user_of
from headrace.api.dify import run_docs
from headrace.api.dify.chat_events import events_for
from headrace.api.dify.run_events import RunEvents
from headrace.api.dify.run_requests import accepted, last_event_id, payload, stop, streaming, tell, wants_ids
from headrace.api.dify.run_responses import BlockingResponse, workflow_log, workflow_run
from headrace.api.dify.stream_position import START, StreamPosition
from headrace.api.http.errors import not_workflow_app
from headrace.api.http.json import encode
from headrace.api.http.params import number
from headrace.api.http.routing import OperationList
from headrace.api.http.sse import EventStream
from headrace.apps.catalog import Served
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ports import RunFilter
from headrace.runs.service import RunView
from headrace.runs.submission import Submission
from headrace.values import Value

logger = logging.getLogger(__name__)

_JSON = "application/json"
_SUCCESS = b'{"result": "success"}'
_FLOWING = ("workflow", "advanced-chat")  # modes of apps that show their workflow
_STATUSES = ("succeeded", "failed", "stopped")
_NO_RUN = "Workflow run not found"


class RunRoutes:
    """`/v1/workflows/...` and `/v1/workflow/{id}/events`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/workflows/run", self.run, methods=["POST"], **run_docs.RUN)
        router.add_api_route("/workflows/run/{workflow_run_id}", self.detail, methods=["GET"], **run_docs.RUN_DETAIL)
        router.add_api_route("/workflows/tasks/{task_id}/stop", self.stop, methods=["POST"], **run_docs.STOP)
        router.add_api_route("/workflows/logs", self.logs, methods=["GET"], **run_docs.LOGS)
        router.add_api_route("/workflows/{workflow_id}/run", self.run_version, methods=["POST"], **run_docs.RUN_VERSION)
        router.add_api_route("/workflow/{workflow_run_id}/events", self.events, methods=["GET"], **run_docs.EVENTS)

    # --------------------------------------------------------------------------------------------------------- run

    async def run(self, request: Request) -> Response:
        return await self._run(request)

    async def run_version(self, request: Request) -> Response:
        return await self._run(request, request.path_params["workflow_id"])

    async def _run(self, request: Request, workflow: str | None = None) -> Response:
        api = self.api
        served = await api.authenticate(request)
        asked = await api.json(request)
        user = user_of(asked)
        if served.app.mode != "workflow":
            raise not_workflow_app()
        inputs, mappings, streamed = _payload(asked)
        if workflow is not None:
            malformed = RequestError(f"Invalid workflow_id format: '{workflow}'. ", "bad_request", 400)
            served = await api.apps.version(served.app, as_uuid(workflow, malformed))
        submission = await accepted(api, served, user, inputs, mappings)
        return await (self._stream(submission, ids=wants_ids(request)) if streamed else self._block(submission))

    async def _block(self, submission: Submission) -> Response:
        """Waits for the run's end, also if the caller hangs up meanwhile: the run goes on either way."""
        body: bytes | None = None
        async with self.api.run_service.open(submission) as started:
            answer = BlockingResponse(started.run, started.task)
            async for record in started.records:  # to the end: an iterator left half-way is dear to clean up
                body = answer.feed(record) or body
        if body is None:
            raise RuntimeError(f"run {started.run} could not be followed to its end")
        return Response(body, media_type=f"{_JSON}; charset=utf-8")

    async def _stream(self, submission: Submission, *, ids: bool) -> Response:
        async with AsyncExitStack() as stack:
            started = await stack.enter_async_context(self.api.run_service.open(submission))
            frames = RunEvents(started.run, submission.served.flow)
            told = tell(frames, started.records, started.task, ids=ids)
            return EventStream(told, self.api.options.ping_seconds, stack.pop_all())

    # ------------------------------------------------------------------------------------------------------ follow

    async def events(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        user = user_of(request.query_params)
        view = await self._view(served, request.path_params["workflow_run_id"], of=None)
        queued = view.state.queued
        assert queued is not None
        if queued.user != user:
            raise NotFound(_NO_RUN)
        snapshot, on = flag(request, "include_state_snapshot"), flag(request, "continue_on_pause")
        last = view.state.seq
        after = last_event_id(request)
        if after is None:
            # Dify: of a run that has ended only its end is told, of others what comes from now on
            after = StreamPosition(last - 1) if view.state.ended else START if snapshot else StreamPosition(last)
        elif after.seq > last:
            raise InvalidParam(f"Last-Event-ID {after} is beyond the run's last event, {last}")
        run = view.records[0].run
        records = self.api.run_service.follow(run, on_pause=True)
        close_from = None if on else max(last, after.seq + 1)
        frames = events_for(run, view.served.flow, after)
        told = tell(frames, records, queued.task, close_from, ids=wants_ids(request))
        return EventStream(told, self.api.options.ping_seconds)

    # --------------------------------------------------------------------------------------------------- look, stop

    async def detail(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        view = await self._view(served, request.path_params["workflow_run_id"])
        return Response(encode(workflow_run(view.records[0].run, view)), media_type=_JSON)

    async def _view(self, served: Served, run: str, of: Sequence[str] | None = _FLOWING) -> RunView:
        """A run of this app, if it is of one of these modes. NotFound for an unknown one, a malformed id, and another
        app's."""
        if of is not None and served.app.mode not in of:
            raise not_workflow_app()
        view = await self.api.run_service.get(as_uuid(run, NotFound(_NO_RUN)))
        if view is None or view.served.app.id != served.app.id:
            raise NotFound(_NO_RUN)
        return view

    async def stop(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if served.app.mode != "workflow":
            raise not_workflow_app()
        await stop(self.api, served, request.path_params["task_id"], user)
        return Response(_SUCCESS, media_type=_JSON)

    async def logs(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        if served.app.mode not in _FLOWING:
            raise not_workflow_app()
        which = _run_filter(served.app.id, request.query_params)
        total, known = await self.api.run_service.runs.list_runs(which)
        found = [await self.api.listed(served, summary) for summary in known]
        catalog = self.api.apps.catalog
        versions = {each: await catalog.version(each) for each in {summary.version for summary in found}}
        told = {
            "page": which.page,
            "limit": which.limit,
            "total": total,
            "has_more": which.page * which.limit < total,
            "data": [workflow_log(summary, versions[summary.version]) for summary in found],
        }
        return Response(encode(told), media_type=_JSON)


def _payload(asked: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[Mapping[str, Value]], bool]:
    """(inputs, files, streaming?) of a request to run. InvalidParam where one is of the wrong form."""
    return *payload(asked), streaming(asked)


def _run_filter(app: str, query: Mapping[str, str]) -> RunFilter:
    """What GET /workflows/logs asks for. InvalidParam where it makes no sense."""
    status = query.get("status") or None
    if status is not None and status not in _STATUSES:
        raise InvalidParam("status: Input should be 'succeeded', 'failed' or 'stopped'")
    if account := query.get("created_by_account"):
        raise InvalidParam(f"Account not found: {account}")  # runs here are made by end users only
    return RunFilter(
        app=app,
        status=status,
        before=_time(query, "created_at__before"),
        after=_time(query, "created_at__after"),
        session=query.get("created_by_end_user_session_id") or None,
        keyword=query.get("keyword") or None,
        page=number(query, "page", 1, 99999),
        limit=number(query, "limit", 20, 100),
    )


def _time(query: Mapping[str, str], name: str) -> float | None:
    """An ISO 8601 time (UTC unless it says otherwise), in seconds since the epoch."""
    text = query.get(name, "").strip()
    if not text:
        return None
    if "T" in text:
        text = text.replace(" ", "+")  # an offset's plus that was not escaped in the query
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidParam(f"{name}: {text[:50]!r} is no ISO 8601 time") from None
