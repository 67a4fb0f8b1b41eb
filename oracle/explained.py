"""Differences that are meant, each as narrow as it can be told, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oracle.case import Case
from oracle.compare import Difference


@dataclass(frozen=True)
class Seen:
    """A case that differs: what Headrace put out, and what Dify's engine did."""

    case: Case
    difference: Difference
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]

    def differs(self, kind: str, place: str, ours: str, theirs: str) -> bool:
        """Whether it does so, in these words."""
        it = self.difference
        return (it.kind, it.place, it.ours, it.theirs) == (kind, place, f'"{ours}"', f'"{theirs}"')

    def fails_only_there(self, *kinds: str, pattern: str) -> bool:
        """Whether a node of these types succeeds in Headrace and fails in Dify's engine, with an error like this."""
        it = self.difference
        succeeds = (it.place, it.ours, it.theirs) == ("status", '"succeeded"', '"failed"')
        return succeeds and it.kind in kinds and re.search(pattern, it.error or "") is not None


@dataclass(frozen=True)
class Reason:
    text: str
    applies: Callable[[Seen], bool]


def _failed_inside(seen: Seen) -> bool:
    """A node failed inside of an iteration that goes on."""
    inside = {node["id"] for node in seen.case.nodes if node.get("parentId")}
    return any(run["status"] == "failed" and run["id"] in inside for run in seen.ours["nodes"])


REASONS = (
    Reason(
        "Dify 1.12.1: a run succeeds though an iteration passed over failures (recorded); later versions say partly",
        lambda seen: seen.differs("run", "status", "succeeded", "partial-succeeded") and _failed_inside(seen),
    ),
    Reason(
        "if-else and loop: numbers are compared as numbers, however they are written, and a blank text equals none",
        lambda seen: seen.fails_only_there(
            "if-else", "loop", pattern=r"could not convert string to float|invalid literal"
        ),
    ),
    Reason(
        "parameter-extractor: a text that it searches is inserted as it is, and not read as a template",
        lambda seen: seen.difference.kind == "parameter-extractor" and "{{#" in str(seen.ours["prompts"]),
    ),
)


def reason(seen: Seen) -> str | None:
    """Why they differ there, where it is known."""
    return next((reason.text for reason in REASONS if reason.applies(seen)), None)
