"""Burr: an Application of actions; the fan-out is its own way to do things at once, a MapActions. With `sqlite FOLDER`
its state is saved there after each action."""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from burr.core import ApplicationBuilder, ApplicationContext, State, action
from burr.core.action import Action
from burr.core.parallelism import MapActions, RunnableGraph
from burr.core.persistence import SQLitePersister
from contest import Run, Skipped, compete, database


@action(reads=["ran"], writes=["text", "ran"])
def node(state: State) -> State:
    return state.update(text="x", ran=state["ran"] + 1)


class Wide(MapActions):
    """The nodes of a fan-out at once, and how many of them ran."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def actions(
        self, state: State, context: ApplicationContext, inputs: dict[str, Any]
    ) -> Generator[Action | Callable[..., Any] | RunnableGraph, None, None]:
        for _ in range(self.width):
            yield node

    def state(self, state: State, inputs: dict[str, Any]) -> State:
        return state.update(ran=0)

    def reduce(self, state: State, states: Generator[State, None, None]) -> State:
        return state.update(ran=state["ran"] + sum(result["ran"] for result in states))

    @property
    def reads(self) -> list[str]:
        return ["ran"]

    @property
    def writes(self) -> list[str]:
        return ["ran"]


def build(shape: str, nodes: int) -> Callable[[], Run]:
    if shape == "chain":
        names = [f"n{i}" for i in range(nodes)]
        actions: dict[str, Any] = dict.fromkeys(names, node)
    else:
        names = ["start", "wide", "join"]
        actions = {"start": node, "wide": Wide(nodes), "join": node}

    persister = None
    if connection := database():
        if shape != "chain":
            raise Skipped("not with SQLite")  # each node of a MapActions would open a database of its own
        persister = SQLitePersister("", connection=connection)
        persister.initialize()

    def prepare() -> Run:
        builder = (
            ApplicationBuilder()
            .with_actions(**actions)
            .with_transitions(*pairwise(names))
            .with_entrypoint(names[0])
            .with_state(text="", ran=0)
        )
        application = (builder.with_state_persister(persister) if persister else builder).build()
        return lambda: application.run(halt_after=[names[-1]])[2]["ran"]

    return prepare


if __name__ == "__main__":
    compete("Burr", version("burr"), build)
