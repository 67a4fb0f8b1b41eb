"""Runs: start, follow, get and stop them. The other dialects start and follow theirs with the functions below."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, user_of
from headrace.api.dify import examples
from headrace.api.dify.chat_events import ChatEvents
from headrace.api.dify.chat_responses import BlockingMessage
from headrace.api.dify.event_frames import EventFrames
from headrace.api.dify.run_events import START, RunEvents, StreamPosition
from headrace.api.dify.run_responses import BlockingResponse, workflow_run
from headrace.api.dify.schemas.common import Success
from headrace.api.dify.schemas.message_events import MessageStreamEvent
from headrace.api.dify.schemas.runs import BlockingRun, RunFields, UserRequest, WorkflowRequest, WorkflowRun
from headrace.api.dify.schemas.stream_events import RunStreamEvent
from headrace.api.dify.upload_rules import Uploads
from headrace.api.http.errors import app_unavailable, interrupted, not_workflow_app, user_missing
from headrace.api.http.params import IDS, STARTING_POINT, boolean, text
from headrace.api.http.request_body import parse
from headrace.api.http.responses import EventStream, encode, json_response, success
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, Media
from headrace.api.middleware.request_context import CALLER, TRACE
from headrace.apps.catalog import Release
from headrace.conversations.messages import BASIC, MESSAGES
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.kernel.events import Record, RunId, RunPaused
from headrace.kernel.forms import without_tokens
from headrace.node import Flow
from headrace.nodes.start import Start
from headrace.nodes.trigger import Trigger
from headrace.runs.reader import RunView
from headrace.runs.service import Submission
from headrace.values import File

WITH_WORKFLOW = ("workflow", "advanced-chat")  # modes of apps whose workflow is shown
_NO_RUN = "Workflow run not found"
_STREAM_IDS = re.compile(rb'(?i)(?:^|,)\s*text/event-stream\s*(?:;[^,]*)?;\s*ids="?true"?\s*(?:[;,]|$)')
_MISSING_INPUT = InvalidParam("query is required in input form")
_RUN = (Media(BlockingRun, examples.BLOCKING_RUN), Media(RunStreamEvent, examples.RUN_STREAM, EVENT_STREAM))
_BODY = Media(WorkflowRequest, examples.RUN_REQUEST)
_SNAPSHOT = boolean("include_state_snapshot", "Send past events, too")
_PAST_PAUSES = boolean("continue_on_pause", "Do not end at a pause")


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
        release = await api.authenticate(request)
        body = await api.json(request)
        user = user_of(body)
        if release.app.mode != "workflow":
            raise not_workflow_app()
        fields = parse(WorkflowRequest, body)
        if version := request.path_params.get("workflow_id"):
            malformed = RequestError(f"Invalid workflow_id format: '{version}'. ", "bad_request", 400)
            release = await api.apps.version(release.app, as_uuid(version, malformed))
        submission = await run_submission(api, release, user, fields)
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
        release = await self.api.authenticate(request)
        user = user_of(request.query_params)
        view = await self._view(release, request.path_params["workflow_run_id"])
        run_request = view.summary.request
        if run_request.user != user:
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
        tokens, records = await self.api.answers_forms(request), self.api.run_service.follow(run, on_pause=True)
        close_from = None if past_pauses else max(last, after.seq + 1)
        events = events_for(run, view.release.flow, after)
        stream = stream_events(events, records, run_request.task, close_from, ids=wants_ids(request), tokens=tokens)
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
        release = await self.api.authenticate(request)
        if release.app.mode not in WITH_WORKFLOW:
            raise not_workflow_app()
        view = await self._view(release, request.path_params["workflow_run_id"])
        return json_response(workflow_run(view.records[0].run, view))

    async def _view(self, release: Release, run: str) -> RunView:
        """A run of this app. NotFound for an unknown one, a malformed id, and another app's."""
        view = await self.api.run_service.get(as_uuid(run, NotFound(_NO_RUN)))
        if view is None or view.release.app.id != release.app.id:
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
        release = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if release.app.mode != "workflow":
            raise not_workflow_app()
        await stop_task(self.api, release, request.path_params["task_id"], user)
        return success()


