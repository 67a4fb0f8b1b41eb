# Made by generate_sync.py from _async/recovery.py: change that one.
"""What is done when a stream is cut: it is resumed, or its run's outcome is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from headrace_client._sync.core import Session, segment
from headrace_client.errors import APIConnectionError, HeadraceError
from headrace_client.event_reader import Reader
from headrace_client.models import FINAL, WorkflowRun
from headrace_client.options import PollingPlan
from headrace_client.wire import seconds


class Recovery:
    """Of streams of workflow runs."""

    def __init__(
        self,
        session: Session,
        user: str,
        polling: PollingPlan,
        again: Callable[[], httpx.Response | None] | None = None,
    ) -> None:
        """`again` asks for the stream anew, if that begins no second run."""
        self.session = session
        self.user = user
        self.polling = polling
        self._again = again

    def sleep(self, seconds: float) -> None:
        self.session.transport.sleep(seconds)

    def resume(self, reader: Reader) -> httpx.Response | None:
        """The rest of the stream, from the place that was reached; None where the server has no such thing."""
        session, run, place = self.session, reader.run_id, reader.place
        if run is None:
            return None if self._again is None or reader.told else self._again()
        if place is None:
            return None
        return session.settled(
            lambda: session.transport.request(
                "GET",
                f"/v1/workflow/{segment(run)}/events",
                params={"user": self.user},
                headers={"Last-Event-ID": place},
                stream=True,
            )
        )

    def outcome(self, reader: Reader) -> list[dict[str, Any]]:
        """The end of the run, as the event that the stream would have had."""
        if reader.run_id is None:
            raise APIConnectionError("it may have been begun, or not; look at the log of runs")
        run = self.ended(reader.run_id)
        return [finished(reader, run)]

    def ended(self, run: str) -> WorkflowRun:
        """A run, once it has ended; it is looked at at once, and then as the plan says."""
        plan, clock = self.polling, self.session.transport.clock
        until = clock() + plan.timeout
        interval = plan.first
        while True:
            told = self.session.settled(lambda: self.session.detail(run))
            if told.status in FINAL:
                return told
            left = until - clock()
            if left <= 0:
                raise HeadraceError(f"after {seconds(plan.timeout)} the run is still {told.status}")
            self.sleep(min(interval, left))
            interval = plan.after(interval)


class ChatRecovery(Recovery):
    """Of streams of messages."""

    def outcome(self, reader: Reader) -> list[dict[str, Any]]:
        """The end of the run, if it has one, and of the message, with its whole answer."""
        events: list[dict[str, Any]] = []
        failed: str | None = None
        if reader.run_id is not None and reader.finished is None:
            run = self.ended(reader.run_id)
            events.append(finished(reader, run))
            failed = (run.error or f"the run {run.status}") if run.status in ("failed", "stopped") else None
        elif reader.finished is not None:
            data: Any = reader.finished["data"]
            failed = data.get("error") if data.get("status") in ("failed", "stopped") else None
        told: dict[str, Any] = {
            "conversation_id": reader.conversation_id,
            "message_id": reader.message_id,
            "task_id": reader.task_id,
        }
        if failed is not None:
            message = f"Run failed: {failed}"
            error = {**told, "event": "error", "status": 400, "code": "invalid_param", "message": message}
            return [*events, error]
        return [*events, {**told, **self._message(reader), "event": "message_end"}]

    def _message(self, reader: Reader) -> dict[str, Any]:
        """What the conversation's history has on the message."""
        if reader.message_id is None or reader.conversation_id is None:
            raise APIConnectionError("no history tells what became of it")
        params = {"conversation_id": reader.conversation_id, "user": self.user, "limit": 20}
        plan, clock = self.polling, self.session.transport.clock
        until, interval = clock() + plan.timeout, plan.first
        whole = reader.run_id is not None
        before: str | None = None
        while True:
            page = self.session.transport.get("/v1/messages", params)
            messages: list[dict[str, Any]] = page.get("data") or []
            found = [each for each in messages if each.get("id") == reader.message_id]
            answer = found[0].get("answer") if found else None
            # without a run to tell that it has ended, a message is whole when it does not grow any more
            if answer and (whole or answer == before):
                known = ("answer", "created_at", "error", "status")
                return {name: found[0][name] for name in known if name in found[0]} | {"id": reader.message_id}
            before = answer
            left = until - clock()
            if left <= 0:
                raise HeadraceError(f"after {seconds(plan.timeout)} the message is not there")
            self.sleep(min(interval, left))
            interval = plan.after(interval)


def finished(reader: Reader, run: WorkflowRun) -> dict[str, Any]:
    """`workflow_finished`, made from a run's detail."""
    told: dict[str, Any] = {
        "event": "workflow_finished",
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
    if reader.message_id is not None:
        told |= {"message_id": reader.message_id, "conversation_id": reader.conversation_id}
    return told
