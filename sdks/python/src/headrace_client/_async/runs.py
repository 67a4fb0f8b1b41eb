"""Workflow runs: create and stream them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from headrace_client._async.existing_runs import AsyncExistingRuns, wait_timeout
from headrace_client._async.recovery import AsyncRecovery
from headrace_client._async.streams import AsyncStream
from headrace_client._async.transport import Timeout
from headrace_client._async.workflow_requests import AsyncWorkflowRequest
from headrace_client.errors import APIConnectionError, HeadraceError, UsageError
from headrace_client.event_reader import WORKFLOW_ENDS, EventReader
from headrace_client.events import to_created_run, to_error
from headrace_client.models import CreatedRun, WorkflowRun
from headrace_client.options import PollingPlan
from headrace_client.wire import normalize_run, parse_model, parse_object

_BLOCKING_TIMEOUT = 300.0  # default seconds of a blocking call


class AsyncRuns(AsyncExistingRuns):
    """Calls for workflow runs."""

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
            new_run = parse_model(CreatedRun, parse_object(response))
            result = await self._wait(new_run.workflow_run_id, polling, continue_on_pause, long_poll=True)
            return result.raise_for_status() if raise_on_failure else result
        _check_no_extra(extra)
        plan = polling or self._session.polling
        deadline = self._transport.clock() + plan.timeout
        async with self._stream(request, plan) as stream:
            async for event in stream:
                if event.event == "error":
                    raise to_error(event)
                if stream.run is None and self._transport.clock() >= deadline:
                    raise wait_timeout(stream.run_id, "running", plan)
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
