"""Statistics of runs, from the sums that are kept when runs end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.http.params import choice, time
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.run_lines import price_text
from headrace.api.native.schemas import stats
from headrace.api.native.schemas.stats import Stats, StatsGroup
from headrace.errors import InvalidParam
from headrace.ports import BUCKETS_PER_OCTAVE, App, RunSums

_EPOCH = datetime.fromtimestamp(0, UTC).date()
_FROM = time("from", "The first day, in UTC; 29 days ago by default", seconds=True)
_TO = time("to", "The last day, in UTC; today by default", seconds=True)
_BY = choice("by", "What to group by", ("day", "app", "model", "key", "user"), "day")
_GROUPS = {"user": "end_user"}
_USUAL_DAYS, _MOST_DAYS = 30, 366
_DAY = 24 * 3600
_BACKWARDS = InvalidParam(f"to: Input should be at or after from, by {_MOST_DAYS} days at most")


class StatsRoutes(Routes):
    """`/stats`."""

    tag = "Statistics"

    @Operation("GET", "/stats", stats.STATS, parameters=(_FROM, _TO, _BY), errors=[_BACKWARDS])
    async def get_stats(self, request: Request) -> Response:
        """See what runs used and cost.

        The ended runs of all apps that the key may call, or the one that the request names, by day (in UTC), app,
        model, key or user. They are counted on the day they were submitted. Runs by model are those that called it.
        """
        await self.api.principal(request)  # counts the request
        apps = await self.api.choices(request)
        by = _BY.of(request) or "day"
        rows = await self.api.run_service.runs.sums([app.id for app in apps], _days(request), _GROUPS.get(by, by))
        rows_by_group: defaultdict[str, list[RunSums]] = defaultdict(list)
        for row in rows:
            rows_by_group[row.name].append(row)
        labels = await self._labels(by, list(rows_by_group), apps)
        groups = [
            _group(_key(by, name), labels.get(name, _key(by, name)), items) for name, items in rows_by_group.items()
        ]
        groups.sort(key=lambda group: group["key"] if by == "day" else (-group["runs"], group["key"]))
        body: Stats = {"data": groups, "total": _group("", "", rows)}
        return json_response(body)

    async def _labels(self, by: str, names: Sequence[str], apps: Sequence[App]) -> Mapping[str, str]:
        if by == "app":
            return {app.id: app.name for app in apps}
        if by != "key":
            return {}
        keys = [(name, await self.api.apps.catalog.find_key(name)) for name in names]
        return {name: key.name or f"{key.prefix}..." for name, key in keys if key is not None}


def _days(request: Request) -> tuple[int, int]:
    """The first and the last day, since the epoch."""
    now = int(datetime.now(UTC).timestamp() // _DAY)
    begin, end = _FROM.of(request), _TO.of(request)
    last = now if end is None else int(end // _DAY)
    first = last - _USUAL_DAYS + 1 if begin is None else int(begin // _DAY)
    if not 0 <= last - first < _MOST_DAYS:
        raise _BACKWARDS
    return first, last


def _key(by: str, name: str) -> str:
    return (_EPOCH + timedelta(days=int(name))).isoformat() if by == "day" else name


def _group(key: str, label: str, rows: Iterable[RunSums]) -> StatsGroup:
    runs = failures = tokens = price = 0
    currencies: set[str] = set()
    durations: defaultdict[int, int] = defaultdict(int)
    for row in rows:
        runs, failures, tokens, price = runs + row.runs, failures + row.failed, tokens + row.tokens, price + row.price
        durations[row.bucket] += row.runs
        if row.price or row.currency == "":
            currencies.add(row.currency)
    mixed = len(currencies) > 1 or "" in currencies
    return {
        "key": key,
        "label": label,
        "runs": runs,
        "failed": failures,
        "tokens": tokens,
        "price": None if mixed else price_text(price),
        "currency": None if mixed else next(iter(currencies), "USD"),
        "p50": _percentile(durations, runs, 0.5),
        "p95": _percentile(durations, runs, 0.95),
    }


def _percentile(durations: Mapping[int, int], runs: int, share: float) -> float | None:
    """The duration that this share of runs does not exceed, as the middle of its bucket."""
    count = 0
    for bucket in sorted(durations):
        count += durations[bucket]
        if count >= share * runs:
            return float(f"{2 ** (bucket / BUCKETS_PER_OCTAVE):.3g}")
    return None
