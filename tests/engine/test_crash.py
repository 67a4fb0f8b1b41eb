"""Whatever a run is doing, the process may die: the run must come to the same end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.dsl.load import load
from headrace.engine import Driver
from headrace.kernel.events import NodeFailed, NodeStarted, NodeSucceeded, Record, RunEnded
from headrace.kernel.graph import Retry
from headrace.kernel.response import ResponseStream
from headrace.node import Config, Context, Flow, Node, Result
from headrace.stores.memory import MemoryJournal
from tests.engine.nests import REGISTRY as NESTS
from tests.engine.nests import adds, iteration, loop, node, queued_record, source, variable
from tests.engine.nests import flow as nest
from tests.engine.worlds import Failing, Instant, Scripted, flow, queued, world


class Killed(Exception):
    """The process died before this append."""


class Mortal(MemoryJournal):
    """A journal that dies before its nth append (counted from 0), and stays dead."""

    def __init__(self, survives: int) -> None:
        super().__init__()
        self.left = survives

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        if self.left == 0:
            dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            dead.set_exception(Killed())
            return dead
        self.left -= 1
        return super().append(records)


async def echo(ctx: Context) -> Result:
    """A slow node: says what it read, in two pieces."""
    seen = {name: ctx.variables.get((name, "text")) for name in ctx.spec.config["reads"]}
    ctx.emit("text", "a")
    await asyncio.sleep(0)
    ctx.emit("text", "b")
    return Result({"text": f"{ctx.spec.id}<{','.join(f'{k}={v}' for k, v in seen.items() if v)}>"})


@dataclass(frozen=True)
class Plot:
    """A random graph: per node its kind, and the nodes it hangs on (earlier ones, so there is no cycle)."""

    kinds: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]

    def flow(self) -> Flow:
        nodes = {"n0": Instant({"text": "root"})}
        edges: list[str] = []
        specs: dict[str, dict[str, object]] = {}
        for index, (kind, parents) in enumerate(zip(self.kinds, self.parents, strict=True), 1):
            name = f"n{index}"
            config = {"reads": [f"n{parent}" for parent in parents]}
            specs[name] = {"config": config}
            match kind:
                case "slow":
                    nodes[name] = Scripted(echo)
                case "choice":
                    nodes[name] = Instant({"text": name}, handle="even" if index % 2 == 0 else "odd")
                    specs[name]["branching"] = True
                case "flaky":
                    nodes[name] = Failing(2)
                    specs[name]["retry"] = RETRY
                case "handled":
                    nodes[name] = Failing(9, instant=True)
                    specs[name]["strategy"] = "fail-branch"
                case "default":
                    nodes[name] = Failing(9)
                    specs[name] |= {"strategy": "default-value", "defaults": {"text": "default"}}
                case "fatal":
                    nodes[name] = Failing(9)
                case _:
                    nodes[name] = Instant({"text": name})
            for parent in parents:
                handle = {"choice": ":even" if index % 3 else ":odd", "handled": ":fail-branch" if index % 2 else ""}
                edges.append(f"n{parent}{handle.get(((('start', *self.kinds))[parent]), '')}>{name}")
        last = f"n{len(self.kinds)}"
        return flow(nodes, edges, {last: [("n1", "text")]}, specs)


RETRY = Retry(3, 0.0)


@st.composite
def plots(draw: st.DrawFn) -> Plot:
    size = draw(st.integers(1, 9))
    kinds = draw(
        st.lists(
            st.sampled_from(["instant", "slow", "slow", "choice", "flaky", "handled", "default", "fatal"]),
            min_size=size,
            max_size=size,
        )
    )
    parents = [
        tuple(draw(st.lists(st.integers(0, index), min_size=1, max_size=3, unique=True))) for index in range(size)
    ]
    return Plot(tuple(kinds), tuple(parents))


def story(ended: RunEnded | None) -> tuple[object, ...]:
    """How a run ended; of one that failed, which failure came first and how far others had come is a matter of time."""
    assert ended is not None
    return ended.status, {} if ended.status == "failed" else dict(ended.outputs)


async def killed_before(graph: Flow, first: Record, survives: int) -> tuple[bool, MemoryJournal]:
    """Drives with a journal that dies; then again, from what it has, with one that lives. Did it die at all?"""
    mortal = Mortal(survives + 1)  # the first append is the one that queues the run
    await mortal.append([first])
    died = False
    try:
        await Driver("run", graph, world(mortal)).drive()
    except Killed:
        died = True
    mortal.left = -1
    await Driver("run", graph, world(mortal)).drive()
    return died, mortal


async def at_every_append(graph: Flow, first: Record) -> None:
    """Kills the run before each of its appends in turn."""
    where = world()
    await where.journal.append([first])
    whole = await Driver("run", graph, where).drive()
    for survives in range(400):
        died, journal = await killed_before(graph, first, survives)
        records = await journal.read("run")
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        last = records[-1].event
        assert isinstance(last, RunEnded)
        assert story(last) == story(whole.ended)
        if last.status != "failed":  # how far others had come when a node failed is a matter of time
            assert (last.steps, last.exceptions) == (whole.steps, whole.exceptions)
        if not any(isinstance(record.event, NodeFailed) for record in records):
            assert last.tokens == whole.tokens
        started = [record.event.path for record in records if isinstance(record.event, NodeStarted)]
        finished = [record.event.path for record in records if isinstance(record.event, NodeSucceeded)]
        assert len(started) == len(set(started)), "no node is told to start twice"
        assert len(finished) == len(set(finished)), "no node ends twice"
        if not died:
            return
    raise AssertionError("the run never ended")


@settings(max_examples=100)
@given(plots())
def test_a_run_killed_before_any_append_comes_to_the_same_end(plot: Plot):
    asyncio.run(at_every_append(plot.flow(), queued()))


# --------------------------------------------------------------------------------------------- inside of containers

KINDS = st.sampled_from(["echo", "slow-echo", "slow-echo"])
MODES = st.sampled_from(["terminated", "continue-on-error", "remove-abnormal-output"])


@st.composite
def insides(draw: st.DrawFn, home: str, depth: int) -> tuple[list[Any], list[str], list[str]]:
    """(nodes, edges, what the last puts out) of a random container's inside: chains of nodes, loops and iterations."""
    nodes: list[Any] = []
    edges: list[str] = []
    before, known = f"{home}-start", [home, "item"]
    last = known
    for number in range(draw(st.integers(1, 3 if depth else 2))):
        name = f"{home}{'abc'[number]}"
        shape = draw(st.sampled_from(["node", "node", "iteration", "loop"])) if depth else "node"
        if shape == "node":
            fails = draw(st.sampled_from([[], [], ["x"], ["y"]]))
            retry = {"retry_enabled": True, "max_retries": 2, "retry_interval": 0} if draw(st.booleans()) else None
            data = {"fails_first": draw(st.integers(0, 1)) if retry else 0, "tokens": draw(st.integers(0, 3))}
            reads = [[home, "item"], known]
            nodes.append(node(name, draw(KINDS), home, reads=reads, fails_on=fails, retry_config=retry, **data))
            last = [name, "r"]
        else:
            inner, inner_edges, out = draw(insides(name, depth - 1))
            if shape == "iteration":
                several = {"is_parallel": draw(st.booleans()), "parallel_nums": draw(st.integers(1, 3))}
                nodes += [
                    iteration(name, ["start", "items"], out, home, error_handle_mode=draw(MODES), **several),
                    *inner,
                ]
                last = [name, "output"]
            else:
                data: dict[str, Any] = {"loop_variables": [variable("n", 0), variable("item", "x", "string")]}
                if until := draw(st.sampled_from([None, None, "0", "2"])):
                    condition = {"variable_selector": [name, "n"], "comparison_operator": "≥", "value": until}
                    data["break_conditions"] = [condition]
                counts = adds(f"{name}n", [name, "n"], 1, name)
                nodes += [loop(name, draw(st.integers(1, 3)), home, **data), *inner, counts]
                inner_edges.append(f"{name}-start>{name}n")
                if draw(st.booleans()):
                    case = {"variable_selector": [name, "n"], "comparison_operator": "=", "value": "2"}
                    cases = [{"case_id": "last", "logical_operator": "and", "conditions": [case]}]
                    nodes += [node(f"{name}if", "if-else", name, cases=cases), node(f"{name}end", "loop-end", name)]
                    inner_edges += [f"{name}n>{name}if", f"{name}if:last>{name}end"]
                last = [name, "n"]
            edges += inner_edges
        edges.append(f"{before}>{name}")
        if draw(st.booleans()):  # else the next one runs beside it, and must not read it
            before, known = name, last
    return nodes, edges, last


