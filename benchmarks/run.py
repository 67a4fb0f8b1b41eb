"""Measures Headrace beside its peers: `uv run python benchmarks/run.py [NAME...] [--quick] [--write]`.

Prints a table: each figure with its target and the figures of its peers from the same run. A target that is missed
is named MISSED and ends nothing; only a benchmark that does not work makes this exit 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402 - needs the line above
    agents,
    code,
    console,
    databases,
    elsewhere,
    engines,
    fairness,
    idle,
    knowledge,
    machine,
    paused,
    polling,
    sdk,
    serving,
    streams,
    suite,
    table,
    volume,
    waiting,
    wire,
    workers,
)

BENCHMARKS: dict[str, Callable[[bool], list[table.Row]]] = {
    "engine": engines.measure,
    "serving": serving.measure,
    "databases": databases.measure,
    "workers": workers.measure,
    "volume": volume.measure,
    "streams": streams.measure,
    "agents": agents.measure,
    "code": code.measure,
    "waiting": waiting.measure,
    "paused": paused.measure,
    "wire": wire.measure,
    "elsewhere": elsewhere.measure,
    "polling": polling.measure,
    "fairness": fairness.measure,
    "idle": idle.measure,
    "console": console.measure,
    "knowledge": knowledge.measure,
    "graphs": knowledge.measure_graphs,
    "sdk": sdk.measure,
    "suite": suite.measure,
}
ON_REQUEST = frozenset({"suite"})
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which: {', '.join(BENCHMARKS)} (default: all but {', '.join(ON_REQUEST)})",
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    if options.write and options.quick:
        parser.error("--write is for figures that are measured in full")

    about = f"{machine.facts()}; {machine.load()}"
    print(about, file=sys.stderr)
    rows: list[table.Row] = []
    broken = False
    for name in options.names or [name for name in BENCHMARKS if name not in ON_REQUEST]:
        print(f"{name} ...", file=sys.stderr)
        began = time.monotonic()
        try:
            rows += BENCHMARKS[name](options.quick)
        except Exception as error:
            # the others are still worth their figures; the table and the exit code tell of this one
            traceback.print_exc()
            broken = True
            rows.append(table.Row(name, name, None, "", note=f"{type(error).__name__}: {error}".splitlines()[0]))
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(table.plain(rows))
    print(f"\n{table.summary(rows)}\n{about}")
    if options.write:
        if broken:
            print(f"{PAGE.name} stays as it is: not all could be measured.", file=sys.stderr)
        else:
            page = PAGE.read_text("utf-8")
            new = with_groups(figures_of(page), rows, _measured(about)) if options.names else figures(rows, about)
            PAGE.write_text(with_figures(page, new), "utf-8")
    return 1 if broken else 0


def figures(rows: list[table.Row], about: str) -> str:
    """What goes between the page's marks."""
    return f"{_measured(about)}\n\n{table.summary(rows)}\n\n{table.markdown(rows)}"


def with_groups(old: str, rows: list[table.Row], measured: str) -> str:
    """The figures of a page with some groups measured again, which say when that was; the others stay."""
    head, *groups = old.strip().split("\n\n### ")
    about = head.partition("\n\n")[0]
    by_name = {text.partition("\n")[0]: text for text in groups}
    for name in dict.fromkeys(row.group for row in rows):
        of_group = [row for row in rows if row.group == name]
        by_name[name] = table.markdown(of_group, measured).removeprefix("### ")
    tables = "".join(f"\n\n### {text}" for text in by_name.values())
    return f"{about}\n\n{table.summary_of_page(tables)}{tables}"


def figures_of(page: str) -> str:
    """What is between the marks."""
    return page.partition(BEGIN)[2].partition(END)[0]


def with_figures(page: str, new: str) -> str:
    """The page with new figures between its marks; all else stays."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks its marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def _measured(about: str) -> str:
    return f"Measured {datetime.now(UTC):%Y-%m-%d} on: {about}."


if __name__ == "__main__":
    sys.exit(main())
