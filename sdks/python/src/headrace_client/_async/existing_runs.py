"""Workflow runs that exist: status, wait, events, lists, stop, retry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx

from headrace_client._async.core import AsyncResource, encode_segment
from headrace_client._async.pages import AsyncPages
from headrace_client._async.recovery import AsyncRecovery
from headrace_client._async.streams import AsyncStream
from headrace_client._async.transport import Timeout
from headrace_client.errors import APITimeoutError, UsageError, WaitTimeoutError
from headrace_client.event_reader import WORKFLOW_ENDS, EventReader
from headrace_client.models import CreatedRun, NodeExecution, Result, StoppedRun, WorkflowLog, WorkflowRun
from headrace_client.options import PollingPlan
from headrace_client.response_model import Page, Payload, ResponseModel
from headrace_client.wire import format_seconds, normalize_run, parse_model, parse_object

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


class AsyncExistingRuns(AsyncResource):
    """Calls for workflow runs that exist."""

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
        result = await self._wait(to_run_id(run), polling, continue_on_pause)
        return result.raise_for_status() if raise_on_failure else result

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
                raise wait_timeout(run_id, status, plan) from error
            if run.ended or (run.paused and not continue_on_pause):
                return run
            status = run.status
        raise wait_timeout(run_id, status, plan)

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


def wait_timeout(run_id: str | None, status: str | None, plan: PollingPlan) -> WaitTimeoutError:
    message = f"The run had not ended after {format_seconds(plan.timeout)}; it is {status}."
    error = WaitTimeoutError(message, run_id=run_id)
    error.run_status = status
    return error
