"""One iteration or loop, driven to its end."""

from __future__ import annotations

from typing import Any

from headrace.engine import Driver
from headrace.kernel.events import Record
from headrace.kernel.state import State
from headrace.node import Flow
from headrace.stores.memory import MemoryJournal
from tests.engine.nests import adds, flow, iteration, loop, node, queued_record, variable
from tests.engine.worlds import world

ITEM, INDEX = ["it", "item"], ["it", "index"]


async def drive(workflow: Flow, **inputs: Any) -> tuple[State, list[Record]]:
    where = world(MemoryJournal())
    await where.journal.append([queued_record(**inputs)])
    return await Driver("run", workflow, where).drive(), await where.journal.read("run")


def each_item(kind: str = "slow-echo", **data: Any) -> Flow:
    """An iteration of one node that reads the item, over the input `items`."""
    inner = {name: data.pop(name) for name in ("fails_on", "tokens", "fails_first") if name in data}
    return flow(
        [iteration("it", ["start", "items"], ["in", "r"], **data), node("in", kind, "it", reads=[ITEM], **inner)],
        "start>it it-start>in it>end",
        {"out": ["it", "output"]},
    )


def counting(count: int, until: int | None = None, *inside: Any, edges: str = "") -> Flow:
    """A loop that counts `n` up from 1, until it is so high."""
    conditions = [{"variable_selector": ["lp", "n"], "comparison_operator": "≥", "value": str(until)}]
    data = {"break_conditions": conditions if until is not None else [], "loop_variables": [variable("n", 1)]}
    return flow(
        [loop("lp", count, **data), adds("add", ["lp", "n"], 1, "lp"), *inside],
        f"start>lp lp-start>add lp>end {edges}",
        {"n": ["lp", "n"], "rounds": ["lp", "loop_round"]},
    )