@settings(max_examples=25)
@given(st.data())
def test_a_run_killed_in_the_middle_of_containers_comes_to_the_same_end(data: st.DataObject):
    inner, edges, out = data.draw(insides("it", 2))
    several = {"is_parallel": data.draw(st.booleans()), "parallel_nums": data.draw(st.integers(1, 3))}
    mode = data.draw(MODES)
    workflow = nest(
        [iteration("it", ["start", "items"], out, error_handle_mode=mode, **several), *inner],
        " ".join(["start>it", *edges, "it>end"]),
        {"out": ["it", "output"]},
    )
    items = data.draw(st.lists(st.sampled_from(["x", "y", "z"]), max_size=3))
    asyncio.run(at_every_append(workflow, queued_record(items=items)))


# ------------------------------------------------------------------------------------------------ what rounds have said


class TalkConfig(Config):
    pass


class Talk(Node[TalkConfig]):
    """Says its item letter by letter, as a model does."""

    type = "talk"

    async def run(self, ctx: Context) -> Result:
        text = ctx.variables.get(["it", "item"])
        for letter in text:
            ctx.emit("text", letter)
            await asyncio.sleep(0)
        return Result({"text": text})


@pytest.mark.parametrize("parallel", [False, True])
async def test_what_rounds_say_is_whole_whenever_the_process_dies(parallel: bool):
    file = yaml.safe_load(
        source(
            [
                iteration("it", ["start", "items"], ["talk", "text"], is_parallel=parallel, parallel_nums=2),
                node("talk", "talk", "it"),
                node("say", "answer", "it", answer="<{{#talk.text#}}>"),
            ],
            "start>it it-start>talk talk>say it>end",
            {},
        )
    )
    file["app"]["mode"] = "advanced-chat"
    file["workflow"]["graph"]["nodes"][-1]["data"] = {"type": "answer", "title": "end", "answer": "!"}
    workflow = load(yaml.safe_dump(file), {**NESTS, "talk": Talk}, "talk.yml")
    items = ["abc", "defg", "hi"]
    for survives in range(100):
        died, journal = await killed_before(workflow, queued_record(items=items), survives)
        answer, said = ResponseStream(workflow.graph), dict[int, str]()
        for record in await journal.read("run"):
            for text, _, level in answer.apply(record):
                said[level] = said.get(level, "") + text
        assert said.pop(0) == "!"
        for item, text in zip(items, sorted(said.values()), strict=True):
            # an attempt that the crash cut off has been heard, as far as it came
            assert text.removesuffix(f"{item}>") in [f"<{item[:letters]}" for letters in range(len(item) + 1)]
        if not died:
            return
    raise AssertionError("the run never ended")
