"""What happens when a stream is cut: it is resumed, or the run's outcome is fetched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from headrace_client._async.core import AsyncSession, encode_segment
from headrace_client.errors import APIConnectionError, HeadraceError
from headrace_client.event_reader import EventReader
from headrace_client.models import FINAL, WorkflowRun
from headrace_client.options import PollingPlan
from headrace_client.wire import format_seconds


class AsyncRecovery:
    """Recovers streams of workflow runs."""

    def __init__(
        self,
        session: AsyncSession,
        user: str,
        polling: PollingPlan,
        reopen: Callable[[], Awaitable[httpx.Response | None]] | None = None,
    ) -> None:
        """`reopen` requests the stream from its start, unless that could start a second run."""
        self.session = session
        self.user = user
        self.polling = polling
        self._reopen = reopen

    async def sleep(self, seconds: float) -> None:
        await self.session.transport.sleep(seconds)

    async def resume(self, reader: EventReader) -> httpx.Response | None:
        """The rest of the stream, after the last event; None if the server cannot resume."""
        session, run_id, last_event_id = self.session, reader.run_id, reader.last_event_id
        if run_id is None:
            return None if self._reopen is None or reader.event_count else await self._reopen()
        if last_event_id is None:
            return None
        return await session.retry_not_found(
            lambda: session.transport.request(
                "GET",
                f"/v1/workflow/{encode_segment(run_id)}/events",
                params={"user": self.user, "continue_on_pause": None if reader.ends_at_pause else "true"},
                headers={"Last-Event-ID": last_event_id},
                stream=True,
            )
        )

    async def fetch_outcome(self, reader: EventReader) -> list[dict[str, Any]]:
        """The run's last event, as the stream would have sent it."""
        if reader.run_id is None:
            raise APIConnectionError("the run may or may not have started; see the log of runs")
        return [_last_event(reader, await self._wait_until_over(reader, reader.run_id))]

    async def _wait_until_over(self, reader: EventReader, run_id: str) -> WorkflowRun:
        """A run, once its stream is over; it is requested at once, and then as the polling plan says."""
        plan, clock = self.polling, self.session.transport.clock
        deadline = clock() + plan.timeout
        interval = plan.first
        while True:
            run = await self.session.retry_not_found(lambda: self.session.get_run_detail(run_id))
            if run.status in FINAL or (run.paused and reader.ends_at_pause):
                return run
            remaining = deadline - clock()
            if remaining <= 0:
                raise HeadraceError(f"after {format_seconds(plan.timeout)} the run is still {run.status}")
            await self.sleep(min(interval, remaining))
            interval = plan.after(interval)


class AsyncChatRecovery(AsyncRecovery):
    """Recovers streams of chat messages and completions."""

    async def fetch_outcome(self, reader: EventReader) -> list[dict[str, Any]]:
        """The last event of the run, if there is one, and of the message, with its whole answer."""
        events: list[dict[str, Any]] = []
        failure: str | None = None
        if reader.run_id is not None and reader.finished_event is None:
            run = await self._wait_until_over(reader, reader.run_id)
            events.append(_last_event(reader, run))
            if run.paused:
                return events
            failure = (run.error or f"the run {run.status}") if run.status in ("failed", "stopped") else None
        elif reader.finished_event is not None:
            data: Any = reader.finished_event["data"]
            failure = data.get("error") if data.get("status") in ("failed", "stopped") else None
        ids: dict[str, Any] = {
            "conversation_id": reader.conversation_id,
            "message_id": reader.message_id,
            "task_id": reader.task_id,
        }
        if failure is not None:
            message = f"Run failed: {failure}"
            error = {**ids, "event": "error", "status": 400, "code": "invalid_param", "message": message}
            return [*events, error]
        return [*events, {**ids, **await self._fetch_message(reader), "event": "message_end"}]

    async def _fetch_message(self, reader: EventReader) -> dict[str, Any]:
        """The message in the conversation's history."""
        if reader.message_id is None or reader.conversation_id is None:
            raise APIConnectionError("the message cannot be found in a conversation's history")
        params = {"conversation_id": reader.conversation_id, "user": self.user, "limit": 20}
        plan, clock = self.polling, self.session.transport.clock
        deadline, interval = clock() + plan.timeout, plan.first
        run_ended = reader.run_id is not None
        previous: str | None = None
        while True:
            page = await self.session.transport.get("/v1/messages", params)
            messages: list[dict[str, Any]] = page.get("data") or []
            matches = [message for message in messages if message.get("id") == reader.message_id]
            answer = matches[0].get("answer") if matches else None
            # without a run that shows the end, a message is complete when it does not grow any more
            if answer and (run_ended or answer == previous):
                fields = ("answer", "created_at", "error", "status")
                return {name: matches[0][name] for name in fields if name in matches[0]} | {"id": reader.message_id}
            previous = answer
            remaining = deadline - clock()
            if remaining <= 0:
                raise HeadraceError(f"after {format_seconds(plan.timeout)} the message is not in the history")
            await self.sleep(min(interval, remaining))
            interval = plan.after(interval)


def _last_event(reader: EventReader, run: WorkflowRun) -> dict[str, Any]:
    """`workflow_finished` or `workflow_paused`, made from a run's detail, which does not have the forms."""
    payload: dict[str, Any] = {
        "event": "workflow_paused" if run.paused else "workflow_finished",
        "workflow_run_id": run.workflow_run_id,
        "task_id": reader.task_id,
        "data": {
            "id": run.workflow_run_id,
            "workflow_id": run.workflow_id,
            "status": run.status,
            "outputs": run.outputs if run.outputs is not None else {},
            "error": run.error,
            "elapsed_time": run.elapsed_time,
            "total_tokens": run.total_tokens,
            "total_steps": run.total_steps,
            "created_at": run.created_at,
            "finished_at": run.finished_at,
        },
    }
    if run.paused:
        payload["data"] |= {"workflow_run_id": run.workflow_run_id, "paused_nodes": [], "reasons": []}
    if reader.message_id is not None:
        payload |= {"message_id": reader.message_id, "conversation_id": reader.conversation_id}
    return payload
