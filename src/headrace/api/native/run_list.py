"""The list of an app's runs, page after page. A cursor names the last run of a page, so that runs which begin
meanwhile neither shift the pages nor appear twice."""

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

from headrace.api.auth import Api
from headrace.api.http.params import maybe_id, number
from headrace.api.http.responses import json_response
from headrace.api.http.routing import PAGE_PARAMETERS, TEXT_SCHEMA, UUID_SCHEMA, Operation, parameter, tagged
from headrace.api.native.schemas import runs
from headrace.api.native.schemas.common import BAD_CURSOR, BAD_LIMIT, RUNS_TAG
from headrace.api.native.schemas.runs import RunLine, RunPage
from headrace.conversations.messages import MESSAGES
from headrace.errors import InvalidParam
from headrace.kernel.events import RunId
from headrace.kernel.status import QUEUED, RUNNING, STATUSES, status_of
from headrace.ports import App, ListedRun, RunFilter
from headrace.times import milliseconds, whole_seconds

_NUMBER = re.compile(r"-?\d{1,12}(\.\d{0,9})?", re.ASCII)


_PARAMETERS = [
    parameter("query", "status", "Runs of this status", {"type": "string", "enum": list(STATUSES)}),
    parameter("query", "workflow_id", "Runs of this version", UUID_SCHEMA),
    parameter("query", "user", "The `user` that the runs were requested with", TEXT_SCHEMA),
    parameter("query", "created_after", "Seconds since the epoch, or ISO 8601", TEXT_SCHEMA),
    parameter("query", "created_before", "Seconds since the epoch, or ISO 8601", TEXT_SCHEMA),
    parameter("query", "keyword", "Found in the inputs, the outputs or the id", TEXT_SCHEMA),
    parameter("query", "source", "`service-api`, or `batch:` and a batch's id", TEXT_SCHEMA),
    *PAGE_PARAMETERS,
]


class RunListRoutes:
    """`/workflow-runs`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def operations(self) -> list[Operation]:
        return tagged(
            RUNS_TAG,
            Operation(
                "GET",
                "/workflow-runs",
                self.list_runs,
                "listRuns",
                "List runs",
                runs.RUNS,
                parameters=_PARAMETERS,
                errors=[BAD_LIMIT, BAD_CURSOR],
            ),
        )

    async def list_runs(self, request: Request) -> Response:
        """The app's runs, newest first. For the next page give `next_cursor` as `cursor`; it is null on the last. A
        page may have fewer runs than `limit` where it is filtered by queued or running. Runs that respond to messages
        also have `conversation_id` and `message_id`.
        """
        served = await self.api.authenticate(request)
        which, status = _filter(served.app.id, request.query_params)
        _, summaries = await self.api.run_service.runs.list_runs(which)
        page, more = summaries[: which.limit - 1], len(summaries) == which.limit
        lines = [await self._line(served.app, await self.api.listed(served, summary)) for summary in page]
        body: RunPage = {
            "data": [line for line in lines if status is None or line["status"] == status],
            "next_cursor": cursor_of(page[-1].created_at, page[-1].run) if more else None,
        }
        return json_response(body)

    async def _line(self, app: App, summary: ListedRun) -> RunLine:
        line: RunLine = {
            "id": summary.run,
            "workflow_id": summary.version,
            "app_id": summary.app,
            "status": await self._queued(summary.run) if summary.status == RUNNING else summary.status,
            "error": summary.error,
            "total_tokens": summary.tokens,
            "total_steps": summary.steps,
            "exceptions_count": summary.exceptions,
            "created_at": whole_seconds(summary.created_at),
            "finished_at": whole_seconds(summary.finished_at),
            "created_at_ms": milliseconds(summary.created_at),
            "finished_at_ms": milliseconds(summary.finished_at),
            "elapsed_time": None if summary.finished_at is None else round(summary.elapsed, 6),
            "user": summary.session,
            "source": summary.source,
        }
        if app.mode in MESSAGES:
            message = await self.api.run_service.conversations.find_message(summary.run)
            line["conversation_id"] = message and message.conversation
            line["message_id"] = summary.run
        return line

    async def _queued(self, run: RunId) -> str:
        """Whether an unfinished run has been taken up yet: the list does not say, so that it need not be written for
        it."""
        if run in self.api.run_service.driving:
            return RUNNING
        return status_of(await self.api.run_service.world.journal.read(run))


def _filter(app: str, query: Mapping[str, str]) -> tuple[RunFilter, str | None]:
    """(what to read: one run more than a page shows, the status to show). InvalidParam where it makes no sense."""
    status = query.get("status") or None
    if status is not None and status not in STATUSES:
        raise InvalidParam(f"status: Input should be one of {', '.join(STATUSES)}")
    cursor = query.get("cursor")
    which = RunFilter(
        app=app,
        status=RUNNING if status == QUEUED else status,
        before=_time(query, "created_before"),
        after=_time(query, "created_after"),
        session=query.get("user") or None,
        keyword=query.get("keyword") or None,
        limit=number(query, "limit", 20, 100) + 1,
        version=maybe_id(query, "workflow_id"),
        source=query.get("source") or None,
        older=place_of(cursor) if cursor else None,
        counted=False,
    )
    return which, status


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
