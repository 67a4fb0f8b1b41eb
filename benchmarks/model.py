"""What a million and a hundred million runs a day take: `python benchmarks/model.py [--write]`.

It computes from the figures in docs/benchmarks.md, so that the table in docs/scaling.md says what was measured. What it
assumes beside them is in the table, too.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import volume  # noqa: E402 - needs the line above

FIGURES = ROOT / "docs" / "benchmarks.md"
PAGE = ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- model -->", "<!-- end of model -->"

DAY = 86_400
PEAK = 5  # times the mean
BUSY = 0.6  # share of a core's time that is used at the peak
KEPT_DAYS = 30
# where one database ends: what an ordinary server with NVMe disks does for hours beside its vacuum
WAL_LIMIT = 100e6  # bytes a second
SERVER_CORES = 16
STORED_LIMIT = 4e12  # bytes
NOTIFY_LIMIT = 20_000  # tokens a second, beyond which every commit that notifies waits for the others


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run costs: bytes, and seconds of processor time."""

    records: float
    stored: float
    wal: float
    worker: float
    server: float


def measured(page: str) -> Figures:
    """The figures of `benchmarks/volume.py` in the page. ValueError if one is missing."""
    _, heading, group = page.partition(f"### {volume.GROUP}\n")
    if not heading:
        raise ValueError(f"the page lacks the group {volume.GROUP!r}")
    cells = dict(re.findall(r"^\| (.+?) \| ([\d.,]+)", group.partition("\n### ")[0], re.MULTILINE))

    def figure(name: str) -> float:
        if name not in cells:
            raise ValueError(f"the page lacks the figure {name!r}")
        return float(cells[name].replace(",", ""))

    return Figures(
        records=figure(volume.EVENTS),
        stored=1000 * figure(volume.STORED),
        wal=1000 * figure(volume.WAL),
        worker=figure(volume.WORKER) / 1000,
        server=figure(volume.SERVER) / 1000,
    )


def load_of(runs: int, figures: Figures) -> Mapping[str, str]:
    """What so many runs a day are for each part."""
    mean = runs / DAY
    peak = PEAK * mean
    tokens = peak * volume.TOKENS
    stored_bytes = runs * figures.stored * KEPT_DAYS
    server_cores = peak * figures.server / BUSY
    bounds = {
        "WAL": peak * figures.wal / WAL_LIMIT,
        "processor time": server_cores / SERVER_CORES,
        "stored data": stored_bytes / STORED_LIMIT,
    }
    first = max(bounds, key=lambda name: bounds[name])
    cells = max(1, math.ceil(bounds[first]))
    return {
        "runs a second, mean and peak": f"{_number(mean)} and {_number(peak)}",
        "runs at once at the peak": _number(peak * volume.SECONDS),
        "tokens a second at the peak": _number(tokens),
        "cores of hosts (API and workers)": _number(math.ceil(peak * figures.worker / BUSY)),
        "cores of PostgreSQL": _number(math.ceil(server_cores)),
        "records of the journal a second at the peak": _number(peak * figures.records),
        "WAL a second at the peak": _bytes(peak * figures.wal),
        "stored a day": _bytes(runs * figures.stored),
        f"stored in {KEPT_DAYS} days": _bytes(stored_bytes),
        "databases (cells)": f"{cells}" if cells == 1 else f"{cells}; the first limit is {first}",
        "wire": "LISTEN/NOTIFY or Valkey" if tokens / cells <= NOTIFY_LIMIT else "Valkey",
    }


def end_of_one(figures: Figures) -> str:
    """How many runs a day one database carries, and what ends first."""
    ends = {
        "WAL": WAL_LIMIT / figures.wal / PEAK * DAY,
        "processor time": SERVER_CORES * BUSY / figures.server / PEAK * DAY,
        "stored data": STORED_LIMIT / figures.stored / KEPT_DAYS,
        "LISTEN/NOTIFY": NOTIFY_LIMIT / volume.TOKENS / PEAK * DAY,
    }
    ends_in_words = ", ".join(
        f"{name} {runs / 1e6:.1f}" for name, runs in sorted(ends.items(), key=lambda item: item[1])
    )
    return f"Where each part of one database ends, in million runs a day: {ends_in_words}."


def table(figures: Figures) -> str:
    small, large = (load_of(runs, figures) for runs in (1_000_000, 100_000_000))
    rows = [f"| {name} | {small[name]} | {large[name]} |" for name in small]
    costs = (
        f"A run is one call of a model with {volume.TOKENS} tokens in {volume.SECONDS} s, streamed. Measured for each: "
        f"{figures.records:g} records, {_bytes(figures.stored)} stored, {_bytes(figures.wal)} of WAL, "
        f"{1000 * figures.worker:g} ms of a host's processor time and {1000 * figures.server:g} ms of PostgreSQL's."
    )
    assumptions = (
        f"Assumed: a peak of {PEAK} times the mean, cores that are {BUSY:.0%} busy at the peak, and one database that "
        f"carries {_bytes(WAL_LIMIT)} of WAL a second, {SERVER_CORES} cores and {_bytes(STORED_LIMIT)}, and "
        f"{_number(NOTIFY_LIMIT)} tokens a second by LISTEN/NOTIFY, if every token goes to another host."
    )
    head = [costs, "", assumptions, "", "| | 1 million runs a day | 100 million runs a day |", "|---|---|---|"]
    return "\n".join([*head, *rows, "", end_of_one(figures)])


def written(page: str, model: str) -> str:
    """The page with the model between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks its marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{model}\n{END}{after}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.relative_to(ROOT)}")
    model = table(measured(FIGURES.read_text()))
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text(), model))
    else:
        print(model)


if __name__ == "__main__":
    main()
