"""What lint says of files that load, and are surely not what was meant."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
import yaml

from headrace.dsl.load import inspect
from headrace.nodes import registry

Nodes = dict[str, dict[str, Any]]


def end(*names: str) -> dict[str, Any]:
    return {"type": "end", "outputs": [{"variable": name, "value_selector": ["s", "q"]} for name in names]}


def case(handle: str) -> dict[str, Any]:
    condition = {"variable_selector": ["s", "q"], "comparison_operator": "is", "value": handle, "id": "c"}
    return {"case_id": handle, "logical_operator": "and", "conditions": [condition]}


CHOICE = {"type": "if-else", "cases": [case("one"), case("two")]}
CODE = {
    "type": "code",
    "code": "def main():\n  return {}\n",
    "code_language": "python3",
    "outputs": {},
    "variables": [],
}
FAILING = {**CODE, "error_strategy": "fail-branch"}


def problems(nodes: Nodes, edges: str, **workflow: Any) -> list[str]:
    """What is said of a graph with a start `s`; edges are `a>b` or `a:handle>b`."""
    start = {"type": "start", "variables": [{"variable": "q", "label": "q", "type": "text-input"}]}
    ends = [edge.split(">") for edge in edges.split()]
    graph = {
        "nodes": [{"id": name, "data": {"title": name, **data}} for name, data in ({"s": start} | nodes).items()],
        "edges": [
            {"source": way.split(":")[0], "sourceHandle": way.partition(":")[2] or "source", "target": target}
            for way, target in ends
        ],
    }
    app = {"app": {"name": "n", "mode": "workflow"}, "kind": "app", "workflow": {"graph": graph, **workflow}}
    flow, problem_list = inspect(yaml.safe_dump(app), registry())
    assert flow is not None, problem_list
    return [str(item).split(", ", 1)[1] for item in problem_list]


def both(name: str, other: str, field: str = "outputs.0.variable", output: str = "x") -> str:
    return (
        f"node '{name}', field '{field}': the output '{output}' is also defined by '{other}': "
        "a run that reaches both has only one value of that name"
    )


def test_two_ends_that_one_run_reaches():
    assert problems({"a": end("x"), "b": end("y", "x")}, "s>a s>b") == [both("b", "a", "outputs.1.variable")]


def test_an_end_that_names_an_output_twice():
    assert problems({"a": end("x", "y", "x")}, "s>a") == [
        "node 'a', field 'outputs.2.variable': the output 'x' is defined twice: "
        "a run that reaches both has only one value of that name"
    ]


def test_outputs_of_one_name_without_number_are_not_judged():
    """Their pairs would fill the memory."""
    began = time.thread_time()
    assert problems({"a": end(*["x"] * 8_000), "b": end("x")}, "s>a s>b") == []
    assert time.thread_time() - began < 15  # some 3 s, in which the file is read


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        ({"i": CHOICE, "a": end("x"), "b": end("x"), "c": end("x")}, "s>i i:one>a i:two>b i:false>c"),
        ({"i": CHOICE, "p": CODE, "a": end("x"), "b": end("x")}, "s>i i:one>p p>a i:two>b"),
        ({"f": FAILING, "a": end("x"), "b": end("x")}, "s>f f>a f:fail-branch>b"),
        # the second choice is only made where the first was `two`
        ({"i": CHOICE, "j": CHOICE, "a": end("x"), "b": end("x")}, "s>i i:one>a i:two>j j:one>b"),
        # one choice decides for both, by way of what other branches share
        ({"p": CODE, "i": CHOICE, "a": end("x"), "b": end("x")}, "s>p p>i i:one>a i:two>b"),
        # an unknown type leaves by which handle it likes
        ({"u": {"type": "human-input"}, "a": end("x"), "b": end("x")}, "s>u u:yes>a u:no>b"),
        ({"a": end("x"), "b": end("y")}, "s>a s>b"),
    ],
)
def test_ends_that_no_run_reaches_together(nodes: Nodes, edges: str):
    assert not [problem for problem in problems(nodes, edges) if "put out" in problem]


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        # two choices that do not depend on one another
        ({"i": CHOICE, "j": CHOICE, "a": end("x"), "b": end("x")}, "s>i s>j i:one>a j:one>b"),
        # `a` is reached by either handle
        ({"i": CHOICE, "a": end("x"), "b": end("x")}, "s>i i:one>a i:two>a i:two>b"),
        ({"i": CHOICE, "p": CODE, "a": end("x"), "b": end("x")}, "s>i i:one>p p>a p>b"),
        ({"i": CHOICE, "a": end("x"), "b": end("x")}, "s>i s>a i:one>b"),
        # the end that is far stands first in the file, and the way to it is long
        ({"b": end("x"), "p": CODE, "o": CODE, "a": end("x")}, "s>p p>o o>b s>a"),
    ],
)
def test_ends_that_some_run_reaches_together(nodes: Nodes, edges: str):
    ends = [name for name, data in nodes.items() if data["type"] == "end"]
    assert problems(nodes, edges) == [both(ends[1], ends[0])]


def test_large_graphs_are_judged_in_a_moment():
    """Layers, each of which leads to all of the next, have more ways than anybody could follow."""
    layers = [[f"n{layer}_{place}" for place in range(4)] for layer in range(300)]
    nodes: Nodes = {name: CODE for layer in layers for name in layer}
    edges = [f"{one}>{other}" for layer, after in pairwise(layers) for one in layer for other in after]
    edges += [f"s>{name}" for name in layers[0]] + [f"{layers[-1][0]}>a", f"{layers[-1][1]}>b"]
    assert problems({**nodes, "a": end("x"), "b": end("x")}, " ".join(edges)) in ([], [both("b", "a")])


VARIABLE = {"conversation_variables": [{"name": "slots", "value_type": "object", "value": {}}]}
SLOTS = ["conversation", "slots"]
FAILS = "every run that reaches it fails"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"actions": [{"operation": "set", "value": "x", "variable_selector": SLOTS}]},
            f"node 'a', field 'items': the node names no variable to assign: {FAILS}",
        ),
        ({"version": "2"}, "node 'a', field 'items': the node names no variable to assign: it does nothing"),
        (
            {"version": "1", "assigned_variable_selector": SLOTS},
            f"node 'a', field 'input_variable_selector': no value to assign is named: {FAILS}",
        ),
        (
            {"assigned_variable_selector": ["sys", "query"], "input_variable_selector": ["s", "q"]},
            f"node 'a', field 'assigned_variable_selector': a variable of sys or env cannot be assigned: {FAILS}",
        ),
        (
            {"version": "2", "items": [{"variable_selector": ["env", "k"], "operation": "clear"}]},
            f"node 'a', field 'items.0.variable_selector': a variable of sys or env cannot be assigned: {FAILS}",
        ),
        (
            {"version": "2", "items": [{"variable_selector": SLOTS, "operation": "+=", "value": ["s", "q"]}]},
            f"node 'a', field 'items.0.operation': operation += takes a constant, not a variable: {FAILS}",
        ),
        ({"assigned_variable_selector": SLOTS, "write_mode": "clear"}, None),
        ({"assigned_variable_selector": SLOTS, "input_variable_selector": ["s", "q"]}, None),
        ({"version": "2", "items": [{"variable_selector": SLOTS, "operation": "clear"}]}, None),
        ({"version": "2", "items": [{"variable_selector": SLOTS, "operation": "append", "value": []}]}, None),
        ({"version": "2", "items": [{"variable_selector": SLOTS, "operation": "append", "value": [3]}]}, None),
        (
            {"version": "2", "items": [{"variable_selector": SLOTS, "operation": "append", "value": ["gone", "x"]}]},
            "node 'a', field 'items.0.value': 'gone.x' is read, but there is no node 'gone'",
        ),
    ],
)
def test_assigners(data: dict[str, Any], message: str | None):
    messages = problems(
        {"a": {"type": "assigner", **data}}, "s>a", environment_variables=[{"name": "k", "value": "v"}], **VARIABLE
    )
    assert messages == ([message] if message else [])
