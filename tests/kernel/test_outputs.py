"""What a run puts out where several End nodes have one name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from headrace.kernel.graph import Edge, Graph, NodeSpec
from headrace.kernel.response import execution_order
from headrace.node import Config, Context, Node, Result
from tests.engine.worlds import Instant, Scripted, drive, flow


def after(turns: int) -> Node[Config]:
    """A node that takes so many turns of the event loop."""

    async def script(_: Context) -> Result:
        for _turn in range(turns):
            await asyncio.sleep(0)
        return Result({"text": "x"})

    return Scripted(script)


def ends(*names: str) -> Mapping[str, Node[Config]]:
    return {name: Instant({"x": name, f"only_{name}": name}) for name in names}


@pytest.mark.parametrize(("a", "b"), [(0, 9), (9, 0)])
@pytest.mark.parametrize(
    ("edges", "last"),
    [
        ("s>a s>b a>e1 b>e2", "e2"),
        ("s>b s>a a>e1 b>e2", "e1"),
        ("s>a s>b a>more more>e1 b>e2", "e1"),  # what is ready later runs later
        ("s>a s>b a>e1 b>e2 s>e1", "e2"),
    ],
)
async def test_the_end_that_comes_last_in_dify_s_order_has_the_say(edges: str, last: str, a: int, b: int):
    nodes = {"s": Instant(), "a": after(a), "b": after(b), "more": Instant(), **ends("e1", "e2")}
    parts = [edge for edge in edges.split() if edge]
    workflow = flow(
        {n: v for n, v in nodes.items() if n in edges}, parts, {"e1": [("a", "text")], "e2": [("b", "text")]}
    )
    state = await drive(workflow)
    assert state.ended is not None
    assert state.ended.outputs == {"x": last, "only_e1": "e1", "only_e2": "e2"}


async def test_answers_of_ends_are_put_together_in_that_order():
    nodes = {"s": Instant(), "a": after(9), "b": after(0), **{n: Instant({"answer": n}) for n in ("e1", "e2")}}
    workflow = flow(nodes, ["s>a", "s>b", "a>e1", "b>e2"], {"e1": [("a", "text")], "e2": [("b", "text")]})
    state = await drive(workflow)
    assert state.outputs == {"answer": "e1e2"}


def order(edges: str, **handles: str) -> list[str]:
    parsed = [
        Edge(s.partition(":")[0], t, s.partition(":")[2] or "source") for s, t in (e.split(">") for e in edges.split())
    ]
    names = dict.fromkeys(name for edge in parsed for name in (edge.source, edge.target))
    graph = Graph([NodeSpec(n, "any", branching=n.startswith("if")) for n in names], parsed, "s")
    return list(execution_order(graph, dict.fromkeys(names, "source") | handles))


def test_the_order_of_execution():
    assert order("s>a s>b a>c b>d") == ["s", "a", "b", "c", "d"]
    assert order("s>if if:x>a if:y>b a>c b>c", **{"if": "y"}) == ["s", "if", "b", "c"]
    assert order("s>a a>j s>b b>j j>e b>f") == ["s", "a", "b", "j", "f", "e"]
    # a node that waits for a skipped one last is ready once that is skipped
    assert order("s>a s>if a>j if:x>j if:y>k", **{"if": "y"}) == ["s", "a", "if", "j", "k"]


def test_what_has_not_ended_leads_nowhere():
    parsed = [Edge("s", "a"), Edge("a", "b")]
    graph = Graph([NodeSpec(n, "any") for n in "sab"], parsed, "s")
    assert list(execution_order(graph, {"s": "source"})) == ["s"]
