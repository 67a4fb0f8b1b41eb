"""Measures Headrace beside its peers: `uv run python benchmarks/run.py [NAME...] [--quick] [--write]`.

Prints a table: each figure with its target and the figures of its peers from the same run. A target that is missed
is named MISSED and ends nothing; only a benchmark that does not work makes this exit 1.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402 - needs the line above
    agents,
    console,
    databases,
    engines,
    fairness,
    idle,
    machine,
    paused,
    polling,
    sdk,
    serving,
    streams,
    table,
    volume,
    waiting,
    wire,
)

BENCHMARKS: dict[str, Callable[[bool], list[table.Row]]] = {
    "engine": engines.measure,
    "serving": serving.measure,
    "databases": databases.measure,
    "volume": volume.measure,
    "streams": streams.measure,
    "agents": agents.measure,
    "waiting": waiting.measure,
    "paused": paused.measure,
    "wire": wire.measure,
    "polling": polling.measure,
    "fairness": fairness.measure,
    "idle": idle.measure,
    "console": console.measure,
    "sdk": sdk.measure,
}
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: a minute instead of three")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {PAGE.relative_to(ROOT)}")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    if given.write and (given.names or given.quick):
        parser.error("--write is for all of them, measured in full")

    about = f"{machine.facts()}; {machine.load()}"
    print(about, file=sys.stderr)
    rows: list[table.Row] = []
    broken = False
    for name in given.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr)
        try:
            rows += BENCHMARKS[name](given.quick)
        except Exception as error:
            # the others are still worth their figures; the table and the exit code tell of this one
            traceback.print_exc()
            broken = True
            rows.append(table.Row(name, name, None, "", note=f"{type(error).__name__}: {error}".splitlines()[0]))
    print(table.plain(rows))
    print(f"\n{table.summary(rows)}\n{about}")
    if given.write:
        if broken:
            print(f"{PAGE.name} stays as it is: not all could be measured.", file=sys.stderr)
        else:
            PAGE.write_text(with_figures(PAGE.read_text("utf-8"), figures(rows, about)), "utf-8")
    return 1 if broken else 0


def figures(rows: list[table.Row], about: str) -> str:
    """What goes between the page's marks."""
    measured = f"Measured {datetime.now(UTC):%Y-%m-%d} on: {about}."
    return f"{measured}\n\n{table.summary(rows)}\n\n{table.markdown(rows)}"


def with_figures(page: str, new: str) -> str:
    """The page with new figures between its marks; all else stays."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks its marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
