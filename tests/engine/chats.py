"""Random chat graphs: models that stream and fail, branches, containers, and answer nodes anywhere."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import yaml
from hypothesis import strategies as st
from pydantic import Field

from headrace.brokers import LocalBus
from headrace.dsl.load import load
from headrace.engine import Driver
from headrace.errors import NodeError
from headrace.kernel.events import Record, RunQueued
from headrace.node import Config, Context, Flow, Node, Result
from headrace.ports.services import Usage
from headrace.stores.memory import MemoryJournal
from tests.engine.nests import REGISTRY, iteration, loop, node, variable
from tests.engine.worlds import world

RUN = str(UUID(int=11))


class TalkerConfig(Config):
    texts: list[str] = Field(default_factory=list[str])
    fails_after: int | None = None
    attempts: int = 1
    currency: str = "USD"


class Talker(Node[TalkerConfig]):
    """Streams its texts, and is paid for them; fails its first attempts after so many of them."""

    type = "talker"

    async def run(self, ctx: Context) -> Result:
        config, attempt = self.config, int(ctx.key.rsplit("/", 1)[1])
        fails = config.fails_after is not None and attempt < config.attempts
        for index, text in enumerate(config.texts):
            for _ in range(1 + sum(map(ord, f"{ctx.key}{index}")) % 3):
                await asyncio.sleep(0)
            if fails and index == config.fails_after:
                break
            ctx.emit("text", text)
        if fails:
            raise NodeError("cut off", "Cut")
        usage = Usage(3, len(config.texts), completion_unit_price=Decimal("0.7"), currency=config.currency)
        return Result({"text": "".join(config.texts)}, usage=usage.wire())


class Chat:
    """A graph that grows block by block. A block leaves by its `tails`: (node, handle)."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, str]] = []
        self.values = [["sys", "query"]]
        self._ids = itertools.count(1)

    def id(self, kind: str) -> str:
        return f"{kind}{next(self._ids)}"

    def add(self, new_node: dict[str, Any], tails: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        self.nodes.append(new_node)
        self.edges += [{"source": source, "target": new_node["id"], "sourceHandle": handle} for source, handle in tails]
        return [(new_node["id"], "source")]

    def block(self, tails: list[tuple[str, str]], inside: str | None, depth: int) -> list[tuple[str, str]]:
        kinds = ["talk", "answer", "answer", "echo"]
        kinds += ["if", "fork", "caught", "iteration", "loop"] if depth else []
        for kind in self.draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)):
            tails = getattr(self, f"_{kind}")(tails, inside, depth - 1)
        return tails

    def _talk(self, tails: list[tuple[str, str]], inside: str | None, _: int, **more: Any) -> list[tuple[str, str]]:
        id_ = self.id("talk")
        texts = [f"{id_}.{number} " for number in range(self.draw(st.integers(0, 3)))]
        fails = self.draw(st.sampled_from([None, None, 0, 1, 2]))
        strategy = more or self.draw(st.sampled_from([
            {"error_strategy": "default-value", "default_value": [{"key": "text", "type": "string", "value": "dflt "}]},
            {"retry_config": {"retry_enabled": True, "max_retries": 2, "retry_interval": 0}},
            {},
        ]))  # fmt: skip
        data = {"texts": texts, "fails_after": fails, "attempts": self.draw(st.sampled_from([1, 9]))}
        data["currency"] = self.draw(st.sampled_from(["USD", "USD", "EUR"]))
        new_node = node(id_, "talker", inside, **data, **strategy)
        self.values.append([id_, "text"])
        return self.add(new_node, tails)

    def _caught(self, tails: list[tuple[str, str]], inside: str | None, depth: int) -> list[tuple[str, str]]:
        [(id_, _)] = self._talk(tails, inside, depth, error_strategy="fail-branch")
        well = self.block([(id_, "source")], inside, depth)
        return [*well, *self.block([(id_, "fail-branch")], inside, depth)]

    def _answer(self, tails: list[tuple[str, str]], inside: str | None, _: int) -> list[tuple[str, str]]:
        id_ = self.id("answer")
        reads = self.draw(st.lists(st.sampled_from(self.values), max_size=3))
        text = "|".join([f"<{id_}>", *("{{#" + ".".join(selector) + "#}}" for selector in reads)])
        return self.add(node(id_, "answer", inside, answer=text), tails)

    def _echo(self, tails: list[tuple[str, str]], inside: str | None, _: int) -> list[tuple[str, str]]:
        id_ = self.id("echo")
        self.values.append([id_, "r"])
        return self.add(node(id_, "slow-echo", inside, reads=[self.draw(st.sampled_from(self.values))]), tails)

    def _if(self, tails: list[tuple[str, str]], inside: str | None, depth: int) -> list[tuple[str, str]]:
        id_ = self.id("if")
        holds = self.draw(st.sampled_from(["is", "is not"]))
        condition = {"variable_selector": ["sys", "query"], "comparison_operator": holds, "value": "hey"}
        cases = [{"case_id": "yes", "logical_operator": "and", "conditions": [condition]}]
        self.add(node(id_, "if-else", inside, cases=cases), tails)
        return [*self.block([(id_, "yes")], inside, depth), *self.block([(id_, "false")], inside, depth)]

    def _fork(self, tails: list[tuple[str, str]], inside: str | None, depth: int) -> list[tuple[str, str]]:
        return [*self.block(tails, inside, depth), *self.block(tails, inside, depth)]

    def _iteration(self, tails: list[tuple[str, str]], inside: str | None, depth: int) -> list[tuple[str, str]]:
        id_ = self.id("it")
        mode = self.draw(st.sampled_from(["terminated", "continue-on-error", "remove-abnormal-output"]))
        data = {"is_parallel": self.draw(st.booleans()), "parallel_nums": 3, "error_handle_mode": mode}
        container, start = iteration(id_, ["list", "values"], [id_, "item"], inside, **data)
        return self._container(container, start, tails, depth, [id_, "item"])

    def _loop(self, tails: list[tuple[str, str]], inside: str | None, depth: int) -> list[tuple[str, str]]:
        id_ = self.id("loop")
        container, start = loop(id_, 2, inside, loop_variables=[variable("n", 7)])
        return self._container(container, start, tails, depth, [id_, "n"])

    def _container(self, container: Any, start: Any, tails: Any, depth: int, seen: list[str]) -> list[tuple[str, str]]:
        left = self.add(container, tails)
        self.nodes.append(start)
        self.values.append(seen)
        self.block([(start["id"], "source")], container["id"], depth)
        return left

    def flow(self) -> Flow:
        first = [node("start", "start"), node("list", "echo", reads=[["sys", "query"], ["sys", "query"]])]
        tails = self.add(first[1], self.add(first[0], []))
        self.block(tails, None, 2)
        graph = {"nodes": self.nodes, "edges": self.edges}
        file = {"app": {"name": "chat", "mode": "advanced-chat"}, "kind": "app", "workflow": {"graph": graph}}
        return load(yaml.safe_dump(file), {**REGISTRY, "talker": Talker}, "chat.yml")


