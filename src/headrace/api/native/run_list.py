"""The list of runs of one app or several, page after page."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.http.params import choice, names, text, time, uuid
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.cursor import CURSOR, PAGE_LIMIT, cursor_of
from headrace.api.native.schemas import runs
from headrace.api.native.schemas.common import RUNS_TAG
from headrace.api.native.schemas.runs import RunLine, RunPage
from headrace.apps.catalog import Served
from headrace.cache import Cache
from headrace.conversations.messages import MESSAGES
from headrace.errors import LoadError, NotFound
from headrace.kernel.events import RunId
from headrace.kernel.summary import QUEUED, RUNNING, STATUSES, status_of
from headrace.ports import App, ListedRun, RunFilter
from headrace.times import milliseconds, whole_seconds

_STATUS = choice("status", "Runs of this status", STATUSES, None)
_VERSION = uuid("workflow_id", "Runs of this version")
_USER = text("user", "The `user` that the runs were requested with")
_AFTER = time("created_after", "Seconds since the epoch, or ISO 8601", seconds=True)
_BEFORE = time("created_before", "Seconds since the epoch, or ISO 8601", seconds=True)
_KEYWORD = text("keyword", "Found in the inputs, the outputs or the id")
_SOURCE = text("source", "`service-api`, or `batch:` and a batch's id")
INCLUDE = names("include", "What else each run has", ("app", "version"))
_PARAMETERS = (_STATUS, _VERSION, _USER, _AFTER, _BEFORE, _KEYWORD, _SOURCE, INCLUDE, PAGE_LIMIT, CURSOR)
_CACHED = 10_000  # numbers of versions


class RunListRoutes(Routes):
    """`/workflow-runs`."""

    tag = RUNS_TAG

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._numbers: Cache[int | None] = Cache(_CACHED)

    @Operation("GET", "/workflow-runs", runs.RUNS, parameters=_PARAMETERS)
    async def list_runs(self, request: Request) -> Response:
        """List runs.

        The app's runs, newest first; of all apps that the key may call, where it may call several and the request names
        none. For the next page give `next_cursor` as `cursor`; it is null on the last. A page may have fewer runs than
        `limit` where it is filtered by queued or running. Runs that respond to messages also have `conversation_id` and
        `message_id`.
        """
        apps = await self._apps(request)
        status, limit = _STATUS.of(request), PAGE_LIMIT.of(request)
        run_filter = RunFilter(
            app=list(apps),
            status=RUNNING if status == QUEUED else status,
            before=_BEFORE.of(request),
            after=_AFTER.of(request),
            session=_USER.of(request),
            keyword=_KEYWORD.of(request),
            limit=limit + 1,
            version=_VERSION.of(request),
            source=_SOURCE.of(request),
            older=CURSOR.of(request),
            counted=False,
        )
        _, summaries = await self.api.run_service.runs.list_runs(run_filter)
        page, more = summaries[:limit], len(summaries) > limit
        include = INCLUDE.of(request)
        lines = [await self._line(apps[summary.app], summary, include) for summary in page]
        body: RunPage = {
            "data": [line for line in lines if status is None or line["status"] == status],
            "next_cursor": cursor_of(page[-1].created_at, page[-1].run) if more else None,
        }
        return json_response(body)

    async def _apps(self, request: Request) -> Mapping[str, App]:
        """The app that the request names, or all that its key may call, by id."""
        choices = await self.api.choices(request)
        if len(choices) > 1:
            await self.api.principal(request)  # counts the request
            return {app.id: app for app in choices}
        app = (await self.api.authenticate(request)).app
        return {app.id: app}

    async def _line(self, app: App, summary: ListedRun, include: frozenset[str]) -> RunLine:
        served = await self._served(app) if summary.error is not None else None
        summary = await self.api.listed(served, summary)
        line: RunLine = {
            "id": summary.run,
            "workflow_id": summary.version,
            "app_id": summary.app,
            "status": await self._live_status(summary.run) if summary.status == RUNNING else summary.status,
            "error": summary.error,
            "total_tokens": summary.tokens,
            "total_steps": summary.steps,
            "exceptions_count": summary.exceptions,
            "created_at": whole_seconds(summary.created_at),
            "finished_at": whole_seconds(summary.finished_at),
            "created_at_ms": milliseconds(summary.created_at),
            "finished_at_ms": milliseconds(summary.finished_at),
            "elapsed_time": elapsed_of(summary),
            "user": summary.session,
            "source": summary.source,
        }
        if app.mode in MESSAGES:
            message = await self.api.run_service.conversations.find_message(summary.run)
            line["conversation_id"] = message and message.conversation
            line["message_id"] = summary.run
        if "app" in include:
            line["app_name"] = app.name
        if "version" in include:
            line["version_number"] = await self._number(app, summary.version)
        return line

    async def _served(self, app: App) -> Served | None:
        """An app in its current version; None where that can no longer be loaded."""
        try:
            return await self.api.apps.version(app, app.version)
        except (NotFound, LoadError):
            return None

    async def _number(self, app: App, version: str) -> int | None:
        """The number of a version; None for one that was removed."""

        async def find() -> int | None:
            stored = await self.api.apps.catalog.version(version)
            return None if stored is None or stored.app != app.id else stored.number

        return await self._numbers.get(version, find)

    async def _live_status(self, run: RunId) -> str:
        """`queued` or `running`, of an unfinished run: the list does not have that, so that a start costs no write."""
        if run in self.api.run_service.driving:
            return RUNNING
        return status_of(await self.api.run_service.environment.journal.read(run))


def elapsed_of(run: ListedRun) -> float | None:
    """The seconds that a run took; None before its end."""
    return None if run.finished_at is None else round(run.elapsed, 6)
