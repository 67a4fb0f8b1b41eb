"""Workflow runs: create, stream, read, wait for, stop, retry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx

from headrace_client._async.core import AsyncResource, encode_segment
from headrace_client._async.pages import AsyncPages
from headrace_client._async.recovery import AsyncRecovery
from headrace_client._async.streams import AsyncStream
from headrace_client._async.transport import Timeout
from headrace_client._async.workflow_requests import AsyncWorkflowRequest
from headrace_client.errors import (
    APIConnectionError,
    APITimeoutError,
    HeadraceError,
    UsageError,
    WaitTimeoutError,
)
from headrace_client.event_reader import WORKFLOW_ENDS, EventReader
from headrace_client.events import to_created_run, to_error
from headrace_client.models import CreatedRun, NodeExecution, Result, StoppedRun, WorkflowLog, WorkflowRun
from headrace_client.options import PollingPlan
from headrace_client.response_model import Page, Payload, ResponseModel
from headrace_client.wire import format_seconds, normalize_run, parse_model, parse_object

_BLOCKING_TIMEOUT = 300.0  # default seconds of a blocking call
_LONG_POLL = 20.0  # seconds for which Headrace may hold a request until the run ends
_GRACE = 5.0  # seconds that the last request of a wait may take

RunRef = str | ResponseModel | Mapping[str, Any]
"""A run's id, or a response that has it as `workflow_run_id`."""


def to_run_id(run: RunRef) -> str:
    """The run's id. UsageError if there is none."""
    run_id = run if isinstance(run, str) else run.get("workflow_run_id") or run.get("id")
    if not isinstance(run_id, str) or not run_id:
        raise UsageError("A run id is required: a string, or a response that has workflow_run_id.")
    return run_id


