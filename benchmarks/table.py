"""The rows of the result table: each figure with its spread, its target, and what it is compared with in the same run.

Where a figure depends on how fast the machine is, it is a ratio to a reference that was measured in turn with it
(`ratio`), so that a slow machine misses no target and a fast one hides none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

MET, MISSED, NO_TARGET, NOT_MEASURED = "met", "MISSED", "", "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to be: at most `limit`, or at least that (`more`)."""

    limit: float
    more: bool = False

    def reached(self, figure: float) -> bool:
        return figure >= self.limit if self.more else figure <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of Headrace. `figure` is None where it could not be measured; then `note` says why.

    `spread` is the smallest and the largest of the values whose median the figure is. `beside` are other figures of the
    same run; a text stands for one that there is not. `missed` says why the target is not met, where it is not.
    """

    group: str
    what: str
    figure: float | None
    unit: str
    target: Target | None = None
    beside: Mapping[str, float | str] = field(default_factory=dict[str, "float | str"])
    note: str = ""
    spread: tuple[float, float] | None = None
    missed: str = ""

    @property
    def verdict(self) -> str:
        if self.figure is None:
            return NOT_MEASURED
        if self.target is None:
            return NO_TARGET
        return MET if self.target.reached(self.figure) else MISSED

    def cells(self) -> list[str]:
        """The row's texts, as of HEADINGS."""
        figure = "-" if self.figure is None else with_unit(self.figure, self.unit)
        target = ""
        if self.target:
            target = f"{'≥' if self.target.more else '≤'} {with_unit(self.target.limit, self.unit)}"
        spread = f"{number(self.spread[0])} - {number(self.spread[1])}" if self.spread else ""
        note = "; ".join(text for text in (self.note, self.missed if self.verdict == MISSED else "") if text)
        beside = ", ".join(f"{name} {number(of) if isinstance(of, float) else of}" for name, of in self.beside.items())
        return [self.what, figure, spread, target, self.verdict, beside, note]


HEADINGS = ["What", "Headrace", "Spread", "Target", "", "Compared with", "Note"]


def ratio(
    group: str,
    what: str,
    pairs: Sequence[tuple[float, float]],
    unit: str,
    reference: str,
    target: Target | None = None,
    note: str = "",
    missed: str = "",
    beside: Mapping[str, float | str] | None = None,
) -> Row:
    """How many times the figure of the reference is Headrace's: the median of pairs (Headrace, reference) that were
    measured in turn, in `unit`."""
    ratios = [ours / theirs for ours, theirs in pairs]
    absolute: dict[str, float | str] = {
        "Headrace": with_unit(median(ours for ours, _ in pairs), unit),
        reference: median(theirs for _, theirs in pairs),
    }
    return Row(group, what, median(ratios), "x", target, {**absolute, **(beside or {})}, note, _spread(ratios), missed)


def figure(
    group: str,
    what: str,
    values: Sequence[float],
    unit: str,
    target: Target | None = None,
    beside: Mapping[str, float | str] | None = None,
    note: str = "",
    missed: str = "",
) -> Row:
    """The median of values."""
    return Row(group, what, median(values), unit, target, beside or {}, note, _spread(values), missed)


def _spread(values: Sequence[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if len(values) > 1 else None


def number(value: float) -> str:
    """Three figures that matter; thousands are whole and grouped."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    text = f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"
    return text if "e" not in text or abs(value) < 0.001 else f"{value:.0f}"


def with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".rstrip()


def plain(rows: Sequence[Row]) -> str:
    """The table for a terminal, a heading for each group."""
    lines: list[str] = []
    cells = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]

    def line(texts: Sequence[str]) -> str:
        columns = "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=False))
        return "  ".join(part for part in (columns, *texts[5:]) if part).rstrip()

    lines.append(line([*HEADINGS[:6], ""]))
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", group]
        texts = row.cells()
        texts[6] = f"({texts[6]})" if texts[6] else ""
        lines.append(line(texts))
    return "\n".join(lines)


def markdown(rows: Sequence[Row], measured: str = "") -> str:
    """The table for a page, one for each group; `measured` is said below each heading."""
    lines: list[str] = []
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", f"### {group}", "", *([measured, ""] if measured else [])]
            lines += [_row(HEADINGS), _row(["---"] * len(HEADINGS))]
        lines.append(_row([f"**{text}**" if text == MISSED else text for text in row.cells()]))
    return "\n".join(lines[1:])


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def summary(rows: Sequence[Row]) -> str:
    """One line: how many targets are met, and which are not."""
    return _summary([(row.group, row.what, row.verdict) for row in rows])


def summary_of_page(figures: str) -> str:
    """The same, of tables for a page."""
    verdicts: list[tuple[str, str, str]] = []
    for part in figures.split("\n### ")[1:]:
        group, *lines = part.splitlines()
        titles, _, *rows = (line.split(" | ") for line in lines if line.startswith("| "))
        column = titles.index("")  # a table whose rows have no spread has a column less
        verdicts += [(group, cells[0].removeprefix("| "), cells[column].strip("*")) for cells in rows]
    return _summary(verdicts)


def _summary(verdicts: Sequence[tuple[str, str, str]]) -> str:
    misses = [(group, what, verdict) for group, what, verdict in verdicts if verdict in (MISSED, NOT_MEASURED)]
    met_count = sum(verdict == MET for _, _, verdict in verdicts)
    line = f"{met_count} of {met_count + len(misses)} targets met."
    if misses:
        names = (f"{group.partition(':')[0]}: {what} ({verdict})" for group, what, verdict in misses)
        line += f" Not met: {'; '.join(names)}."
    return line
