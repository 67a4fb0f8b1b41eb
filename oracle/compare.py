"""Where two engines' results of one case differ."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oracle.case import Case

_APART = {  # outputs that are each engine's own: times, prices, sizes, words
    "llm": ("usage",),
    "parameter-extractor": ("__usage",),
    "question-classifier": ("usage", "class_label"),  # the label is later than 1.12.1
    "http-request": ("headers",),
}
_MESSAGES = ("error_message",)
_RUN = "run"
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Difference:
    """`kind` is a node's type, or "run"; `place` is where in what it put out; the values are JSON, None: absent."""

    kind: str
    node: str
    place: str
    ours: str | None
    theirs: str | None
    error: str | None = None  # what the one that failed said

    @property
    def signature(self) -> tuple[str, str, str, str]:
        """The same for differences that are likely one fault."""
        words = " ".join(_WORD.findall(re.sub(r"['\"`\[{].*?['\"`\]}]", "", self.error or ""))[:5])
        return self.kind, self.place, f"{_sort(self.ours)}/{_sort(self.theirs)}", words

    def __str__(self) -> str:
        error_text = f"  ({self.error})" if self.error else ""
        return f"{self.kind} {self.node} {self.place}: Headrace {_cut(self.ours)}, Dify {_cut(self.theirs)}{error_text}"


def compare(case: Case, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Difference | None:
    """The first difference in the order of the file: what comes after it may follow from it. None where none is."""
    if "refused" in ours or "refused" in theirs:
        if ("refused" in ours) == ("refused" in theirs):
            return None
        return Difference(_RUN, "", "loading", _text(ours.get("refused")), _text(theirs.get("refused")))
    left, right = _by_node(ours), _by_node(theirs)
    failed = "failed" in (ours.get("status"), theirs.get("status"))
    for node, kind in case.types.items():
        if kind.endswith("-start") or kind == "loop-end" or (failed and _unequal(case, node, left[node], right[node])):
            continue
        if (difference := _of_node(case, kind, node, left[node], right[node])) is not None:
            return difference
    end, other = _end(ours), _end(theirs)
    if (place := _place(end, other)) is not None:
        return Difference(_RUN, "", *place, error=ours.get("error") or theirs.get("error"))
    return None


def _unequal(case: Case, node: str, ours: list[Any], theirs: list[Any]) -> bool:
    """Whether a node of a run that has failed ran in one engine only, or for other items of a parallel iteration: which
    are left undone is a matter of haste."""
    if not (ours and theirs):
        return True
    nodes = {each["id"]: each for each in case.nodes}
    parent = nodes[node].get("parentId")
    while parent is not None and not nodes[parent]["data"].get("is_parallel"):
        parent = nodes[parent].get("parentId")
    return parent is not None and len(ours) != len(theirs)


def _of_node(case: Case, kind: str, node: str, ours: list[Any], theirs: list[Any]) -> Difference | None:
    if kind == "start":
        ours, theirs = ([_told(run, case) for run in runs] for runs in (ours, theirs))
    if len(ours) != len(theirs):
        return Difference(kind, node, "runs", str(len(ours)), str(len(theirs)))
    left, right = (sorted((_canonical(kind, run) for run in runs), key=_text) for runs in (ours, theirs))
    for one, other in zip(left, right, strict=True):
        if (place := _place(one, other)) is not None:
            error = next((run["error"] for run in [*ours, *theirs] if run["error"]), None)
            return Difference(kind, node, *place, error=error)
    return None


def _by_node(result: Mapping[str, Any]) -> defaultdict[str, list[Any]]:
    runs: defaultdict[str, list[Any]] = defaultdict(list)
    for run in result["nodes"]:
        runs[run["id"]].append(run)
    return runs


def _told(run: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """Of a start node, what the form has: `sys.*` is the platform's, not the engine's."""
    return {**run, "outputs": {name: run["outputs"].get(name) for name in case.inputs}}


def _canonical(kind: str, run: Mapping[str, Any]) -> dict[str, Any]:
    apart = (*_APART.get(kind, ()), *_MESSAGES)
    return {"status": run["status"], "outputs": {k: v for k, v in run["outputs"].items() if k not in apart}}


def _end(result: Mapping[str, Any]) -> dict[str, Any]:
    outputs = {} if result.get("status") == "failed" else result.get("outputs") or {}
    return {"status": result.get("status"), "outputs": outputs}


def _place(ours: Any, theirs: Any, at: str = "") -> tuple[str, str | None, str | None] | None:
    """(place, ours, theirs) of the first difference; numbers are the same if they are written alike."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted({*ours, *theirs}, key=lambda name: (name != "status", name)):
            inner = f"{at}.{name}" if at else name
            if name not in ours or name not in theirs:
                return inner, *(_text(side[name]) if name in side else None for side in (ours, theirs))
            if (place := _place(ours[name], theirs[name], inner)) is not None:
                return place
        return None
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return next(filter(None, (_place(*pair, f"{at}[]") for pair in zip(ours, theirs, strict=True))), None)
    one, other = _text(ours), _text(theirs)
    return None if one == other else (at, one, other)


def _text(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _sort(text: str | None) -> str:
    """A value's type, and the value where it is a word of the engines'."""
    if text is None:
        return "absent"
    value = json.loads(text)
    words = ("succeeded", "failed", "exception", "partial-succeeded", "stopped")
    return value if value in words else type(value).__name__


def _cut(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) < 300 else text[:300] + " ..."
