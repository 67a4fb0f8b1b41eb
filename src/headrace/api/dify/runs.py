"""Runs of workflows: start, follow, get, stop and list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, flag, user_of
from headrace.api.dify import examples
from headrace.api.dify.chat_events import events_for
from headrace.api.dify.run_events import RunEvents
from headrace.api.dify.run_requests import last_event_id, run_submission, stop_task, stream_events, wants_ids
from headrace.api.dify.run_responses import BlockingResponse, workflow_log, workflow_run
from headrace.api.dify.schemas.common import Success
from headrace.api.dify.schemas.events import RunStreamEvent
from headrace.api.dify.schemas.message_events import MessageStreamEvent
from headrace.api.dify.schemas.runs import BlockingRun, UserRequest, WorkflowLogPage, WorkflowRequest, WorkflowRun
from headrace.api.dify.stream_position import START, StreamPosition
from headrace.api.http.errors import not_workflow_app, user_missing
from headrace.api.http.params import number
from headrace.api.http.responses import json_response, success
from headrace.api.http.routing import IDS, STARTING_POINT, TEXT_SCHEMA, Operation, integer, parameter
from headrace.api.http.schema import EVENT_STREAM, Media, parse
from headrace.api.http.sse import EventStream
from headrace.apps.catalog import Served
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ports import RunFilter
from headrace.runs.service import RunView
from headrace.runs.submission import Submission

_FLOWING = ("workflow", "advanced-chat")  # modes of apps that show their workflow
_STATUSES = ("succeeded", "failed", "stopped")
_NO_RUN = "Workflow run not found"
_MISSING_INPUT = InvalidParam("query is required in input form")
_BOOLEAN = {"type": "boolean", "default": False}
_TIME = {"type": "string", "format": "date-time"}
_RUN = (Media(BlockingRun, examples.BLOCKING_RUN), Media(RunStreamEvent, examples.RUN_STREAM, EVENT_STREAM))
_BODY = Media(WorkflowRequest, examples.RUN_REQUEST)
_LOGS: WorkflowLogPage = {"page": 1, "limit": 20, "total": 1, "has_more": False, "data": [examples.WORKFLOW_LOG]}


class RunRoutes:
    """`/v1/workflows/...` and `/v1/workflow/{id}/events`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                "POST",
                "/workflows/run",
                self.run,
                id="runWorkflow",
                tag="Runs",
                summary="Run the workflow",
                description="Runs the app's current version. The response to a run that fails is HTTP 200 with the "
                "status `failed`. A stream that was cut off can be resumed with "
                f"GET /v1/workflow/{{workflow_run_id}}/events. {IDS}",
                body=_BODY,
                response=_RUN,
                errors=(user_missing(), _MISSING_INPUT, not_workflow_app()),
            ),
            Operation(
                "GET",
                "/workflows/run/{workflow_run_id}",
                self.detail,
                id="getWorkflowRun",
                tag="Runs",
                summary="Get a run",
                description="The run as it is now. `inputs` and `outputs` are JSON in a string.",
                response=Media(WorkflowRun, examples.WORKFLOW_RUN),
                errors=(NotFound(_NO_RUN),),
            ),
            Operation(
                "POST",
                "/workflows/tasks/{task_id}/stop",
                self.stop,
                id="stopWorkflowTask",
                tag="Runs",
                summary="Stop a run",
                description="Cancels the nodes that are running. A task that is unknown or has ended is no error.",
                body=Media(UserRequest, {"user": examples.USER}),
                response=Media(Success, {"result": "success"}),
                errors=(user_missing(), not_workflow_app()),
            ),
            Operation(
                "GET",
                "/workflows/logs",
                self.logs,
                id="listWorkflowLogs",
                tag="Runs",
                summary="List runs",
                description="The app's runs, newest first.",
                parameters=(
                    parameter("query", "keyword", "Text in the inputs, the outputs or the id", TEXT_SCHEMA),
                    parameter("query", "status", "The runs' status", TEXT_SCHEMA | {"enum": list(_STATUSES)}),
                    parameter("query", "created_at__before", "ISO 8601", _TIME),
                    parameter("query", "created_at__after", "ISO 8601", _TIME),
                    parameter("query", "created_by_end_user_session_id", "The `user` of the runs", TEXT_SCHEMA),
                    parameter("query", "created_by_account", "Refused: there are no accounts here", TEXT_SCHEMA),
                    parameter("query", "page", "Starts at 1", integer(1, 99_999)),
                    parameter("query", "limit", "Runs per page", integer(20, 100)),
                ),
                response=Media(WorkflowLogPage, _LOGS),
                errors=(InvalidParam("limit: Input should be an integer from 1 to 100, not '1000'"),),
            ),
            Operation(
                "POST",
                "/workflows/{workflow_id}/run",
                self.run_version,
                id="runWorkflowVersion",
                tag="Runs",
                summary="Run one version of the workflow",
                description="As POST /v1/workflows/run, for the version that `workflow_id` names.",
                body=_BODY,
                response=_RUN,
                errors=(
                    user_missing(),
                    _MISSING_INPUT,
                    not_workflow_app(),
                    NotFound("Workflow not found with id: ..."),
                ),
            ),
            Operation(
                "GET",
                "/workflow/{workflow_run_id}/events",
                self.events,
                id="followWorkflowRun",
                tag="Runs",
                summary="Follow a run",
                description="The run's events as a stream: from now on; or from the beginning "
                "(`include_state_snapshot`); or those after a position, without gaps or repetitions. Of a run that has "
                f"ended only workflow_finished is sent, unless a position says what is missing. {IDS}",
                parameters=(
                    parameter("query", "user", "The `user` of the run's request", TEXT_SCHEMA, required=True),
                    parameter("query", "include_state_snapshot", "Send past events, too", _BOOLEAN),
                    parameter("query", "continue_on_pause", "Do not end at a pause", _BOOLEAN),
                    *STARTING_POINT,
                ),
                response=Media(MessageStreamEvent, examples.RUN_STREAM, EVENT_STREAM),
                errors=(user_missing(), NotFound(_NO_RUN)),
            ),
        )

    # --------------------------------------------------------------------------------------------------------- run

    async def run(self, request: Request) -> Response:
        return await self._run(request)

    async def run_version(self, request: Request) -> Response:
        return await self._run(request, request.path_params["workflow_id"])

    async def _run(self, request: Request, version: str | None = None) -> Response:
        api = self.api
        served = await api.authenticate(request)
        body = await api.json(request)
        user = user_of(body)
        if served.app.mode != "workflow":
            raise not_workflow_app()
        fields = parse(WorkflowRequest, body)
        if version is not None:
            malformed = RequestError(f"Invalid workflow_id format: '{version}'. ", "bad_request", 400)
            served = await api.apps.version(served.app, as_uuid(version, malformed))
        submission = await run_submission(api, served, user, fields)
        if fields.get("response_mode") == "streaming":
            return await self._stream(submission, ids=wants_ids(request))
        return await self._block(submission)

    async def _block(self, submission: Submission) -> Response:
        """Waits for the run's end. The run continues if the client disconnects meanwhile."""
        body: bytes | None = None
        async with self.api.run_service.open(submission) as started:
            response = BlockingResponse(started.run, started.task)
            async for record in started.records:  # to the end: closing an unfinished iterator is expensive
                body = response.feed(record) or body
        if body is None:
            raise RuntimeError(f"run {started.run} could not be followed to its end")
        return Response(body, media_type="application/json; charset=utf-8")

    async def _stream(self, submission: Submission, *, ids: bool) -> Response:
        async with AsyncExitStack() as stack:
            started = await stack.enter_async_context(self.api.run_service.open(submission))
            events = RunEvents(started.run, submission.served.flow)
            stream = stream_events(events, started.records, started.task, ids=ids)
            return EventStream(stream, self.api.options.ping_seconds, stack.pop_all())

    # ------------------------------------------------------------------------------------------------------ follow

    async def events(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        user = user_of(request.query_params)
        view = await self._view(served, request.path_params["workflow_run_id"])
        queued = view.summary.request
        if queued.user != user:
            raise NotFound(_NO_RUN)
        snapshot, past_pauses = flag(request, "include_state_snapshot"), flag(request, "continue_on_pause")
        last = view.summary.seq
        after = last_event_id(request)
        if after is None:
            # as in Dify: of a run that has ended only the end, of others what comes from now on
            after = StreamPosition(last - 1) if view.summary.ended else START if snapshot else StreamPosition(last)
        elif after.seq > last:
            raise InvalidParam(f"Last-Event-ID {after} is beyond the run's last event, {last}")
        run = view.records[0].run
        records = self.api.run_service.follow(run, on_pause=True)
        close_from = None if past_pauses else max(last, after.seq + 1)
        events = events_for(run, view.served.flow, after)
        stream = stream_events(events, records, queued.task, close_from, ids=wants_ids(request))
        return EventStream(stream, self.api.options.ping_seconds)

    # ---------------------------------------------------------------------------------------------- get, stop, list

    async def detail(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        if served.app.mode not in _FLOWING:
            raise not_workflow_app()
        view = await self._view(served, request.path_params["workflow_run_id"])
        return json_response(workflow_run(view.records[0].run, view))

    async def _view(self, served: Served, run: str) -> RunView:
        """A run of this app. NotFound for an unknown one, a malformed id, and another app's."""
        view = await self.api.run_service.get(as_uuid(run, NotFound(_NO_RUN)))
        if view is None or view.served.app.id != served.app.id:
            raise NotFound(_NO_RUN)
        return view

    async def stop(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if served.app.mode != "workflow":
            raise not_workflow_app()
        await stop_task(self.api, served, request.path_params["task_id"], user)
        return success()

    async def logs(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        if served.app.mode not in _FLOWING:
            raise not_workflow_app()
        wanted = _run_filter(served.app.id, request.query_params)
        total, stored = await self.api.run_service.runs.list_runs(wanted)
        runs = [await self.api.listed(served, summary) for summary in stored]
        catalog = self.api.apps.catalog
        versions = {version: await catalog.version(version) for version in {summary.version for summary in runs}}
        page: WorkflowLogPage = {
            "page": wanted.page,
            "limit": wanted.limit,
            "total": total,
            "has_more": wanted.page * wanted.limit < total,
            "data": [workflow_log(summary, versions[summary.version]) for summary in runs],
        }
        return json_response(page)


def _run_filter(app: str, query: Mapping[str, str]) -> RunFilter:
    """The runs that GET /workflows/logs lists. InvalidParam where a parameter is wrong."""
    status = query.get("status") or None
    if status is not None and status not in _STATUSES:
        raise InvalidParam("status: Input should be 'succeeded', 'failed' or 'stopped'")
    if account := query.get("created_by_account"):
        raise InvalidParam(f"Account not found: {account}")  # only end users make runs here
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
    """An ISO 8601 time (UTC by default), in seconds since the epoch."""
    text = query.get(name, "").strip()
    if not text:
        return None
    if "T" in text:
        text = text.replace(" ", "+")  # the plus of an offset that was not escaped in the query
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidParam(f"{name}: {text[:50]!r} is not an ISO 8601 time") from None
