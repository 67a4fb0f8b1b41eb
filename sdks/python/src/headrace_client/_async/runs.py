"""Workflow runs: asked for, followed, looked at, waited for, stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import httpx

from headrace_client._async.core import AsyncCalls, segment
from headrace_client._async.pages import AsyncPages
from headrace_client._async.recovery import AsyncRecovery
from headrace_client._async.streams import AsyncStream
from headrace_client._async.transport import Timeout
from headrace_client._async.workflow_requests import AsyncAsk
from headrace_client.errors import (
    APIConnectionError,
    APITimeoutError,
    HeadraceError,
    RunFailedError,
    ServerError,
    UsageError,
    WaitTimeoutError,
)
from headrace_client.event_reader import WORKFLOW_ENDS, Reader
from headrace_client.events import Event
from headrace_client.models import (
    Answer,
    CreatedRun,
    NodeExecution,
    Page,
    Payload,
    Result,
    StoppedRun,
    WorkflowLog,
    WorkflowRun,
    workflow_run,
)
from headrace_client.options import PollingPlan
from headrace_client.wire import object_of, seconds, typed

_LONG = 300.0  # seconds that a blocking call may take where nothing else is said
_HOLD = 20.0  # seconds that Headrace is asked to hold a look at a run that is waited for
_GRACE = 5.0  # seconds that the last look of a wait may take

RunRef = str | Answer | Mapping[str, Any]
"""A run's id, or an answer that has it as `workflow_run_id`."""


def run_id_of(run: RunRef) -> str:
    """The id. UsageError where there is none."""
    name = run if isinstance(run, str) else run.get("workflow_run_id") or run.get("id")
    if not isinstance(name, str) or not name:
        raise UsageError("A run's id is needed: a text, or an answer that has workflow_run_id.")
    return name


