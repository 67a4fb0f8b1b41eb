"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def one_line(text: str) -> str:
    return " ".join(text.splitlines())


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the header; the line below it is as wide as its names."""
    if not rows:
        return ""
    rule = ["-" * max(len(name), 1) for name in rows[0]]
    return "\n".join([row(rows[0]), row(rule), *(row(cells) for cells in rows[1:])])
