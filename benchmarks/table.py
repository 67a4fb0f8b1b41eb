"""The rows of the result table: each figure with its target and the figures of its peers from the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MET, MISSED, NO_TARGET, NOT_MEASURED = "met", "MISSED", "", "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to be: at most `limit`, or at least that (`more`). `aim` is what would be better still."""

    limit: float
    more: bool = False
    aim: float | None = None

    def reached(self, figure: float) -> bool:
        return figure >= self.limit if self.more else figure <= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of Headrace. `figure` is None where it could not be measured; then `note` says why.

    `beside` are the peers' figures of the same run, in the same unit; a text stands for one that there is not.
    """

    group: str
    what: str
    figure: float | None
    unit: str
    target: Target | None = None
    beside: Mapping[str, float | str] = field(default_factory=dict[str, "float | str"])
    note: str = ""

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
            if self.target.aim is not None:
                target += f" (aim: {number(self.target.aim)})"
        beside = ", ".join(f"{name} {number(of) if isinstance(of, float) else of}" for name, of in self.beside.items())
        return [self.what, figure, target, self.verdict, beside, self.note]


HEADINGS = ["What", "Headrace", "Target", "", "Compared with", "Note"]


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
    widths = [max(len(line[column]) for line in cells) for column in range(4)]

    def line(texts: Sequence[str]) -> str:
        fixed = "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=False))
        return "  ".join(part for part in (fixed, *texts[4:]) if part).rstrip()

    lines.append(line([*HEADINGS[:5], ""]))
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", group]
        texts = row.cells()
        texts[5] = f"({texts[5]})" if texts[5] else ""
        lines.append(line(texts))
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """The table for a page, one for each group."""
    lines: list[str] = []
    group = None
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", f"### {group}", "", _row(HEADINGS), _row(["---"] * len(HEADINGS))]
        lines.append(_row([f"**{text}**" if text == MISSED else text for text in row.cells()]))
    return "\n".join(lines[1:])


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def summary(rows: Sequence[Row]) -> str:
    """One line: how many targets are met, and which are not."""
    aimed = [row for row in rows if row.target]
    failed = [row for row in rows if row.verdict in (MISSED, NOT_MEASURED)]
    line = f"{sum(row.verdict == MET for row in rows)} of {len(aimed)} targets met."
    if failed:
        line += " Not met: " + "; ".join(f"{row.what} ({row.verdict})" for row in failed) + "."
    return line
