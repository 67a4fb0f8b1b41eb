"""A run as a line of a list, and of the stream of news of runs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from starlette.requests import Request

from headrace.api.auth import Api
from headrace.api.http.params import names
from headrace.api.native.schemas.runs import RunLine
from headrace.apps.catalog import Release
from headrace.cache import Cache
from headrace.conversations.messages import MESSAGES
from headrace.errors import LoadError, NotFound
from headrace.kernel.events import RunId, RunQueued
from headrace.kernel.graph import node_of
from headrace.kernel.summary import PAUSED, RUNNING, status_of
from headrace.ports import App, ListedRun
from headrace.times import milliseconds, whole_seconds

INCLUDE = names("include", "What else each run has", ("app", "version", "cost", "error_node", "input"))
_CACHED = 10_000  # numbers of versions
_SHOWN = 200  # characters of an input


class RunLines:
    """Makes lines. `include` are names of INCLUDE."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._numbers: Cache[int | None] = Cache(_CACHED)

    async def apps(self, request: Request) -> Mapping[str, App]:
        """The app that a request names, or all that its key may call, by id. See `Api.authenticate`."""
        choices = await self._api.choices(request)
        if len(choices) > 1:
            await self._api.principal(request)  # counts the request
            return {app.id: app for app in choices}
        app = (await self._api.authenticate(request)).app
        return {app.id: app}

    async def line(self, app: App, summary: ListedRun, include: frozenset[str], *, live: bool = True) -> RunLine:
        """A run of an app. `live`: one that has not started yet is `queued`, which costs a read of the journal."""
        release = await self._loaded(app) if summary.error is not None else None
        summary = await self._api.listed(release, summary)
        unfinished = live and summary.status == RUNNING
        line: RunLine = {
            "id": summary.run,
            "workflow_id": summary.version,
            "app_id": summary.app,
            "status": await self._live_status(summary.run) if unfinished else summary.status,
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
            message = await self._api.run_service.conversations.find_message(summary.run)
            line["conversation_id"] = message and message.conversation
            line["message_id"] = summary.run
        if "app" in include:
            line["app_name"] = app.name
        if "version" in include:
            line["version_number"] = await self.version_number(app.id, summary.version)
        if "cost" in include:
            line["total_price"] = None if summary.price is None else price_text(summary.price)
            line["currency"] = summary.currency
        if "error_node" in include:
            line["error_node_title"] = await self._title(summary)
        if "input" in include:
            line["input"] = await self._input(summary)
        return line

    async def version_number(self, app_id: str, version: str) -> int | None:
        """The number of a version; None for one that was removed."""

        async def find() -> int | None:
            version_record = await self._api.apps.catalog.version(version)
            return None if version_record is None or version_record.app != app_id else version_record.number

        return await self._numbers.get(version, find)

    async def _title(self, run: ListedRun) -> str | None:
        """The title of the node whose failure ended a run."""
        if run.error_node is None:
            return None
        try:
            flow = await self._api.apps.flow(run.app, run.version)
        except (NotFound, LoadError):
            return node_of(run.error_node)
        title = flow.graph.spec_of(run.error_node).title
        return flow.mask.text(title) if flow.mask else title

    async def _input(self, run: ListedRun) -> str | None:
        """The text by which people recognise a run: its query, or else the first text of its inputs. None if there is
        none, or nothing says what in it is secret."""
        records = await self._api.run_service.environment.journal.read(run.run, limit=1)
        if not records or not isinstance(request := records[0].event, RunQueued):
            return None
        values = (request.system.get("query"), *request.inputs.values())
        text = next((value for value in values if isinstance(value, str) and value.strip()), None)
        if text is None:
            return None
        try:
            flow = await self._api.apps.flow(run.app, run.version)
        except (NotFound, LoadError):
            return None
        return (flow.mask.text(text) if flow.mask else text).strip()[:_SHOWN]

    async def _loaded(self, app: App) -> Release | None:
        """An app in its current version; None where that can no longer be loaded."""
        try:
            return await self._api.apps.version(app, app.version)
        except (NotFound, LoadError):
            return None

    async def _live_status(self, run: RunId) -> str:
        """`queued` or `running`, of an unfinished run: the list does not have that, so that a start costs no write."""
        if run in self._api.run_service.driving:
            return RUNNING
        return status_of(await self._api.run_service.environment.journal.read(run))


def price_text(price: int) -> str:
    """A price in billionths as text, without zeros at its end."""
    return format((Decimal(price) / 10**9).normalize(), "f")


def elapsed_of(run: ListedRun) -> float | None:
    """The seconds that a run took, or took until it paused; None while it runs."""
    return None if run.finished_at is None and run.status != PAUSED else round(run.elapsed, 6)