async def run_submission(
    api: Api, release: Release, user: str, fields: RunFields, callback: str | None = None
) -> Submission:
    """A run with valid inputs and files; the files are within the app's limits of uploads. InvalidParam, NotFound, or
    app_unavailable where the app cannot run."""
    flow, end_user = release.flow, await api.apps.end_user(release.app, user)
    files: Sequence[File] = ()
    if mappings := fields.get("files"):
        uploads = Uploads(flow)
        files = [await api.resolve(file, release.app.id) for file in uploads.accepted(mappings)]
        uploads.check(files)
    start = flow.nodes[flow.graph.root]
    if isinstance(start, Trigger):  # as in Dify, the first of several
        inputs = {}
    elif isinstance(start, Start):
        inputs = await start.accept(fields["inputs"], partial(api.resolve, app=release.app.id))
    else:
        raise app_unavailable()
    return Submission(release, user, inputs, files, end_user, callback=callback, trace=TRACE.get(), key=CALLER.get())


async def run_response(api: Api, request: Request, submission: Submission, *, streamed: bool) -> Response:
    """Starts a run, and responds with its events, or at its end. It continues if the client disconnects meanwhile."""
    if streamed:
        return await run_stream(api, request, submission)
    flow, body = submission.release.flow, None
    async with api.run_service.open(submission) as started_run:
        blocking = BlockingMessage if flow.mode in MESSAGES else BlockingResponse
        response = blocking(started_run.run, started_run.task, flow)
        async for record in started_run.records:  # to the end: closing an unfinished iterator is expensive
            body = response.feed(record) or body
    if response.error is not None:
        raise response.error
    if body is None:
        raise RuntimeError(f"run {started_run.run} could not be followed to its end")
    return Response(body, media_type="application/json; charset=utf-8")


def events_for(run: RunId, flow: Flow, after: StreamPosition = START) -> RunEvents:
    """The events of a run, in the dialect of its app."""
    return (ChatEvents if flow.mode in MESSAGES else RunEvents)(run, flow, after)


async def run_stream(api: Api, request: Request, submission: Submission, run: RunId | None = None) -> EventStream:
    """Starts a run, with this id if one is given, and responds with its events."""
    async with AsyncExitStack() as stack:
        started_run = await stack.enter_async_context(api.run_service.open(submission, run))
        events = events_for(started_run.run, started_run.flow)
        stream = stream_events(events, started_run.records, started_run.task, ids=wants_ids(request))
        return EventStream(stream, api.options.ping_seconds, stack.pop_all())


async def stop_task(api: Api, release: Release, task: str, user: str) -> None:
    """Stops the run of a task. As in Dify, an unknown task is not an error, since its run may have ended long ago; nor
    is another end user's in an app without a workflow of its own, where nothing happens."""
    run = await api.run_service.runs.find_task(task)
    summary = await api.run_service.runs.find_run(run) if run else None
    if run is None or summary is None or summary.app != release.app.id:
        return
    if release.app.mode not in BASIC or summary.session == user:
        await api.run_service.stop(run, user)


async def stream_events(
    events: RunEvents,
    records: AsyncGenerator[Record],
    task: str,
    close_from: int | None = 0,
    *,
    ids: bool,
    tokens: bool = True,
) -> AsyncGenerator[bytes]:
    """A run's events as Dify sends them; with `ids` also their positions, and without `tokens` those of forms are null.
    A pause ends the stream if its number is `close_from` or above. An error in the middle becomes an event, since the
    status is already sent."""
    frames = EventFrames(events, ids=ids)
    try:
        async with aclosing(records):
            async for record in records:
                if body := frames.encode(record if tokens else without_tokens(record)):
                    yield body
                if isinstance(record.event, RunPaused) and close_from is not None and (record.seq or 0) >= close_from:
                    return
    except Exception as cause:
        error = interrupted(events.run, cause)
        body = {"status": error.status, "code": error.code, "message": error.message}
        yield b"data: %b\n\n" % encode({"event": "error", "workflow_run_id": events.run, "task_id": task, **body})


def last_event_id(request: Request) -> StreamPosition | None:
    """The position after which a stream continues, as the request has it; None where it has none."""
    text = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    return StreamPosition.parse(text) if text else None


def wants_ids(request: Request) -> bool:
    """Whether a stream's events have ids. Dify's have none, so only a client that requests them gets them
    (docs/decisions/0014): by `Accept: text/event-stream; ids=true`, or by resuming with Last-Event-ID."""
    for name, value in request.scope["headers"]:
        if name == b"last-event-id" or (name == b"accept" and _STREAM_IDS.search(value)):
            return True
    return False
