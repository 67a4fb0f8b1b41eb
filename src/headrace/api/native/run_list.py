"""The list of runs of one app or several, page after page."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.http.params import TEXT_SCHEMA, Parameter, choice, integer, keyword, text, time, uuid
from headrace.api.http.responses import EventStream, json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.cursor import CURSOR, PAGE_LIMIT, cursor_of
from headrace.api.native.run_lines import INCLUDE, RunLines
from headrace.api.native.run_news import LONGEST_SECONDS, RunNews
from headrace.api.native.schemas import runs
from headrace.api.native.schemas.common import RUNS_TAG
from headrace.api.native.schemas.runs import RunPage
from headrace.kernel.summary import QUEUED, RUNNING, STATUSES
from headrace.ports import App, RunFilter

_STATUS = choice("status", "Runs of this status", STATUSES, None)
_VERSION = uuid("workflow_id", "Runs of this version")
_USER = text("user", "The `user` that the runs were requested with")
_AFTER = time("created_after", "Seconds since the epoch, or ISO 8601", seconds=True)
_BEFORE = time("created_before", "Seconds since the epoch, or ISO 8601", seconds=True)
_KEYWORD = keyword("Found in the inputs, the outputs or the id")
_SOURCE = text("source", "`service-api`, `batch:` and a batch's id, or a trigger's type, `:` and its node's id")
_LAST_ID = Parameter("header", "Last-Event-ID", "Continue after the event with this `id`", TEXT_SCHEMA)
_LONGEST = integer("seconds", "After which the stream ends", LONGEST_SECONDS, LONGEST_SECONDS, 0)
_PARAMETERS = (_STATUS, _VERSION, _USER, _AFTER, _BEFORE, _KEYWORD, _SOURCE, INCLUDE, PAGE_LIMIT, CURSOR)


class RunListRoutes(Routes):
    """`/workflow-runs`."""

    tag = RUNS_TAG

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._lines = RunLines(api)
        self._news = RunNews(api.run_service, self._lines)

    @Operation("GET", "/workflow-runs", runs.RUNS, parameters=_PARAMETERS)
    async def list_runs(self, request: Request) -> Response:
        """List runs.

        The app's runs, newest first; of all apps that the key may call, where it may call several and the request names
        none. For the next page give `next_cursor` as `cursor`; it is null on the last. A page may have fewer runs than
        `limit` where it is filtered by queued or running. Runs that respond to messages also have `conversation_id` and
        `message_id`.
        """
        apps = await self._lines.apps(request)
        status, limit = _STATUS.of(request), PAGE_LIMIT.of(request)
        run_filter = RunFilter(
            app=list(apps),
            status=RUNNING if status == QUEUED else status,
            before=_BEFORE.of(request),
            after=_AFTER.of(request),
            session=_USER.of(request),
            keyword=_KEYWORD.of(request) or None,
            limit=limit + 1,
            version=_VERSION.of(request),
            source=_SOURCE.of(request),
            older=CURSOR.of(request),
            counted=False,
        )
        _, summaries = await self.api.run_service.runs.list_runs(run_filter)
        page, more = summaries[:limit], len(summaries) > limit
        include = INCLUDE.of(request)
        lines = [await self._lines.line(apps[summary.app], summary, include) for summary in page]
        body: RunPage = {
            "data": [line for line in lines if status is None or line["status"] == status],
            "next_cursor": cursor_of(page[-1].created_at, page[-1].run) if more else None,
        }
        return json_response(body)

    @Operation("GET", "/workflow-runs/events", runs.NEWS, parameters=[_LAST_ID, _LONGEST])
    async def follow_runs(self, request: Request) -> Response:
        """Follow all runs.

        A `run` event, with a line as in the list, for each run that begins, changes its status or ends, whichever
        process drives it; of all apps that the key may call, where the request names none. The first event is `ready`.
        With the `id` of the last event as Last-Event-ID the stream continues after it; `reset` says that this is no
        longer possible, and the list has to be read again. The stream ends after `seconds`.
        """
        after = request.headers.get("last-event-id") or None

        async def apps() -> Mapping[str, App]:
            return {app.id: app for app in await self.api.choices(request)}

        await self._lines.apps(request)  # the errors of a stream that cannot begin
        return EventStream(self._news.listen(apps, after, _LONGEST.of(request)), self.api.options.ping_seconds)
