"""LangGraph: a StateGraph, compiled once and invoked; with `sqlite FOLDER` its checkpoints are kept there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise
from operator import add
from typing import Annotated, Any, TypedDict

from contest import Run, compete, database, size
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    text: Annotated[str, lambda old, new: new]
    ran: Annotated[int, add]


def node(state: State) -> dict[str, object]:
    return {"text": "x", "ran": 1}


def build(shape: str, nodes: int) -> Callable[[], Run]:
    graph = StateGraph(State)
    names = [f"n{i}" for i in range(nodes)]
    for name in names:
        graph.add_node(name, node)
    if shape == "chain":
        graph.add_edge(START, names[0])
        for before, after in pairwise(names):
            graph.add_edge(before, after)
        graph.add_edge(names[-1], END)
    else:
        graph.add_node("start", node)
        graph.add_node("join", node)
        graph.add_edge(START, "start")
        for name in names:
            graph.add_edge("start", name)
        graph.add_edge(names, "join")
        graph.add_edge("join", END)
    connection = database()
    app = graph.compile(checkpointer=SqliteSaver(connection) if connection else None)

    def prepare() -> Run:
        config: dict[str, Any] = {"recursion_limit": size(shape, nodes) + 10}
        if connection:
            config["configurable"] = {"thread_id": str(uuid.uuid4())}
        return lambda: app.invoke({"text": "", "ran": 0}, config)["ran"]

    return prepare


if __name__ == "__main__":
    compete("LangGraph", version("langgraph"), build)
