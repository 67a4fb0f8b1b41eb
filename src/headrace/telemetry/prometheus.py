"""Counts and histograms that one thread feeds and Prometheus reads.

An event loop needs no locks, so a count is one addition to a dictionary. The text format is the library's: see
`Counted.family` and `Spread.family`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

MAX_SERIES = 2_000  # of one metric: what comes after that is counted together, under `OTHER`
OTHER = "other"

Labels = tuple[str, ...]


class Counter:
    """A counter. `add` takes the values of its labels, in their order."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = ()) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._overflow = (OTHER,) * len(labels)
        self._counts: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        counts = self._counts
        if labels in counts:
            counts[labels] += amount
        else:
            if len(counts) >= MAX_SERIES:
                labels = self._overflow
            counts[labels] = counts.get(labels, 0) + amount

    def family(self) -> CounterMetricFamily:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        return family


class Histogram:
    """A histogram of seconds; `bounds` are the upper ends of its buckets, the last one open."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._overflow = (OTHER,) * len(labels)
        self._bounds = list(bounds)
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._series: dict[Labels, tuple[list[int], list[float]]] = {}

    def add(self, labels: Labels, seconds: float) -> None:
        if labels not in self._series and len(self._series) >= MAX_SERIES:
            labels = self._overflow
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = ([0] * len(self._names), [0.0])
        seconds = max(seconds, 0.0)  # a clock may be set back
        series[0][bisect_left(self._bounds, seconds)] += 1
        series[1][0] += seconds

    def family(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, (counts, total) in self._series.items():
            buckets: list[tuple[str, float]] = []
            below = 0
            for name, count in zip(self._names, counts, strict=True):
                below += count
                buckets.append((name, below))
            family.add_metric(labels, buckets, total[0])
        return family
