"""Differences that are meant, each as narrow as it can be told, with the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oracle.case import Case
from oracle.compare import Difference

_REFERENCE = re.compile(r"\{\{#([^#{}]+)#\}\}")


@dataclass(frozen=True)
class Finding:
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
        """Whether a node of these types succeeds in Headrace and fails in Dify's engine, with an error like this. A
        failure may be handled there."""
        it = self.difference
        fails = it.theirs in ('"failed"', '"exception"')
        return (
            (it.place, it.ours) == ("status", '"succeeded"')
            and fails
            and it.kind in kinds
            and re.search(pattern, it.error or "") is not None
        )


@dataclass(frozen=True)
class Reason:
    text: str
    applies: Callable[[Finding], bool]


def _failed_inside(finding: Finding) -> bool:
    """A node failed inside of an iteration or a loop that goes on."""
    inside = {node["id"] for node in finding.case.nodes if node.get("parentId")}
    return any(run["status"] in ("failed", "exception") and run["id"] in inside for run in finding.ours["nodes"])


def _merged_query(finding: Finding) -> bool:
    """The URL has a query of its own, and the node has parameters."""
    node = next(node["data"] for node in finding.case.nodes if node["id"] == finding.difference.node)
    return finding.difference.place == "outputs.body" and "?" in node["url"] and bool(node["params"])


def _nameless(finding: Finding) -> bool:
    """Dify's engine has told the names of values that are not there, and Headrace nothing in their place."""
    it = finding.difference
    if (it.kind, it.place) != ("run", "outputs.answer"):
        return False
    ours, theirs = json.loads(it.ours or '""'), json.loads(it.theirs or '""')
    for node in finding.case.nodes:
        for name in _REFERENCE.findall(node["data"].get("answer", "")):
            ours, theirs = ours.replace(name, ""), theirs.replace(name, "")
    return ours == theirs


def _unparsed_body(finding: Finding) -> bool:
    """A JSON body is no JSON, to Dify's engine."""
    node = next((node["data"] for node in finding.case.nodes if node["id"] == finding.difference.node), {})
    return node.get("body", {}).get("type") == "json" and finding.fails_only_there(
        "http-request", pattern="Failed to parse JSON"
    )


def _backtick(finding: Finding) -> bool:
    """The name of a class has one."""
    node = next((node["data"] for node in finding.case.nodes if node["id"] == finding.difference.node), {})
    return any("`" in item["name"] for item in node.get("classes", ())) and finding.fails_only_there(
        "question-classifier", pattern="invalid json object"
    )


def _empty_list(finding: Finding) -> bool:
    """A list of truth values is compared with what is not one, there or inside of it."""
    at = finding.difference.node
    nodes = [node["data"] for node in finding.case.nodes if at in (node["id"], node.get("parentId"))]
    cases = [case for node in nodes if node["type"] == "if-else" for case in node["cases"]]
    types = [condition["varType"] for case in cases for condition in case["conditions"]]
    return "array[boolean]" in types and finding.fails_only_there("if-else", "iteration", pattern=_NO_BOOLEAN)


def _json_body(finding: Finding) -> bool:
    """A JSON body arrived otherwise, and nothing else did."""
    it, node = finding.difference, next(node for node in finding.case.nodes if node["id"] == finding.difference.node)
    if it.kind != "http-request" or it.place != "outputs.body" or node["data"]["body"]["type"] != "json":
        return False
    ours, theirs = (json.loads(json.loads(text)) for text in (it.ours, it.theirs))
    return {**ours, "body": None} == {**theirs, "body": None}


_OWN_PROMPTS = ("parameter-extractor", "question-classifier")
_NO_BOOLEAN = "unexpected value|Expecting value|Extra data"
_UNDECIDED = (
    "not found|Expecting value|Extra data|Invalid (actual|expected) value|unexpected value|Cannot convert"
    "|could not|invalid lit"
)


REASONS = (
    Reason(
        "Dify 1.12.1: failures passed over inside iterations and loops do not count (recorded); later they do",
        lambda finding: finding.differs("run", "status", "succeeded", "partial-succeeded") and _failed_inside(finding),
    ),
    Reason(
        "http-request: values in a JSON body arrive as what they are (docs/compatibility.md)",
        lambda finding: _unparsed_body(finding) or (finding.difference.kind == "http-request" and _json_body(finding)),
    ),
    Reason("a run has one text: a value that is not there is left out of it (docs/compatibility.md)", _nameless),
    Reason("question-classifier: a class with a backtick in its name can be chosen (docs/compatibility.md)", _backtick),
    Reason(
        "http-request: parameters are added to the URL's own, as by Dify 1.12.1's HTTP client; later they replace them",
        lambda finding: finding.difference.kind == "http-request" and _merged_query(finding),
    ),
    Reason(
        "if-else and loop: numbers are compared as numbers, however they are written, and a blank text equals none",
        lambda finding: finding.fails_only_there(
            "if-else", "loop", pattern=r"could not convert string to float|invalid literal"
        ),
    ),
    Reason("if-else: an empty list of booleans contains nothing (docs/compatibility.md)", _empty_list),
    Reason(
        "loop: a break condition that cannot be decided does not hold (docs/compatibility.md)",
        lambda finding: finding.fails_only_there("loop", pattern=_UNDECIDED),
    ),
    Reason(
        "parameter-extractor and question-classifier: values are inserted as they are, not read as templates",
        lambda finding: finding.difference.kind in _OWN_PROMPTS and "{{#" in str(finding.ours["prompts"]),
    ),
)


def reason(finding: Finding) -> str | None:
    """Why they differ there, where it is known."""
    return next((reason.text for reason in REASONS if reason.applies(finding)), None)
