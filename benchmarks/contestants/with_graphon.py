"""graphon, the engine that Dify extracted from itself: a graph of one trivial node type, five worker threads (its
default). An engine and its graph run once, so both are created for each run, before the clock starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from typing import override

from contest import Run, compete
from graphon.engine import Engine
from graphon.engine_events.graph import GraphRunSucceededEvent
from graphon.engine_events.node import NodeRunSucceededEvent
from graphon.entities.base_node_data import BaseNodeData
from graphon.enums import NodeExecutionType, WorkflowNodeExecutionStatus
from graphon.graph.graph import Graph
from graphon.node_events.base import NodeRunResult
from graphon.nodes.base.node import Node
from graphon.runtime.init_params import InitParams
from graphon.runtime.runtime_state import RuntimeState
from graphon.runtime.variable_pool import VariablePool


class Trivial(Node[BaseNodeData]):
    node_type = "trivial"
    execution_type = NodeExecutionType.EXECUTABLE

    @classmethod
    @override
    def version(cls) -> str:
        return "1"

    @override
    def _run(self) -> NodeRunResult:
        return NodeRunResult(status=WorkflowNodeExecutionStatus.SUCCEEDED, outputs={"text": "x"})


class Root(Trivial):
    node_type = "trivial-root"
    execution_type = NodeExecutionType.ROOT

    @classmethod
    @override
    def version(cls) -> str:
        return "1"


def build(shape: str, nodes: int) -> Callable[[], Run]:
    def prepare() -> Run:
        state = RuntimeState(variable_pool=VariablePool(), start_at=time.time(), workflow_id="benchmark")
        init = InitParams(workflow_id="benchmark", graph_config={}, run_context={}, call_depth=0)

        def make(name: str, kind: type[Trivial] = Trivial) -> Trivial:
            data = BaseNodeData(type=kind.node_type, title=name)
            return kind(name, data, init_params=init, runtime_state=state)

        graph = Graph.new()
        if shape == "chain":
            graph.add_root(make("n0", Root))
            for i in range(1, nodes):
                graph.add_node(make(f"n{i}"))
        else:
            graph.add_root(make("start", Root))
            for i in range(nodes):
                graph.add_node(make(f"n{i}"), from_node_id="start")
            graph.add_node(make("join"), from_node_id="n0")
            for i in range(1, nodes):
                graph.connect(tail=f"n{i}", head="join")
        graph_engine = graph.build()
        state.attach_graph(graph_engine)
        engine = Engine(graph_engine, state)

        def run() -> int:
            ran, ended = 0, False
            for event in engine.run():
                ran += isinstance(event, NodeRunSucceededEvent)
                ended = ended or isinstance(event, GraphRunSucceededEvent)
            return ran if ended else -1

        return run

    return prepare


if __name__ == "__main__":
    compete("graphon", version("graphon"), build)
