"""The list of an app's runs, page after page. A cursor names the last run of a page, so that runs which begin
meanwhile neither shift the pages nor are told twice."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.http.json import encode
from headrace.api.http.routing import OperationList
from headrace.api.native import run_docs as operations
from headrace.api.openapi import add_get
from headrace.conversations.messages import MESSAGES
from headrace.errors import InvalidParam
from headrace.kernel.events import RunId, RunPaused, RunStarted
from headrace.ports import App, RunFilter, RunSummary
from headrace.times import times
from headrace.values import Value

_STATUSES = ("queued", "running", "paused", "succeeded", "partial-succeeded", "failed", "stopped")
_NUMBER = re.compile(r"-?\d{1,12}(\.\d{0,9})?", re.ASCII)


class RunListRoutes:
    """`/workflow-runs`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def add_to(self, router: OperationList) -> None:
        add_get(router, "/workflow-runs", self.listed, operations.LIST)

    async def listed(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        which, status = _filter(served.app.id, request.query_params)
        _, found = await self.api.run_service.runs.list_runs(which)
        page, more = found[: which.limit - 1], len(found) == which.limit
        lines = [await self._line(served.app, await self.api.listed(served, summary)) for summary in page]
        told = {
            "data": [line for line in lines if status is None or line["status"] == status],
            "next_cursor": cursor_of(page[-1].created_at, page[-1].run) if more else None,
        }
        return Response(encode(told), media_type="application/json")

    async def _line(self, app: App, summary: RunSummary) -> dict[str, Value]:
        line: dict[str, Value] = {
            "id": summary.run,
            "workflow_id": summary.version,
            "app_id": summary.app,
            "status": await self._queued(summary.run) if summary.status == "running" else summary.status,
            "error": summary.error,
            "total_tokens": summary.tokens,
            "total_steps": summary.steps,
            "exceptions_count": summary.exceptions,
            **times(created_at=summary.created_at, finished_at=summary.finished_at),
            "elapsed_time": None if summary.finished_at is None else round(summary.elapsed, 6),
            "user": summary.session,
            "source": summary.source,
        }
        if app.mode in MESSAGES:
            message = await self.api.run_service.conversations.find_message(summary.run)
            line |= {"conversation_id": message and message.conversation, "message_id": summary.run}
        return line

    async def _queued(self, run: RunId) -> str:
        """Whether an unfinished run has been taken up yet: the list does not say, so that it need not be written for
        it."""
        if run in self.api.run_service.driving:
            return "running"
        events = [record.event for record in await self.api.run_service.world.journal.read(run)]
        if events and isinstance(events[-1], RunPaused):
            return "paused"
        return "running" if any(isinstance(event, RunStarted) for event in events) else "queued"


def _filter(app: str, query: Mapping[str, str]) -> tuple[RunFilter, str | None]:
    """(what to read: one run more than a page shows, the status to show). InvalidParam where it makes no sense."""
    status = query.get("status") or None
    if status is not None and status not in _STATUSES:
        raise InvalidParam(f"status: Input should be one of {', '.join(_STATUSES)}")
    cursor = query.get("cursor")
    which = RunFilter(
        app=app,
        status="running" if status == "queued" else status,
        before=_time(query, "created_before"),
        after=_time(query, "created_after"),
        session=query.get("user") or None,
        keyword=query.get("keyword") or None,
        limit=_limit(query.get("limit", "")) + 1,
        version=_version(query.get("workflow_id", "")),
        source=query.get("source") or None,
        older=place_of(cursor) if cursor else None,
        counted=False,
    )
    return which, status


def _version(text: str) -> str | None:
    return as_uuid(text, InvalidParam(f"workflow_id: {text[:50]!r} is no id")) if text else None


def _limit(text: str) -> int:
    if not text:
        return 20
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:18]) <= 100:
        raise InvalidParam(f"limit: Input should be an integer from 1 to 100, not {text[:50]!r}")
    return int(text)


def _time(query: Mapping[str, str], name: str) -> float | None:
    """Seconds since the epoch, given so, or as an ISO 8601 time (UTC unless it says otherwise)."""
    text = query.get(name, "").strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidParam(f"{name}: {text[:50]!r} is neither a number of seconds nor an ISO 8601 time") from None


def cursor_of(at: float, id_: str) -> str:
    """What stands for the last entry of a page, of a list whose order is (time, id)."""
    return base64.urlsafe_b64encode(f"{at!r} {id_}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[float, str]:
    """Where a cursor says that the page before ended. InvalidParam where it is none of ours."""
    try:
        at, _, run = base64.b64decode(cursor + "=" * (-len(cursor) % 4), "-_", validate=True).decode().partition(" ")
        place = float(at), str(UUID(run))
        if not math.isfinite(place[0]):
            raise ValueError(at)
    except (ValueError, binascii.Error):
        raise InvalidParam("cursor: Input should be the next_cursor of the page before") from None
    return place
