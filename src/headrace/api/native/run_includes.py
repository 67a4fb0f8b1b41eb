"""The optional fields of a run, which a request names in `include`."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from headrace.api.auth import Api
from headrace.api.http.params import names
from headrace.api.native.run_lines import RunLines
from headrace.api.native.run_watch import RunStatus
from headrace.api.native.schemas.runs import ChildRun, RunDetail, RunKey
from headrace.kernel.events import Delta, NodeStarted, NodeSucceeded, Record, RunId
from headrace.kernel.summary import duration, model_cost
from headrace.ports import App, RunFilter
from headrace.runs.workflow_tools import CALLED_BY

RUN_INCLUDE = names(
    "include",
    "What else the run has",
    ("cost", "version", "queue_time", "first_token", "key", "parent", "children", "replay_of"),
)
_CHILDREN = 100


class RunIncludes:
    """Adds optional fields. `include` are names of RUN_INCLUDE."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lines = RunLines(api)

    async def detail(self, request: Request, status: RunStatus, include: frozenset[str]) -> RunDetail:
        """A run with the fields that `include` names."""
        body, summary = status.detail(), status.summary
        run_request = summary.request
        if "cost" in include:
            body["cost"] = {
                "total_price": body["usage"]["total_price"],
                "currency": body["usage"]["currency"],
                "by_model": [model_cost(*key, total) for key, total in summary.costs.items()],
            }
        if "version" in include:
            body["version_number"] = await self._lines.version_number(run_request.app, run_request.version)
        if "queue_time" in include:
            began = summary.started_at
            body["queue_time"] = None if began is None else duration(summary.queued_at, began)
        if "first_token" in include:
            records = await self._api.run_service.environment.journal.read(status.run)
            body["first_token"] = first_token(records, summary.started_at)
        if "key" in include:
            body["key"] = await self._key(run_request.key)
        if "parent" in include:
            called = run_request.source.startswith(CALLED_BY)
            body["parent_run_id"] = run_request.source.removeprefix(CALLED_BY) if called else None
        if "children" in include:
            body["children"] = await self._children(status.run, await self._api.accessible(request))
        if "replay_of" in include:
            body["replay_of"] = run_request.replay_of
        return body

    async def _key(self, key_id: str | None) -> RunKey | None:
        if key_id is None:
            return None
        key = await self._api.apps.catalog.find_key(key_id)
        if key is None:  # an identity, or the console
            return {"id": key_id, "prefix": None, "name": key_id}
        return {"id": key.id, "prefix": key.prefix, "name": key.name}

    async def _children(self, run: RunId, apps: Sequence[App]) -> list[ChildRun]:
        which = RunFilter([app.id for app in apps], source=f"{CALLED_BY}{run}", limit=_CHILDREN, counted=False)
        _, children = await self._api.run_service.runs.list_runs(which)
        return [{"id": child.run, "app_id": child.app, "status": child.status} for child in children]


def first_token(records: Sequence[Record], began: float | None) -> float | None:
    """How long after its begin a run's first model wrote its first text, as far as that is known: models say it of
    themselves when they have ended; before, the text that was streamed shows it."""
    if began is None:
        return None
    start_times: dict[str, float] = {}
    moments: list[float] = []
    for record in records:
        match record.event:
            case NodeStarted(path):
                start_times[path] = record.at
            case NodeSucceeded(path) as event if event.usage:
                seconds = event.usage.get("time_to_first_token")
                if isinstance(seconds, int | float) and path in start_times:
                    moments.append(start_times[path] + seconds)
            case Delta():
                moments.append(record.at)
            case _:
                pass
    return duration(began, min(moments)) if moments else None
