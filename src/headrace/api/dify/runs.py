"""Runs of workflows: start, follow, get, stop and list them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid, user_of
from headrace.api.dify import examples
from headrace.api.dify.run_events import START, StreamPosition
from headrace.api.dify.run_requests import (
    events_for,
    last_event_id,
    run_response,
    run_submission,
    stop_task,
    stream_events,
    wants_ids,
)
from headrace.api.dify.run_responses import workflow_log, workflow_run
from headrace.api.dify.schemas.common import Success
from headrace.api.dify.schemas.events import RunStreamEvent
from headrace.api.dify.schemas.message_events import MessageStreamEvent
from headrace.api.dify.schemas.runs import BlockingRun, UserRequest, WorkflowLogPage, WorkflowRequest, WorkflowRun
from headrace.api.http.errors import not_workflow_app, user_missing
from headrace.api.http.params import IDS, STARTING_POINT, boolean, choice, integer, text, time
from headrace.api.http.request_body import parse
from headrace.api.http.responses import EventStream, json_response, success
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, Media
from headrace.apps.catalog import Served
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ports import RunFilter
from headrace.runs.service import RunView

_FLOWING = ("workflow", "advanced-chat")  # modes of apps that show their workflow
_NO_RUN = "Workflow run not found"
_MISSING_INPUT = InvalidParam("query is required in input form")
_RUN = (Media(BlockingRun, examples.BLOCKING_RUN), Media(RunStreamEvent, examples.RUN_STREAM, EVENT_STREAM))
_BODY = Media(WorkflowRequest, examples.RUN_REQUEST)
_SNAPSHOT = boolean("include_state_snapshot", "Send past events, too")
_PAST_PAUSES = boolean("continue_on_pause", "Do not end at a pause")
_KEYWORD = text("keyword", "Text in the inputs, the outputs or the id")
_STATUS = choice("status", "The runs' status", ("succeeded", "failed", "stopped"), None)
_BEFORE, _AFTER = time("created_at__before", "ISO 8601"), time("created_at__after", "ISO 8601")
_SESSION = text("created_by_end_user_session_id", "The `user` of the runs")
_ACCOUNT = text("created_by_account", "Refused: there are no accounts here")
_PAGE, _LIMIT = integer("page", "Starts at 1", 1, 99_999), integer("limit", "Runs per page", 20, 100)
_LOGS: WorkflowLogPage = {"page": 1, "limit": 20, "total": 1, "has_more": False, "data": [examples.WORKFLOW_LOG]}


class RunRoutes(Routes):
    """`/v1/workflows/...` and `/v1/workflow/{id}/events`."""

    tag = "Runs"

    # --------------------------------------------------------------------------------------------------------- run

    @Operation(
        "POST",
        "/workflows/run",
        _RUN,
        body=_BODY,
        errors=(user_missing(), _MISSING_INPUT, not_workflow_app()),
        note=IDS,
    )
    async def run_workflow(self, request: Request) -> Response:
        """Run the workflow.

        Runs the app's current version. The response to a run that fails is HTTP 200 with the status `failed`. A stream
        that was cut off can be resumed with GET /v1/workflow/{workflow_run_id}/events.
        """
        api = self.api
        served = await api.authenticate(request)
        body = await api.json(request)
        user = user_of(body)
        if served.app.mode != "workflow":
            raise not_workflow_app()
        fields = parse(WorkflowRequest, body)
        if version := request.path_params.get("workflow_id"):
            malformed = RequestError(f"Invalid workflow_id format: '{version}'. ", "bad_request", 400)
            served = await api.apps.version(served.app, as_uuid(version, malformed))
        submission = await run_submission(api, served, user, fields)
        return await run_response(api, request, submission, streamed=fields.get("response_mode") == "streaming")

    @Operation(
        "POST",
        "/workflows/{workflow_id}/run",
        _RUN,
        body=_BODY,
        errors=(
            user_missing(),
            _MISSING_INPUT,
            not_workflow_app(),
            NotFound("Workflow not found with id: ..."),
        ),
    )
    async def run_workflow_version(self, request: Request) -> Response:
        """Run one version of the workflow.

        As POST /v1/workflows/run, for the version that `workflow_id` names.
        """
        return await self.run_workflow(request)

    # ------------------------------------------------------------------------------------------------------ follow

    @Operation(
        "GET",
        "/workflow/{workflow_run_id}/events",
        Media(MessageStreamEvent, examples.RUN_STREAM, EVENT_STREAM),
        parameters=(
            text("user", "The `user` of the run's request", required=True),
            _SNAPSHOT,
            _PAST_PAUSES,
            *STARTING_POINT,
        ),
        errors=(user_missing(), NotFound(_NO_RUN)),
        note=IDS,
    )
    async def follow_workflow_run(self, request: Request) -> Response:
        """Follow a run.

        The run's events as a stream: from now on; or from the beginning (`include_state_snapshot`); or those after a
        position, without gaps or repetitions. Of a run that has ended only workflow_finished is sent, unless a position
        says what is missing.
        """
        served = await self.api.authenticate(request)
        user = user_of(request.query_params)
        view = await self._view(served, request.path_params["workflow_run_id"])
        queued = view.summary.request
        if queued.user != user:
            raise NotFound(_NO_RUN)
        snapshot, past_pauses = _SNAPSHOT.of(request), _PAST_PAUSES.of(request)
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

    @Operation(
        "GET",
        "/workflows/run/{workflow_run_id}",
        Media(WorkflowRun, examples.WORKFLOW_RUN),
        errors=(NotFound(_NO_RUN),),
    )
    async def get_workflow_run(self, request: Request) -> Response:
        """Get a run.

        The run as it is now. `inputs` and `outputs` are JSON in a string.
        """
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

    @Operation(
        "POST",
        "/workflows/tasks/{task_id}/stop",
        Media(Success, {"result": "success"}),
        body=Media(UserRequest, {"user": examples.USER}),
        errors=(user_missing(), not_workflow_app()),
    )
    async def stop_workflow_task(self, request: Request) -> Response:
        """Stop a run.

        Cancels the nodes that are running. A task that is unknown or has ended is not an error.
        """
        served = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if served.app.mode != "workflow":
            raise not_workflow_app()
        await stop_task(self.api, served, request.path_params["task_id"], user)
        return success()

    @Operation(
        "GET",
        "/workflows/logs",
        Media(WorkflowLogPage, _LOGS),
        parameters=(_KEYWORD, _STATUS, _BEFORE, _AFTER, _SESSION, _ACCOUNT, _PAGE, _LIMIT),
    )
    async def list_workflow_logs(self, request: Request) -> Response:
        """List runs.

        The app's runs, newest first.
        """
        served = await self.api.authenticate(request)
        if served.app.mode not in _FLOWING:
            raise not_workflow_app()
        if account := _ACCOUNT.of(request):
            raise InvalidParam(f"Account not found: {account}")  # only end users make runs here
        run_filter = RunFilter(
            app=served.app.id,
            status=_STATUS.of(request),
            before=_BEFORE.of(request),
            after=_AFTER.of(request),
            session=_SESSION.of(request),
            keyword=_KEYWORD.of(request),
            page=_PAGE.of(request),
            limit=_LIMIT.of(request),
        )
        total, stored = await self.api.run_service.runs.list_runs(run_filter)
        runs = [await self.api.listed(served, summary) for summary in stored]
        catalog = self.api.apps.catalog
        versions = {version: await catalog.version(version) for version in {summary.version for summary in runs}}
        page: WorkflowLogPage = {
            "page": run_filter.page,
            "limit": run_filter.limit,
            "total": total,
            "has_more": run_filter.page * run_filter.limit < total,
            "data": [workflow_log(summary, versions[summary.version]) for summary in runs],
        }
        return json_response(page)