class AsyncRuns(AsyncResource):
    """Calls for workflow runs."""

    # ------------------------------------------------------------------------------------------------------- create

    async def create_workflow_run(
        self,
        workflow_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        *,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = None,
        idempotency_key: str | None = None,
        callback_url: str | None = None,
        query: str | None = None,
        conversation_id: str | None = None,
    ) -> CreatedRun:
        """Starts a run without waiting for its end; the response has its `workflow_run_id`.

        `workflow_id`: the id of an app or a version (Headrace), or of a published version (Dify). If it is left out or
        is not a UUID, the published workflow of the API key is run. `timeout`: seconds for this call. `callback_url`
        and `idempotency_key` are for Headrace; a key is generated if none is given, so that the request can be retried
        without starting a second run.

        Headrace also runs chats: `workflow_id` is the app's id, `query` the user's message, and `conversation_id` the
        conversation to continue; the response has the id of a new one.

        On Dify, which has no asynchronous API, a streaming run is started and its stream closed after the first event.
        """
        extra = _non_empty(callback_url=callback_url, query=query, conversation_id=conversation_id)
        request = self._build_request(workflow_id, inputs, files, user, timeout, idempotency_key, extra)
        response = await request.send_to_headrace("async")
        if response is not None:
            return parse_model(CreatedRun, parse_object(response))
        _check_no_extra(extra)
        reader = EventReader(WORKFLOW_ENDS)
        response = await request.send_to_dify("streaming")
        try:
            async for chunk in response.aiter_bytes():
                for event in reader.feed(chunk):
                    if event.workflow_run_id:
                        self._session.add_new_run(event.workflow_run_id)
                        return to_created_run(event)
                    if event.event == "error":
                        raise to_error(event)
        except (httpx.RequestError, ValueError) as error:
            raise APIConnectionError(f"The stream broke before it named the run: {error}") from error
        finally:
            await response.aclose()
        raise APIConnectionError("The stream ended before it named the run; the run may have started.")

    async def run_workflow(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        workflow_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = _BLOCKING_TIMEOUT,
        raise_on_failure: bool = False,
    ) -> WorkflowRun:
        """Runs a workflow and waits for its end on one connection. A failed run is returned, too, unless
        `raise_on_failure`. For runs of more than a minute prefer `run_and_wait`: proxies close idle connections."""
        request = self._build_request(workflow_id, inputs, files, user, timeout)
        response = await request.send_to_headrace("blocking") or await request.send_to_dify("blocking")
        run = await self._add_failed_node(parse_model(WorkflowRun, normalize_run(parse_object(response))))
        return run.raise_for_status() if raise_on_failure else run

    def stream_workflow(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        workflow_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = None,
    ) -> AsyncStream:
        """Runs a workflow and streams its events. `timeout`: seconds until the first event."""
        return self._stream(self._build_request(workflow_id, inputs, files, user, timeout))

    async def run_and_wait(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        workflow_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        polling: PollingPlan | None = None,
        raise_on_failure: bool = False,
        continue_on_pause: bool = True,
        query: str | None = None,
        conversation_id: str | None = None,
    ) -> WorkflowRun:
        """Runs a workflow and waits for its end in the way that suits the server: by long polling on Headrace; on Dify
        by reading the run's stream, and by polling if that is cut. Without `continue_on_pause` a run that pauses is
        returned, too. `query` and `conversation_id`: for a chat on Headrace, whose run has an `answer`; see
        `create_workflow_run`."""
        extra = _non_empty(query=query, conversation_id=conversation_id)
        request = self._build_request(workflow_id, inputs, files, user, None, extra=extra)
        response = await request.send_to_headrace("async")
        if response is not None:
            created = parse_model(CreatedRun, parse_object(response))
            ended = await self._wait(created.workflow_run_id, polling, continue_on_pause, long_poll=True)
            return ended.raise_for_status() if raise_on_failure else ended
        _check_no_extra(extra)
        plan = polling or self._session.polling
        deadline = self._transport.clock() + plan.timeout
        async with self._stream(request, plan) as stream:
            async for event in stream:
                if event.event == "error":
                    raise to_error(event)
                if stream.run is None and self._transport.clock() >= deadline:
                    raise _wait_timeout(stream.run_id, "running", plan)
            run = stream.run
        if run is None:  # paused
            run = await self._wait(stream.run_id or "", polling, continue_on_pause)
        return run.raise_for_status() if raise_on_failure else run

    async def _add_failed_node(self, run: WorkflowRun) -> WorkflowRun:
        """Adds the node that failed, which a blocking response does not name; Headrace's status has it."""
        if run.status != "failed" or run.error_node is not None or self._session.state.has_async_api is False:
            return run
        try:
            status = await self._fetch_status(run.workflow_run_id, None)
        except HeadraceError:  # the run itself is known, and is what the caller requested
            return run
        run.error_node = status.error_node
        return run

    # --------------------------------------------------------------------------------------------------------- read

    async def get_workflow_run_status(self, run: RunRef, *, timeout: Timeout = None) -> WorkflowRun:
        """The current state of a run. `run`: its id, or the object that `create_workflow_run` returned."""
        return await self._get_status(to_run_id(run), timeout)

    async def get_workflow_run(self, run: RunRef, *, timeout: Timeout = None) -> WorkflowRun:
        """A run's detail as Dify's `/v1/workflows/run/{id}` returns it; inputs and outputs as objects."""
        return await self._session.get_run_detail(to_run_id(run), timeout)

    async def wait(
        self,
        run: RunRef,
        *,
        polling: PollingPlan | None = None,
        raise_on_failure: bool = False,
        continue_on_pause: bool = True,
    ) -> WorkflowRun:
        """Polls a run until it has ended: succeeded, failed, stopped or partial-succeeded. Without `continue_on_pause`
        a run that has paused is returned, too. WaitTimeoutError, with the last status, after the plan's timeout; the
        run itself continues."""
        ended = await self._wait(to_run_id(run), polling, continue_on_pause)
        return ended.raise_for_status() if raise_on_failure else ended

    async def _wait(
        self, run_id: str, polling: PollingPlan | None, continue_on_pause: bool, *, long_poll: bool = False
    ) -> WorkflowRun:
        plan = polling or self._session.polling
        clock = self._transport.clock
        deadline = clock() + plan.timeout
        interval, status = plan.first, None
        while (remaining := deadline - clock()) > 0:
            started_at = clock()
            try:
                if long_poll:
                    wait = min(_LONG_POLL, remaining)
                    run = await self._get_status(run_id, remaining + _GRACE, wait)
                    long_poll = clock() - started_at > wait / 2  # a server that returns at once is polled instead
                else:
                    await self._transport.sleep(min(interval, remaining))
                    interval = plan.after(interval)
                    run = await self._get_status(run_id, max(deadline - clock(), 0.0) + _GRACE)
            except APITimeoutError as error:
                if clock() < deadline:
                    raise
                raise _wait_timeout(run_id, status, plan) from error
            if run.ended or (run.paused and not continue_on_pause):
                return run
            status = run.status
        raise _wait_timeout(run_id, status, plan)

    async def _get_status(self, run_id: str, timeout: Timeout, wait: float | None = None) -> WorkflowRun:
        if run_id not in self._session.state.new_runs:
            return await self._fetch_status(run_id, timeout, wait)
        run = await self._session.retry_not_found(lambda: self._fetch_status(run_id, timeout, wait))
        self._session.state.new_runs.pop(run_id, None)
        return run

    async def _fetch_status(self, run_id: str, timeout: Timeout, wait: float | None = None) -> WorkflowRun:
        if self._session.state.has_async_api is not False:
            path = f"/api/workflow-runs/{encode_segment(run_id)}"
            params = None if wait is None else {"wait": f"{wait:.3f}"}
            response = await self._transport.request(
                "GET", path, params=params, timeout=timeout, accept=self._session.is_foreign
            )
            if self._session.detect_async_api(response):
                return parse_model(WorkflowRun, normalize_run(parse_object(response)))
        return await self._session.get_run_detail(run_id, timeout)

    def follow_workflow_run(self, run: RunRef, *, user: str | None = None) -> AsyncStream:
        """All events of an existing run (Headrace). See also `stream_workflow_events`."""
        run_id, session = to_run_id(run), self._session

        async def start() -> httpx.Response:
            path = f"/api/workflow-runs/{encode_segment(run_id)}/events"
            return await self._transport.request("GET", path, stream=True)

        recovery = AsyncRecovery(session, user or session.user, session.polling, start)
        return AsyncStream(start, recovery, EventReader(WORKFLOW_ENDS))

    def stream_workflow_events(
        self,
        run: RunRef,
        *,
        user: str | None = None,
        include_state_snapshot: bool = False,
        continue_on_pause: bool = False,
    ) -> AsyncStream:
        """The events of an existing run from now on, as after a pause; of a run that has ended, only its end. `user`:
        the user of the run. `include_state_snapshot`: past events, too. `continue_on_pause`: the stream does not end
        when the run pauses again."""
        run_id, session = to_run_id(run), self._session
        name = user or session.user
        params = {
            "user": name,
            "include_state_snapshot": "true" if include_state_snapshot else None,
            "continue_on_pause": "true" if continue_on_pause else None,
        }

        async def start() -> httpx.Response:
            path = f"/v1/workflow/{encode_segment(run_id)}/events"
            return await self._transport.request("GET", path, params=params, stream=True)

        recovery = AsyncRecovery(session, name, session.polling, start)
        ends = WORKFLOW_ENDS - {"workflow_paused"} if continue_on_pause else WORKFLOW_ENDS
        return AsyncStream(start, recovery, EventReader(ends))

    async def list_node_executions(self, run: RunRef, *, timeout: Timeout = None) -> list[NodeExecution]:
        """The executions of a run's nodes (Headrace)."""
        path = f"/api/workflow-runs/{encode_segment(to_run_id(run))}/node-executions"
        return parse_model(Page[NodeExecution], await self._transport.get(path, timeout=timeout)).data

    def list_workflow_runs(self, *, limit: int = 20, **filters: Any) -> AsyncPages[WorkflowRun]:
        """The app's runs, newest first (Headrace). `filters`: status, workflow_id, user, created_after, created_before,
        keyword, source."""

        async def fetch(cursor: Any) -> Page[WorkflowRun]:
            params = {**filters, "limit": limit, "cursor": cursor}
            payload = await self._transport.get("/api/v1/workflow-runs", params)
            items: list[dict[str, Any]] = payload.get("data") or []
            runs = [normalize_run(item) for item in items]
            return parse_model(Page[WorkflowRun], Payload({**payload, "data": runs}, payload.response))

        return AsyncPages(fetch, lambda page: page.next_cursor)

    def list_workflow_logs(self, *, limit: int = 20, page: int = 1, **filters: Any) -> AsyncPages[WorkflowLog]:
        """The log of runs, newest first. `filters`: keyword, status, created_at__before, created_at__after,
        created_by_end_user_session_id, created_by_account."""

        async def fetch(number: Any) -> Page[WorkflowLog]:
            params = {**filters, "limit": limit, "page": number}
            payload = await self._transport.get("/v1/workflows/logs", params)
            return parse_model(Page[WorkflowLog], Payload({"page": number, **payload}, payload.response))

        return AsyncPages(fetch, lambda current: (current.page or 1) + 1 if current.has_more else None, page)

    # -------------------------------------------------------------------------------------------------- stop, retry

    async def stop_workflow(self, task_id: str, *, user: str | None = None, timeout: Timeout = None) -> Result:
        """Stops the run of a task. An unknown task is not an error: it may have ended."""
        path = f"/v1/workflows/tasks/{encode_segment(task_id)}/stop"
        return parse_model(Result, await self._transport.post(path, {"user": user or self._session.user}, timeout))

    async def stop_workflow_run(self, run: RunRef, *, user: str | None = None, timeout: Timeout = None) -> StoppedRun:
        """Stops a run by its id, and returns its new status (Headrace)."""
        path = f"/api/workflow-runs/{encode_segment(to_run_id(run))}/stop"
        return parse_model(StoppedRun, await self._transport.post(path, {"user": user or self._session.user}, timeout))

    async def retry_workflow_run(
        self, run: RunRef, *, idempotency_key: str | None = None, timeout: Timeout = None
    ) -> CreatedRun:
        """Starts a new run that continues where a failed or stopped one ended (Headrace)."""
        response = await self._transport.request(
            "POST",
            f"/api/workflow-runs/{encode_segment(to_run_id(run))}/retry",
            json={},
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
            timeout=timeout,
        )
        return parse_model(CreatedRun, parse_object(response))

    # ------------------------------------------------------------------------------------------------------ sending

    def _build_request(
        self,
        workflow_id: str | None,
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str | None,
        timeout: Timeout,
        key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> AsyncWorkflowRequest:
        session = self._session
        return AsyncWorkflowRequest(session, workflow_id, inputs, files, user or session.user, timeout, key, extra)

    def _stream(self, request: AsyncWorkflowRequest, polling: PollingPlan | None = None) -> AsyncStream:
        session = self._session
        recovery = AsyncRecovery(session, request.user, polling or session.polling, request.reopen_stream)
        return AsyncStream(request.open_stream, recovery, EventReader(WORKFLOW_ENDS))


def _non_empty(**fields: str | None) -> dict[str, str]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value}


def _check_no_extra(extra: Mapping[str, str]) -> None:
    """UsageError if there is a field that this server does not support."""
    if extra:
        raise UsageError(f"{next(iter(extra))} needs Headrace's asynchronous API, and a workflow_id that exists there.")


def _wait_timeout(run_id: str | None, status: str | None, plan: PollingPlan) -> WaitTimeoutError:
    message = f"The run had not ended after {format_seconds(plan.timeout)}; it is {status}."
    error = WaitTimeoutError(message, run_id=run_id)
    error.run_status = status
    return error
