"""Which level a node is on: what edges say, whatever its metadata does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml

from headrace.dsl.load import inspect
from headrace.kernel.events import NodeStarted
from headrace.node import Flow
from tests.engine.driving import drive
from tests.engine.nests import REGISTRY, iteration, loop, node, source, variable

ITEM = [["it", "item"]]
OUT = {"out": ["it", "output"]}


def loaded(nodes: Sequence[Any], edges: str, outputs: Mapping[str, Sequence[str]] = OUT) -> tuple[Flow, list[str]]:
    """A workflow, and the problems that `lint` names, without their lines."""
    flow, problems = inspect(source(nodes, edges, outputs), REGISTRY)
    assert flow is not None, problems
    return flow, [f"{problem.node}: {problem.message}" for problem in problems]


def marked(nodes: dict[str, Any], inside: str | None = None, **data: Any) -> dict[str, Any]:
    """The node with other metadata than it was made with."""
    bare = {key: value for key, value in nodes.items() if key != "parentId"}
    return {**bare, **({"parentId": inside} if inside else {}), "data": {**nodes["data"], **data}}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"inside": "it"}, "the node's parent is 'it', but edges lead to it outside: it runs there"),
        (
            {"isInIteration": True, "iteration_id": "it"},
            "the node's parent is 'it', but edges lead to it outside: it runs there",
        ),
        (
            {"isInLoop": True, "loop_id": "gone"},
            "the node's parent 'gone' does not exist: it is treated as outside",
        ),
    ],
)
async def test_a_node_that_was_copied_out_of_a_container_runs_outside(where: dict[str, Any], message: str):
    nodes = [
        marked(node("first", reads=[["start", "items"]]), **where),
        iteration("it", ["start", "items"], ["in", "r"]),
        node("in", inside="it", reads=ITEM),
    ]
    flow, problems = loaded(nodes, "start>first first>it it-start>in it>end")
    assert problems == [f"first: {message}"]
    state, _ = await drive(flow, items=["a", "b"])
    assert state.outputs == {"out": ["in:a", "in:b"]}
    assert flow.graph.nodes["first"].parent is None


@pytest.mark.parametrize(
    ("kind", "where", "message"),
    [
        ("iteration", {}, "edges lead here from inside 'it', but the node has no such parent: "
         "it runs there"),
        ("iteration", {"inside": "other"}, "the node's parent is 'other', but edges lead to it inside 'it': "
         "it runs there"),
        ("iteration", {"inside": "gone"}, "the node's parent 'gone' does not exist: it is treated as "
         "inside 'it'"),
        ("loop", {}, "edges lead here from inside 'it', but the node has no such parent: it runs there"),
        ("loop", {"isInLoop": True, "loop_id": "other"}, "the node's parent is 'other', but edges lead to it "
         "inside 'it': it runs there"),
    ],
)  # fmt: skip
async def test_a_node_that_edges_lead_to_inside_a_container_runs_there(kind: str, where: Any, message: str):
    container = iteration("it", ["start", "items"], ["in", "r"]) if kind == "iteration" else loop("it", 2)
    nodes = [
        container,
        marked(node("in", reads=ITEM), **where),
        iteration("other", ["start", "items"], ["x", "r"]),
        node("x", inside="other"),
    ]
    flow, problems = loaded(nodes, "start>it it-start>in it>other other-start>x other>end")
    assert problems == [f"in: {message}"]
    assert flow.graph.nodes.keys() == {"start", "it", "other", "end"}
    assert flow.graph.bodies["it"].graph.nodes.keys() == {"it-start", "in"}
    _, records = await drive(flow, items=["a", "b"])
    began = [record.event.path for record in records if isinstance(record.event, NodeStarted)]
    assert [path for path in began if path.endswith("/in")] == ["it[0]/in", "it[1]/in"]


async def test_nested_containers_are_where_edges_lead():
    nodes = [
        iteration("it", ["start", "items"], ["lp", "n"]),
        # all of these say that they are somewhere else
        *map(marked, loop("lp", 2, loop_variables=[variable("n", 7)])),
        marked(node("in"), inside="it"),
    ]
    nodes[1]["data"]["start_node_id"] = "lp-start"
    flow, problems = loaded(nodes, "start>it it-start>lp lp-start>in it>end")
    assert {problem.split(":")[0] for problem in problems} == {"lp", "lp-start", "in"}
    outer = flow.graph.bodies["it"].graph
    assert (set(outer.nodes), set(outer.bodies["lp"].graph.nodes)) == ({"it-start", "lp"}, {"lp-start", "in"})
    state, _ = await drive(flow, items=["a", "b"])
    assert state.outputs == {"out": [7, 7]}


@pytest.mark.parametrize(("inside", "left_out"), [(None, "in"), ("it", "first")])
def test_a_node_that_edges_lead_to_from_both_sides_is_where_it_says(inside: str | None, left_out: str):
    nodes = [
        node("first"),
        iteration("it", ["start", "items"], ["in", "r"]),
        node("in", inside="it", reads=ITEM),
        node("both", inside=inside),
    ]
    flow, problems = loaded(nodes, "start>first first>it it-start>in in>both first>both it>end")
    level = flow.graph if inside is None else flow.graph.bodies["it"].graph
    assert "both" in level.nodes
    assert problems == [f"{left_out}: an edge crosses the border of a container, to 'both': it is ignored"]


def test_what_an_edge_leads_to_out_of_a_container_only_is_inside():
    nodes = [iteration("it", ["start", "items"], ["in", "r"]), node("in", inside="it"), node("behind")]
    flow, problems = loaded(nodes, "start>it it-start>in in>behind behind>end it>end")
    assert set(flow.graph.bodies["it"].graph.nodes) == {"it-start", "in", "behind"}
    assert set(flow.graph.nodes) == {"start", "it", "end"}
    assert sorted(problems) == [
        "behind: an edge crosses the border of a container, to 'end': it is ignored",
        "behind: edges lead here from inside 'it', but the node has no such parent: it runs there",
    ]


def test_a_copied_container_begins_with_its_own_start():
    copy = iteration("copy", ["start", "items"], ["in2", "r"])
    copy[0]["data"]["start_node_id"] = "it-start"
    nodes = [
        iteration("it", ["start", "items"], ["in", "r"]),
        node("in", inside="it"),
        copy,
        node("in2", inside="copy"),
    ]
    flow, problems = loaded(nodes, "start>it it-start>in copy-start>in2 it>copy copy>end")
    assert problems == []
    assert set(flow.graph.bodies["copy"].graph.nodes) == {"copy-start", "in2"}


def test_containers_that_say_they_are_inside_one_another_are_where_edges_lead():
    a, b = iteration("a", ["start", "items"], ["x", "r"]), iteration("b", ["start", "items"], ["y", "r"])
    a[0], b[0] = marked(a[0], inside="b"), marked(b[0], inside="a")
    nodes = [a, b, node("x", inside="a"), node("y", inside="b")]
    flow, problems = loaded(nodes, "start>a a-start>x x>b b-start>y y>a a>end", {"out": ["a", "output"]})
    assert set(flow.graph.nodes) == {"start", "a", "end"}
    assert set(flow.graph.bodies["a"].graph.nodes) == {"a-start", "x", "b"}
    assert sorted(problems) == [
        "a: the node's parent is 'b', but edges lead to it outside: it runs there",
        "y: an edge crosses the border of a container, to 'a': it is ignored",
    ]


def test_what_is_never_reached_is_reported_once():
    nodes = [
        iteration("it", ["start", "items"], ["in", "r"]),
        node("in", inside="it"),
        node("stray", inside="it"),
        iteration("lost", ["start", "items"], ["x", "r"]),
        node("x", inside="lost"),
    ]
    _, problems = loaded(nodes, "start>it it-start>in it>end lost-start>x x>end lost>end")
    assert problems == [
        f"{name}: the node cannot be reached from the start: it is ignored" for name in ("stray", "lost")
    ]


def test_values_from_inside_a_container_are_reported():
    nodes = [
        iteration("it", ["start", "items"], ["in", "r"]),
        node("in", inside="it"),
        loop("lp", 2),
        node("round", inside="lp", variable_selector=["in", "r"]),
        node("after", text="{{#round.r#}} {{#it.output#}} {{#lp.n#}}"),
    ]
    _, problems = loaded(nodes, "start>it it-start>in it>lp lp-start>round lp>after after>end")
    assert problems == [
        "round: 'in.r' is read, but is set inside the iteration 'it': outside it there is no value",
        "after: 'round.r' is read, but is set inside the loop 'lp': outside it there is the value of the last round",
    ]


def test_the_start_of_a_file_that_says_it_is_inside():
    text = yaml.safe_load(source([iteration("it", ["start", "items"], ["in", "r"]), node("in", inside="it")],
                                 "start>it it-start>in it>end", OUT))  # fmt: skip
    text["workflow"]["graph"]["nodes"][0]["parentId"] = "it"
    flow, problems = inspect(yaml.safe_dump(text), REGISTRY)
    assert flow is not None
    assert flow.graph.root == "start"
    assert [problem.message for problem in problems] == [
        "the node's parent is 'it', but edges lead to it outside: it runs there"
    ]


@pytest.mark.parametrize(("one", "two"), [("one", None), ("two", "one"), (None, "one"), ("first", "two")])
def test_no_container_is_inside_itself(one: str | None, two: str | None):
    """Containers that say that they themselves, or what is around them, begin their rounds."""
    first, first_start = loop("one", 2)
    second, second_start = loop("two", 2, "one")
    nodes = [marked(first, start_node_id=one), first_start, marked(second, "one", start_node_id=two), second_start]
    nodes += [node("first", text="{{#one.n#}} {{#two.n#}}"), node("in", inside="two")]
    edges = "start>first first>one one>end one-start>two two-start>in"
    _, problems = inspect(source(nodes, edges, {"out": ["one", "n"]}), REGISTRY)
    assert problems
