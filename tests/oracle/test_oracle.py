"""The oracle, as far as it goes without Dify's engine."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.dsl.load import inspect
from headrace.nodes import registry
from oracle import headrace_side
from oracle.case import Case
from oracle.compare import Difference, compare
from oracle.echo import echo_server
from oracle.explained import Finding, reason
from oracle.graphs import TYPES, build
from oracle.model import reply
from oracle.shrink import shrink

REGISTRY = registry(())
few = settings(max_examples=5, suppress_health_check=list(HealthCheck), database=None, derandomize=True)


@pytest.mark.parametrize("kind", TYPES)
@few
@given(st.data())
def test_graphs_of_every_node_type_load(kind: str, data: st.DataObject):
    case = build(data.draw, [kind])
    flow, problems = inspect(case.dsl("http://127.0.0.1:1"), REGISTRY)
    assert flow is not None, problems
    assert kind.partition(" ")[0] in case.types.values()


def node(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "type": "custom", "data": {"title": name, **data}}


def chain(*nodes: dict[str, Any]) -> Case:
    """A workflow of nodes that follow each other."""
    edges = [
        {"id": f"{a['id']}-{b['id']}", "source": a["id"], "sourceHandle": "source", "target": b["id"], "data": {}}
        for a, b in pairwise(nodes)
    ]
    workflow = {"environment_variables": [], "graph": {"nodes": list(nodes), "edges": edges}}
    return Case({"kind": "app", "version": "0.5.0", "app": {"mode": "workflow"}, "workflow": workflow}, {"n": 1.0})


FIELD = {"variable": "n", "label": "n", "type": "number", "required": False}
READS = [{"variable": "x", "value_selector": ["start", "n"]}]
OUTPUTS = [{"variable": "o", "value_selector": ["second", "output"]}]
CASE = chain(
    node("start", {"type": "start", "variables": [FIELD]}),
    node("first", {"type": "template-transform", "template": "first", "variables": []}),
    node("second", {"type": "template-transform", "template": "n is {{ x }}", "variables": READS}),
    node("end", {"type": "end", "outputs": OUTPUTS}),
)


async def test_what_headrace_puts_out_is_kept_by_node(tmp_path: Path):
    with echo_server() as echo:
        async with headrace_side.resources(tmp_path) as resources:
            ours = await headrace_side.run(CASE, resources, echo)
    assert [run["id"] for run in ours["nodes"]] == ["start", "first", "second", "end"]
    assert ours["nodes"][2]["outputs"] == {"output": "n is 1.0"}
    assert (ours["status"], ours["outputs"]) == ("succeeded", {"o": "n is 1.0"})
    assert compare(CASE, ours, copy.deepcopy(ours)) is None


def result(second: Any, status: str = "succeeded") -> dict[str, Any]:
    outputs = {"start": {"n": 1.0}, "first": {"output": "first"}, "second": {"output": second}, "end": {"o": second}}
    runs = [{"id": name, "status": "succeeded", "outputs": value, "error": None} for name, value in outputs.items()]
    return {"nodes": runs, "status": status, "outputs": {"o": second}, "error": None}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(1, 1.0), (0.0, -0.0), (True, 1), (None, ""), ("1", 1), ([1], [1, 1]), ({"a": 1}, {"a": None}), ({}, {"a": None})],
)
def test_values_that_are_written_differently_differ(ours: Any, theirs: Any):
    difference = compare(CASE, result(ours), result(theirs))
    assert difference is not None
    assert (difference.kind, difference.node) == ("template-transform", "second")
    assert difference.place.startswith("outputs.output")
    assert compare(CASE, result(ours), result(ours)) is None


def test_the_end_of_a_run_is_compared():
    difference = compare(CASE, result("x"), result("x", "partial-succeeded"))
    assert difference is not None
    assert (difference.kind, difference.place, difference.ours) == ("run", "status", '"succeeded"')
    refused = compare(CASE, {"refused": "no"}, result("x"))
    assert refused is not None
    assert refused.place == "loading"


@pytest.mark.parametrize("parallel", [False, True])
def test_a_failed_run_may_have_begun_more_items_of_a_parallel_iteration(parallel: bool):
    inside = {**node("inside", {"type": "template-transform"}), "parentId": "items"}
    case = chain(node("items", {"type": "iteration", "is_parallel": parallel}), inside)
    ours, theirs = (
        {"nodes": [{"id": "inside", "status": "failed", "outputs": {}, "error": "no"}] * count, "status": "failed"}
        for count in (1, 2)
    )
    difference = compare(case, ours, theirs)
    assert (difference is None) is parallel
    assert difference is None or difference.place == "runs"


@pytest.mark.parametrize("type_", ["array[boolean]", "string"])
def test_an_empty_list_of_booleans_is_compared_with_anything(type_: str):
    case = chain(node("second", {"type": "if-else", "cases": [{"conditions": [{"varType": type_}]}]}))
    difference = Difference("if-else", "second", "status", '"succeeded"', '"exception"', "unexpected value: 1e5")
    assert (reason(Finding(case, difference, {}, {})) is not None) is (type_ == "array[boolean]")


def test_a_difference_that_is_not_meant_has_no_reason():
    difference = Difference("template-transform", "second", "outputs.output", '"a"', '"b"')
    assert reason(Finding(CASE, difference, result("a"), result("b"))) is None
    passed_over = Difference("run", "", "status", '"succeeded"', '"partial-succeeded"')
    assert reason(Finding(CASE, passed_over, result("a"), result("a", "partial-succeeded"))) is None  # nothing failed


def test_shrinking_leaves_what_the_difference_needs():
    def differs(case: Case) -> bool:
        return any(node["data"].get("template", "").count("x") for node in case.nodes if node["id"] == "second")

    small = shrink(CASE, differs)
    assert [node["id"] for node in small.nodes] == ["start", "second", "end"]
    edges = {(edge["source"], edge["target"]) for edge in small.document["workflow"]["graph"]["edges"]}
    assert edges == {("start", "second"), ("second", "end")}
    assert small.inputs == {"n": None}
    assert small.nodes[2]["data"]["outputs"] == []
    assert [node["id"] for node in CASE.nodes] == ["start", "first", "second", "end"]  # the given one stays


def test_a_case_is_read_as_it_was_written(tmp_path: Path):
    CASE.write(tmp_path / "case", {"headrace": result(1), "dify": result(1.0)})
    assert Case.read(tmp_path / "case") == CASE
    assert sorted(file.name for file in (tmp_path / "case").iterdir()) == [
        "dify.json",
        "dsl.yml",
        "headrace.json",
        "inputs.json",
    ]


def test_any_change_of_a_prompt_changes_the_answer():
    said = {reply([("system", a), ("user", b)]).text for a, b in [("a", "b"), ("a", "b "), ("ab", ""), ("b", "a")]}
    assert len(said) == 4
