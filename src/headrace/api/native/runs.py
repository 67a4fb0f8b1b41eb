"""Runs for clients that need no open connection: submit, poll, wait, follow, stop, retry."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, named_user, user_of
from headrace.api.dify.message_requests import app_submission
from headrace.api.dify.run_events import START
from headrace.api.dify.runs import events_for, last_event_id, run_stream, stream_events, wants_ids
from headrace.api.http.errors import of_status, user_missing
from headrace.api.http.params import IDS, STARTING_POINT, TEXT_SCHEMA, Parameter, Query, boolean
from headrace.api.http.request_body import parse
from headrace.api.http.responses import EventStream, json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, JSON
from headrace.api.native.execution_filter import EXECUTION_PARAMETERS, ExecutionFilter
from headrace.api.native.idempotency import KEY_ERRORS, KEY_PARAMETER
from headrace.api.native.node_executions import executions
from headrace.api.native.run_finder import RUN, RUN_ERRORS, RunFinder, accepted
from headrace.api.native.run_includes import RUN_INCLUDE, RunIncludes
from headrace.api.native.run_watch import RunStatus
from headrace.api.native.schemas import runs
from headrace.api.native.schemas.common import NO_WORKFLOW, RUNS_TAG
from headrace.api.native.schemas.executions import EXECUTIONS
from headrace.api.native.schemas.runs import RunOptions, StoppedRun
from headrace.api.native.services import NativeServices
from headrace.apps.catalog import Release
from headrace.errors import InvalidParam, NotFound, TooManyRequests
from headrace.kernel.events import RunId
from headrace.runs.service import Submission
from headrace.values import Value

_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}", re.ASCII)
_LONGEST_WAIT = 60.0
_STOP_SECONDS = 1.0  # how long a stop waits to see the run stopped


def _seconds(value: str) -> float:
    """How many seconds a poll may be held."""
    if not _SECONDS.fullmatch(value) or float(value) > _LONGEST_WAIT:
        raise _bad_wait(value)
    return float(value)


def _bad_wait(value: str) -> InvalidParam:
    return InvalidParam(f"wait: Input should be a number of seconds from 0 to {_LONGEST_WAIT:g}, not {value[:50]!r}")


_SUBMIT_ERRORS = (
    user_missing(),
    NO_WORKFLOW,
    *KEY_ERRORS,
    TooManyRequests("Too many requests. Please try again later."),
)
_WAIT_SCHEMA = {"type": "number", "minimum": 0, "maximum": _LONGEST_WAIT, "default": 0}
_WAIT = Query("query", "wait", "Seconds", _WAIT_SCHEMA, default=0.0, parse=_seconds, error=_bad_wait("long"))
_KNOWN = Parameter("header", "If-None-Match", "The ETag of an earlier response", TEXT_SCHEMA)
_PAST_PAUSES = boolean("continue_on_pause", "Do not end at a pause")


class NativeRunRoutes(Routes):
    """`/workflows/{workflow_id}/run` and `/workflow-runs/{workflow_run_id}...`. Another app's are not found."""

    tag = RUNS_TAG

    def __init__(self, api: Api, services: NativeServices, finder: RunFinder) -> None:
        super().__init__(api)
        self._once = services.idempotency.once
        self._finder = finder
        self._includes = RunIncludes(api)

    # --------------------------------------------------------------------------------------------------------- run

    @Operation(
        "POST",
        "/workflows/{workflow_id}/run",
        {202: runs.ACCEPTED, 200: [runs.RUN, runs.STREAM]},
        parameters=[KEY_PARAMETER],
        body=runs.SUBMIT,
        errors=_SUBMIT_ERRORS,
    )
    async def submit_run(self, request: Request) -> Response:
        """Run a workflow, or send a message to a chat.

        Returns 202 once the run is stored; it is executed whatever `response_mode` says. Two exceptions: `blocking`
        returns 200 with the run once it has ended or paused, as GET /workflow-runs/{workflow_run_id} does; `streaming`
        returns 200 with the run's events if the request has `Accept: text/event-stream`. With a `callback_url`, a
        signed message is sent there when the run ends or pauses.

        A workflow needs no `query`: it is the input of that name where the start node declares one and `inputs` has
        none, and is ignored elsewhere. For a chat or chatflow the `query` is the message, in a new conversation or the
        one that `conversation_id` names; the response has its `conversation_id`, and the `message_id`, which is the
        run's.
        """
        release = await self.api.authenticate(request)
        _check_json(request)
        body = await self.api.body(request)

        async def handle(run: RunId | None) -> Response:
            fields = self.api.object_of(body)
            options = parse(RunOptions, fields)
            mode = _mode(request, options.get("response_mode"))
            callback = options.get("callback_url")
            submission = await self._submission(release, request.path_params["workflow_id"], fields, callback, run)
            if mode == "async":
                return accepted(await self.api.run_service.submit(submission, run))
            if mode == "streaming":
                return await run_stream(self.api, request, submission, run)
            return await self._block(submission, run)

        return await self._once(request, release, body, handle)

    async def _submission(
        self, release: Release, workflow: str, fields: Mapping[str, Value], callback: str | None, run: RunId | None
    ) -> Submission:
        user = user_of(fields)
        workflow_id = as_uuid(workflow, NotFound(f"Workflow not found with id: {workflow[:50]}"))
        if workflow_id != release.app.id:
            release = await self.api.apps.version(release.app, workflow_id)
        return await app_submission(self.api, release, user, fields, callback=callback, run=run)

    async def _block(self, submission: Submission, run: RunId | None) -> Response:
        """Waits for the run's end or pause. The run continues if the client disconnects meanwhile."""
        async with self.api.run_service.open(submission, run) as started_run:
            run_status = RunStatus(started_run.run, started_run.flow)
            async for record in started_run.records:
                run_status.apply(record)
        return Response(bytes(run_status.response().body), media_type=JSON)

    # --------------------------------------------------------------------------------------------------------- get

    @Operation("GET", RUN, {200: runs.RUN, 304: ()}, parameters=(_WAIT, RUN_INCLUDE, _KNOWN), errors=RUN_ERRORS)
    async def get_run(self, request: Request) -> Response:
        """Get a run, or wait for its end.

        The run as it is now. With `wait`, the response comes when the run ends, or after so many seconds.
        `outputs`, `finished_at` and `elapsed_time` are null until it has ended; `error_node` is the node whose failure
        ended it. With If-None-Match, 304 if nothing has happened since. A run that responds to a message also has
        `query`, `answer` (as far as it has come), `conversation_id` and `message_id`.
        """
        release = await self.api.authenticate_run(request)
        run_status = await self._finder.status(release, request.path_params["workflow_run_id"], _WAIT.of(request))
        tags = request.headers.get("if-none-match")
        if tags and run_status.tag in (tag.strip().removeprefix("W/") for tag in tags.split(",")):
            return Response(status_code=304, headers={"ETag": run_status.tag})
        if include := RUN_INCLUDE.of(request):
            return json_response(await self._includes.detail(request, run_status, include))
        return run_status.response()

    @Operation("GET", f"{RUN}/node-executions", EXECUTIONS, parameters=EXECUTION_PARAMETERS, errors=RUN_ERRORS)
    async def list_node_executions(self, request: Request) -> Response:
        """See what each node did.

        The nodes of a run that have started, in order of their start; those inside an iteration or a loop once a round.
        `attempts` are those that failed and were followed by another. `reused`: taken over from the run that this one
        is a retry of. A run of many rounds is best read in parts: `top`, then `parent` and `round`.
        """
        release = await self.api.authenticate_run(request)
        execution_filter = ExecutionFilter.of(request)
        return json_response({"data": executions(await self._finder.view(release, request), execution_filter)})

    @Operation(
        "GET",
        f"{RUN}/events",
        runs.STREAM,
        parameters=(_PAST_PAUSES, *STARTING_POINT),
        errors=[InvalidParam("Last-Event-ID 99 is beyond the run's last event, 12"), *RUN_ERRORS],
        note=IDS,
    )
    async def follow_run(self, request: Request) -> Response:
        """Follow a run.

        The run's events from the beginning, or those after a starting point, each exactly once, until the run ends or
        pauses.
        """
        release = await self.api.authenticate_run(request)
        view = await self._finder.view(release, request)
        past_pauses, last = _PAST_PAUSES.of(request), view.summary.seq
        after = last_event_id(request) or START
        if after.seq > last:
            raise InvalidParam(f"Last-Event-ID {after} is beyond the run's last event, {last}")
        run, task = view.records[0].run, view.summary.request.task
        tokens, records = await self.api.answers_forms(request), self.api.run_service.follow(run, on_pause=True)
        events, close_from = (
            events_for(run, view.release.flow, after),
            None if past_pauses else max(last, after.seq + 1),
        )
        stream = stream_events(events, records, task, close_from, ids=wants_ids(request), tokens=tokens)
        return EventStream(stream, self.api.options.ping_seconds)

    # --------------------------------------------------------------------------------------------------------- stop

    @Operation("POST", f"{RUN}/stop", runs.STOPPED, body=runs.STOP, body_required=False, errors=RUN_ERRORS)
    async def stop_run(self, request: Request) -> Response:
        """Stop a run.

        Cancels the running nodes, and returns the run's status: usually `stopped`, or what it was if it had ended
        already.
        """
        release = await self.api.authenticate_run(request)
        raw = await self.api.body(request)
        by = named_user(self.api.object_of(raw).get("user") if raw else None) or "api"
        run_status = await self._finder.status(release, request.path_params["workflow_run_id"])
        if run_status.summary.ended is None:
            await self.api.run_service.stop(run_status.run, by)
            run_status = await self._finder.status(release, run_status.run, _STOP_SECONDS)
        body: StoppedRun = {
            "workflow_run_id": run_status.run,
            "task_id": run_status.summary.request.task,
            "status": run_status.summary.status,
        }
        return json_response(body)


def _check_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != JSON and not content_type.endswith("+json"):
        raise of_status(415)


def _mode(request: Request, mode: str | None) -> str:
    """Clients of Dify's API write `streaming` into every request: only one that accepts events gets them."""
    if mode is None or (mode == "streaming" and EVENT_STREAM not in request.headers.get("accept", "").lower()):
        return "async"
    return mode
