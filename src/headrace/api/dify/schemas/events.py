"""The data of events of streams."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import Object, WireFile, encoded_as
from headrace.api.dify.schemas.runs import RunOutcome
from headrace.api.http.responses import Inputs
from headrace.nodes.step_log import LogEntry

WireInputs = Annotated[Inputs, encoded_as(Object)]

# -------------------------------------------------------------------------------------------------------- workflows


class WorkflowStartedData(TypedDict):
    """A run has started, or continues after a pause (`reason`)."""

    id: str
    workflow_id: str
    inputs: Object
    created_at: int
    reason: Literal["initial", "resumption"]


class RunCreator(TypedDict):
    """The end user of a run, and the `user` of its request."""

    id: str | None
    user: str


class WorkflowFinishedData(RunOutcome):
    """A run has ended."""

    created_by: RunCreator
    created_at: int
    finished_at: int
    exceptions_count: int
    files: list[WireFile]


class WorkflowPausedData(TypedDict):
    """A run waits for a person."""

    workflow_run_id: str
    paused_nodes: list[str]
    outputs: Object
    reasons: list[Object]
    status: Literal["paused"]
    created_at: int
    elapsed_time: float
    total_tokens: int
    total_steps: int


# ------------------------------------------------------------------------------------------------------------ nodes


class RoundLocation(TypedDict):
    """The innermost iteration and loop that a node is inside of."""

    iteration_id: str | None
    loop_id: str | None


class NodeIdentity(TypedDict):
    """The node of an event. Its `id` is that of this execution of it, its `node_id` that in the workflow."""

    id: str
    node_id: str
    node_type: str
    title: str


class NodeExecutionIdentity(NodeIdentity):
    """With its number among the run's executions, and the node that led to it."""

    index: int
    predecessor_node_id: str | None


class AgentStrategy(TypedDict):
    """The strategy of an agent."""

    name: str
    icon: None


class NodeStartedData(NodeExecutionIdentity, RoundLocation):
    """A node has started."""

    inputs: None
    inputs_truncated: bool
    created_at: int
    extras: Object
    agent_strategy: AgentStrategy | None


class RoundMetadata(TypedDict, total=False):
    """The innermost iteration and loop that a node is inside of, and their rounds."""

    iteration_id: str
    iteration_index: int
    loop_id: str
    loop_index: int


class ToolInfo(TypedDict, total=False):
    """The tool that a node calls, or the strategy of an agent."""

    provider_type: str
    provider_id: str
    plugin_unique_identifier: str
    agent_strategy: str
    icon: None


class ExecutionMetadata(RoundMetadata, total=False):
    """What an execution used, and which strategy handled its failure."""

    tool_info: ToolInfo
    agent_log: list[LogEntry]
    total_tokens: int
    total_price: str
    currency: str
    error_strategy: str


class NodeFinishedData(NodeExecutionIdentity, RoundLocation):
    """A node has ended."""

    inputs: WireInputs
    inputs_truncated: bool
    process_data: Object
    process_data_truncated: bool
    outputs: Object
    outputs_truncated: bool
    status: Literal["succeeded", "failed", "exception", "retry"]
    error: str | None
    elapsed_time: float
    execution_metadata: ExecutionMetadata | None
    created_at: int
    finished_at: int
    files: list[WireFile]


class NodeRetryData(NodeFinishedData):
    """An attempt of a node has failed, and another begins."""

    retry_index: int


class AgentLogData(LogEntry):
    """A step of a node, such as an agent's call of a tool: when it starts, and again when it has ended."""

    node_execution_id: str
    node_id: str


# ------------------------------------------------------------------------------------------------------- containers


class ContainerStartedData(NodeIdentity):
    """An iteration or a loop has started. `metadata` has its length (`iteration_length` or `loop_length`)."""

    created_at: int
    extras: Object
    metadata: dict[str, int]
    inputs: Object
    inputs_truncated: bool


class IterationNextData(NodeIdentity):
    """A round of an iteration has begun."""

    index: int
    created_at: int
    extras: Object


class LoopNextData(IterationNextData):
    """A round of a loop has begun, or the loop has run all its rounds."""

    pre_loop_output: Object


class ContainerMetadata(TypedDict):
    """What the rounds of an iteration or a loop used, and how long each took, by its index."""

    total_tokens: int
    total_price: str
    currency: str
    iteration_duration_map: NotRequired[dict[str, float]]
    completed_reason: NotRequired[str | None]
    loop_duration_map: NotRequired[dict[str, float]]
    loop_variable_map: NotRequired[Object | None]


class ContainerCompletedData(NodeIdentity):
    """An iteration or a loop has ended."""

    outputs: Object
    outputs_truncated: bool
    created_at: int
    extras: Object
    inputs: Object
    inputs_truncated: bool
    status: Literal["succeeded", "failed"]
    error: None
    elapsed_time: float
    total_tokens: int
    execution_metadata: ContainerMetadata
    finished_at: int
    steps: int


# ------------------------------------------------------------------------------------------------------------- text


class TextChunkData(TypedDict):
    """A piece of the text that the workflow returns."""

    text: str
    from_variable_selector: list[str]


class ReasoningChunkData(TypedDict):
    """A piece of a model's reasoning; of a message also its id."""

    message_id: NotRequired[str]
    reasoning: str
    node_id: str
    is_final: bool


class ErrorData(TypedDict):
    """The run failed, or the stream broke."""

    code: str
    status: int
    message: str