class AsyncRuns(AsyncCalls):
    """Calls about workflow runs."""

    # ------------------------------------------------------------------------------------------------------ ask for

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
        """Begins a run, and does not wait for it: the answer has its `workflow_run_id`.

        `workflow_id`: an app's id or a version's (Headrace), a published version's (Dify). Left out, or where it is no
        UUID, the workflow that the key is for is run as published. `timeout`: seconds that this call may take.
        `callback_url` and `idempotency_key` are for Headrace; without a key of yours one is made up, so that the
        request can be repeated without making a second run.

        Headrace runs chats, too: `workflow_id` is the app's id, `query` what is asked, and `conversation_id` the
        conversation that goes on; the answer has that of a new one.

        On Dify, which has no asynchronous API, a streaming run is begun and let go of after its first event.
        """
        extra = _given(callback_url=callback_url, query=query, conversation_id=conversation_id)
        ask = self._ask(workflow_id, inputs, files, user, timeout, idempotency_key, extra)
        answer = await ask.headrace("async")
        if answer is not None:
            return typed(CreatedRun, object_of(answer))
        _refuse(extra)
        reader = Reader(WORKFLOW_ENDS)
        answer = await ask.dify("streaming")
        try:
            async for chunk in answer.aiter_bytes():
                for event in reader.feed(chunk):
                    if event.workflow_run_id:
                        self._session.begun(event.workflow_run_id)
                        return _begun(event)
                    if event.event == "error":
                        raise _told_error(event)
        except (httpx.RequestError, ValueError) as error:
            raise APIConnectionError(f"The stream broke before it told the run's id: {error}") from error
        finally:
            await answer.aclose()
        raise APIConnectionError("The stream ended before it told the run's id; the run may have been begun.")

    async def run_workflow(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        workflow_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        timeout: Timeout = _LONG,
        raise_on_failure: bool = False,
    ) -> WorkflowRun:
        """Runs a workflow and waits, on one connection, for the run's end. A failed run is an answer, too, unless
        `raise_on_failure`. For runs of more than a minute prefer `run_and_wait`: proxies cut silent connections."""
        ask = self._ask(workflow_id, inputs, files, user, timeout)
        answer = await ask.headrace("blocking") or await ask.dify("blocking")
        run = await self._with_failed_node(typed(WorkflowRun, workflow_run(object_of(answer))))
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
        """Runs a workflow and tells its events as they come. `timeout`: until the first of them may take so long."""
        return self._stream(self._ask(workflow_id, inputs, files, user, timeout))

    async def run_and_wait(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        workflow_id: str | None = None,
        user: str | None = None,
        files: Sequence[Any] | None = None,
        polling: PollingPlan | None = None,
        raise_on_failure: bool = False,
        query: str | None = None,
        conversation_id: str | None = None,
    ) -> WorkflowRun:
        """Runs a workflow and waits for its end the way that is best with this server: Headrace is asked to tell when
        the run ends; of Dify the run's stream is read, and its detail is polled where that is cut. `query` and
        `conversation_id`: of a chat on Headrace, whose run has an `answer`, see `create_workflow_run`."""
        extra = _given(query=query, conversation_id=conversation_id)
        ask = self._ask(workflow_id, inputs, files, user, None, extra=extra)
        answer = await ask.headrace("async")
        if answer is not None:
            created = typed(CreatedRun, object_of(answer))
            return await self._wait(created.workflow_run_id, polling, hold=True, raise_on_failure=raise_on_failure)
        _refuse(extra)
        plan = polling or self._session.polling
        until = self._transport.clock() + plan.timeout
        async with self._stream(ask, plan) as stream:
            async for event in stream:
                if event.event == "error":
                    raise _told_error(event)
                if stream.run is None and self._transport.clock() >= until:
                    raise _too_long(stream.run_id, "running", plan)
            run = stream.run
        if run is None:  # paused
            return await self._wait(stream.run_id or "", polling, raise_on_failure=raise_on_failure)
        return run.raise_for_status() if raise_on_failure else run

    async def _with_failed_node(self, run: WorkflowRun) -> WorkflowRun:
        """A failed run with the node that failed, which a blocking answer does not name; Headrace tells it."""
        if run.status != "failed" or run.error_node is not None or self._session.known.headrace is False:
            return run
        try:
            detail = await self._status(run.workflow_run_id, None)
        except HeadraceError:  # the run's answer is there, and is what was wanted
            return run
        run.error_node = detail.error_node
        return run

    # --------------------------------------------------------------------------------------------------------- look

    async def get_workflow_run_status(self, run: RunRef, *, timeout: Timeout = None) -> WorkflowRun:
        """How a run stands. `run`: its id, or what `create_workflow_run` answered."""
        return await self._look(run_id_of(run), timeout)

    async def get_workflow_run(self, run: RunRef, *, timeout: Timeout = None) -> WorkflowRun:
        """A run's detail as Dify's `/v1/workflows/run/{id}` has it; inputs and outputs as objects."""
        return await self._session.detail(run_id_of(run), timeout)

    async def wait(
        self,
        run: RunRef,
        *,
        polling: PollingPlan | None = None,
        raise_on_failure: bool = False,
    ) -> WorkflowRun:
        """Looks at a run until it has ended: succeeded, failed, stopped or partial-succeeded. WaitTimeoutError, with
        the last status, when the plan's time is over; the run goes on then."""
        return await self._wait(run_id_of(run), polling, raise_on_failure=raise_on_failure)

    async def _wait(
        self, run: str, polling: PollingPlan | None, *, hold: bool = False, raise_on_failure: bool = False
    ) -> WorkflowRun:
        plan = polling or self._session.polling
        clock = self._transport.clock
        until = clock() + plan.timeout
        interval, status = plan.first, None
        while (left := until - clock()) > 0:
            began = clock()
            try:
                if hold:
                    wait = min(_HOLD, left)
                    told = await self._look(run, left + _GRACE, wait)
                    hold = clock() - began > wait / 2  # one that does not hold is not asked again and again
                else:
                    await self._transport.sleep(min(interval, left))
                    interval = plan.after(interval)
                    told = await self._look(run, max(until - clock(), 0.0) + _GRACE)
            except APITimeoutError as error:
                if clock() < until:
                    raise
                raise _too_long(run, status, plan) from error
            if told.ended:
                return told.raise_for_status() if raise_on_failure else told
            status = told.status
        raise _too_long(run, status, plan)

    async def _look(self, run: str, timeout: Timeout, wait: float | None = None) -> WorkflowRun:
        if run not in self._session.known.fresh:
            return await self._status(run, timeout, wait)
        told = await self._session.settled(lambda: self._status(run, timeout, wait))
        self._session.known.fresh.pop(run, None)
        return told

    async def _status(self, run: str, timeout: Timeout, wait: float | None = None) -> WorkflowRun:
        if self._session.known.headrace is not False:
            path = f"/api/workflow-runs/{segment(run)}"
            held = None if wait is None else {"wait": f"{wait:.3f}"}
            answer = await self._transport.request(
                "GET", path, params=held, timeout=timeout, refused=self._session.foreign
            )
            if self._session.learn(answer):
                return typed(WorkflowRun, workflow_run(object_of(answer)))
        return await self._session.detail(run, timeout)

    def follow_workflow_run(self, run: RunRef, *, user: str | None = None) -> AsyncStream:
        """The events of a run that was begun elsewhere (Headrace), from its first."""
        name, session = run_id_of(run), self._session

        async def start() -> httpx.Response:
            path = f"/api/workflow-runs/{segment(name)}/events"
            return await self._transport.request("GET", path, stream=True)

        recovery = AsyncRecovery(session, user or session.user, session.polling, start)
        return AsyncStream(start, recovery, Reader(WORKFLOW_ENDS))

    async def list_node_executions(self, run: RunRef, *, timeout: Timeout = None) -> list[NodeExecution]:
        """What each node of a run did (Headrace)."""
        path = f"/api/workflow-runs/{segment(run_id_of(run))}/node-executions"
        return typed(Page[NodeExecution], await self._transport.get(path, timeout=timeout)).data

    def list_workflow_runs(self, *, limit: int = 20, **filters: Any) -> AsyncPages[WorkflowRun]:
        """The app's runs, newest first (Headrace). `filters`: status, workflow_id, user, created_after, created_before,
        keyword, source."""

        async def ask(cursor: Any) -> Page[WorkflowRun]:
            params = {**filters, "limit": limit, "cursor": cursor}
            told = await self._transport.get("/api/v1/workflow-runs", params)
            lines: list[dict[str, Any]] = told.get("data") or []
            runs = [workflow_run(line) for line in lines]
            return typed(Page[WorkflowRun], Payload({**told, "data": runs}, told.response))

        return AsyncPages(ask, lambda page: page.next_cursor)

    def list_workflow_logs(self, *, limit: int = 20, page: int = 1, **filters: Any) -> AsyncPages[WorkflowLog]:
        """The log of runs, newest first. `filters`: keyword, status, created_at__before, created_at__after,
        created_by_end_user_session_id, created_by_account."""

        async def ask(number: Any) -> Page[WorkflowLog]:
            params = {**filters, "limit": limit, "page": number}
            told = await self._transport.get("/v1/workflows/logs", params)
            return typed(Page[WorkflowLog], Payload({"page": number, **told}, told.response))

        return AsyncPages(ask, lambda told: (told.page or 1) + 1 if told.has_more else None, page)

    # -------------------------------------------------------------------------------------------------- stop, retry

    async def stop_workflow(self, task_id: str, *, user: str | None = None, timeout: Timeout = None) -> Result:
        """Stops the run of a task. A task that is not known is no error: it may have ended."""
        path = f"/v1/workflows/tasks/{segment(task_id)}/stop"
        return typed(Result, await self._transport.post(path, {"user": user or self._session.user}, timeout))

    async def stop_workflow_run(self, run: RunRef, *, user: str | None = None, timeout: Timeout = None) -> StoppedRun:
        """Stops a run by its id, and tells what it is then (Headrace)."""
        path = f"/api/workflow-runs/{segment(run_id_of(run))}/stop"
        return typed(StoppedRun, await self._transport.post(path, {"user": user or self._session.user}, timeout))

    async def retry_workflow_run(
        self, run: RunRef, *, idempotency_key: str | None = None, timeout: Timeout = None
    ) -> CreatedRun:
        """Begins a new run that goes on where a failed or stopped one ended (Headrace)."""
        answer = await self._transport.request(
            "POST",
            f"/api/workflow-runs/{segment(run_id_of(run))}/retry",
            json={},
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
            timeout=timeout,
        )
        return typed(CreatedRun, object_of(answer))

    # ------------------------------------------------------------------------------------------------------ sending

    def _ask(
        self,
        workflow_id: str | None,
        inputs: Mapping[str, Any] | None,
        files: Sequence[Any] | None,
        user: str | None,
        timeout: Timeout,
        key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> AsyncAsk:
        session = self._session
        return AsyncAsk(session, workflow_id, inputs, files, user or session.user, timeout, key, extra)

    def _stream(self, ask: AsyncAsk, polling: PollingPlan | None = None) -> AsyncStream:
        session = self._session
        recovery = AsyncRecovery(session, ask.user, polling or session.polling, ask.again)
        return AsyncStream(ask.stream, recovery, Reader(WORKFLOW_ENDS))


def _given(**fields: str | None) -> dict[str, str]:
    """Those that were given of the fields that only Headrace's asynchronous API knows."""
    return {name: value for name, value in fields.items() if value}


def _refuse(extra: Mapping[str, str]) -> None:
    """UsageError where something was given that this server does not know."""
    if extra:
        raise UsageError(f"{next(iter(extra))} needs Headrace's asynchronous API, and a workflow_id that it knows.")


def _begun(event: Event) -> CreatedRun:
    """A run that a stream's first event told of."""
    data: Any = event.get("data")
    told = {"workflow_run_id": event.workflow_run_id, "task_id": event.task_id, "status": "running"}
    at = data.get("created_at") if isinstance(data, Answer) else None
    return typed(CreatedRun, told if at is None else {**told, "created_at": at})


def _told_error(event: Event) -> HeadraceError:
    """An error that a stream told of."""
    status, code = event.get("status"), event.get("code")
    kind = RunFailedError if event.workflow_run_id else ServerError
    message = str(event.get("message") or "The run ended with an error.")
    return kind(message, status=status, code=code, run_id=event.workflow_run_id, task_id=event.task_id)


def _too_long(run: str | None, status: str | None, plan: PollingPlan) -> WaitTimeoutError:
    error = WaitTimeoutError(f"The run had not ended after {seconds(plan.timeout)}; it is {status}.", run_id=run)
    error.run_status = status
    return error
