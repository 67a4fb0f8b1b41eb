"""Statistics of runs: responses."""

from __future__ import annotations

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, described
from headrace.api.native.schemas.common import Duration


@described
class StatsGroup(TypedDict):
    """The ended runs of a day, an app, a model, a key or a user. There is no price where currencies are mixed."""

    key: str
    """A date, an id or a name; empty where it is not known."""
    label: str
    runs: int
    failed: int
    tokens: int
    price: str | None
    currency: str | None
    p50: Duration | None
    """Half of the runs took no longer, within 9 %."""
    p95: Duration | None


class Stats(TypedDict):
    """The groups, and all of them together."""

    data: list[StatsGroup]
    total: StatsGroup


_GROUP: StatsGroup = {
    "key": "2026-11-21",
    "label": "2026-11-21",
    "runs": 1200,
    "failed": 7,
    "tokens": 180000,
    "price": "0.27",
    "currency": "USD",
    "p50": 1.19,
    "p95": 4.76,
}
STATS = Media(Stats, {"data": [_GROUP], "total": {**_GROUP, "key": "", "label": ""}})
