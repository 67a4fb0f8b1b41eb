"""Executions of nodes: responses."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Uuid, described
from headrace.api.native.schemas.common import Duration, JsonObject, Milliseconds, Seconds, one_of
from headrace.api.native.schemas.runs import USAGE
from headrace.kernel.summary import ModelCost, RunUsage


class NodeAttempt(TypedDict):
    """An attempt that failed and was followed by another."""

    attempt: int
    error: str
    error_type: str
    inputs: JsonObject
    process_data: JsonObject | None
    finished_at: Seconds
    finished_at_ms: Milliseconds


@described
class NodeExecution(TypedDict):
    """An execution of a node; of one inside a container, in one round."""

    id: Uuid
    node_id: str
    node_type: str
    title: str
    index: int
    predecessor_node_id: str | None
    iteration_id: str | None
    iteration_index: int | None
    loop_id: str | None
    loop_index: int | None
    status: Annotated[str, one_of("running", "paused", "succeeded", "failed", "exception", "stopped")]
    """`exception`: failed, and the node's error strategy handled it."""
    inputs: JsonObject | None
    process_data: JsonObject | None
    outputs: JsonObject | None
    error: str | None
    error_type: str | None
    attempts: list[NodeAttempt]
    reused: bool
    """Copied from the run that this one is a retry of."""
    usage: RunUsage | None
    started_at: Seconds
    started_at_ms: Milliseconds
    finished_at: Seconds | None
    finished_at_ms: Milliseconds | None
    elapsed_time: Duration | None
    path: NotRequired[str]
    """This and the following: with `include`. The node's id with the rounds around it, as in `it[3]/llm`."""
    cost: NotRequired[ModelCost | None]
    first_token: NotRequired[Duration | None]
    """From its start to the first text."""
    messages: NotRequired[list[Any]]
    """What the model was given."""
    agent_log: NotRequired[list[JsonObject]]
    """The steps of an agent."""
    rounds: NotRequired[ContainerRounds | None]
    """Of a container."""


class ContainerRounds(TypedDict):
    """The rounds of a container: how many, which failed, and how many seconds each took."""

    count: int
    failed: list[int]
    durations: list[Duration]


class NodeExecutions(TypedDict):
    """The nodes of a run that have started, in order of their start."""

    data: list[NodeExecution]


# ----------------------------------------------------------------------------------------------------------- examples

_EXECUTION: NodeExecution = {
    "id": "0ad1b1e8-5f2e-5d1f-8f57-6f0f7f3f2c11",
    "node_id": "1718000000001",
    "node_type": "llm",
    "title": "Write",
    "index": 2,
    "predecessor_node_id": "1718000000000",
    "iteration_id": None,
    "iteration_index": None,
    "loop_id": None,
    "loop_index": None,
    "status": "succeeded",
    "inputs": {},
    "process_data": {"model_mode": "chat"},
    "outputs": {"text": "Hello!"},
    "error": None,
    "error_type": None,
    "attempts": [],
    "reused": False,
    "usage": USAGE,
    "started_at": 1795226714,
    "started_at_ms": 1795226714270,
    "finished_at": 1795226715,
    "finished_at_ms": 1795226715420,
    "elapsed_time": 1.15,
}

EXECUTIONS = Media(NodeExecutions, {"data": [_EXECUTION]})