@st.composite
def chats(draw: Callable[[Any], Any]) -> Flow:
    return Chat(draw).flow()


class HeardBus(LocalBus):
    """Keeps all that followers are told."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Record] = []
        self._count = 0
        self._then: Callable[[], None] | None = None

    def after(self, count: int, then: Callable[[], None]) -> None:
        """Calls `then` once so many more records have been published."""
        self._count, self._then = len(self.received) + count, then

    def publish(self, records: Sequence[Record]) -> None:
        self.received += records
        super().publish(records)
        if self._then is not None and len(self.received) >= self._count:
            then, self._then = self._then, None
            asyncio.get_running_loop().call_soon(then)


async def run_chat(chat: Flow, stop_after: int | None = None) -> tuple[list[Record], list[Record]]:
    """(what a follower is told live, the journal) of a message; it is stopped after so many records."""
    system = {"query": "hey", "user_id": "u1"}
    start_record = Record(RUN, 1, 0.0, RunQueued("app", "v1", "task", "u1", {}, system, conversation="c"))
    return await driven(chat, [start_record], stop_after)


async def driven(
    chat: Flow, begun: Sequence[Record], stop_after: int | None = None
) -> tuple[list[Record], list[Record]]:
    """The same of a run that begins with these records."""
    run, ticks = begun[0].run, itertools.count(int(begun[0].at) + 1)
    journal, bus = MemoryJournal(), HeardBus()
    await journal.append(begun)
    bus.publish(begun)
    driver = Driver(run, chat, replace(world(journal, bus), clock=lambda: float(next(ticks))))
    if stop_after is not None:
        bus.after(stop_after, lambda: driver.stop("u1"))
    await driver.drive()
    return bus.received, await journal.read(run)
