"""Differences that are meant, each as narrow as it can be told, with the reason."""

from __future__ import annotations

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
        "parameter-extractor: a text that it searches is inserted as it is, and not read as a template",
        lambda seen: seen.difference.kind == "parameter-extractor" and "{{#" in str(seen.ours["prompts"]),
    ),
)


def reason(seen: Seen) -> str | None:
    """Why they differ there, where it is known."""
    return next((reason.text for reason in REASONS if reason.applies(seen)), None)
