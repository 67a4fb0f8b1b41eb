"""Events of runs' streams, as they are sent."""

from __future__ import annotations

from typing import Literal, NotRequired

from headrace.api.dify.schemas.events import (
    AgentLogData,
    ContainerCompletedData,
    ContainerStartedData,
    ErrorData,
    IterationNextData,
    LoopNextData,
    NodeFinishedData,
    NodeRetryData,
    NodeStartedData,
    ReasoningChunkData,
    TextChunkData,
    WorkflowFinishedData,
    WorkflowPausedData,
    WorkflowStartedData,
)
from headrace.api.dify.schemas.forms import FormDefinition, FormExpiredData, FormFilledData
from headrace.api.dify.schemas.messages import InConversation


class Envelope(InConversation):
    """What all events have beside their name and data; those of a message also the fields of `MessageEnvelope`."""

    message_id: NotRequired[str]
    created_at: NotRequired[int]
    workflow_run_id: NotRequired[str]
    task_id: str


class WorkflowStarted(Envelope):
    event: Literal["workflow_started"]
    data: WorkflowStartedData


class WorkflowPaused(Envelope):
    event: Literal["workflow_paused"]
    data: WorkflowPausedData


class HumanInputRequired(Envelope):
    event: Literal["human_input_required"]
    data: FormDefinition


class HumanInputFormFilled(Envelope):
    event: Literal["human_input_form_filled"]
    data: FormFilledData


class HumanInputFormTimeout(Envelope):
    event: Literal["human_input_form_timeout"]
    data: FormExpiredData


class WorkflowFinished(Envelope):
    event: Literal["workflow_finished"]
    data: WorkflowFinishedData


class NodeStarted(Envelope):
    event: Literal["node_started"]
    data: NodeStartedData


class NodeFinished(Envelope):
    event: Literal["node_finished"]
    data: NodeFinishedData


class NodeRetry(Envelope):
    event: Literal["node_retry"]
    data: NodeRetryData


class AgentLog(Envelope):
    event: Literal["agent_log"]
    data: AgentLogData


class ContainerStarted(Envelope):
    event: Literal["iteration_started", "loop_started"]
    data: ContainerStartedData


class IterationNext(Envelope):
    event: Literal["iteration_next"]
    data: IterationNextData


class LoopNext(Envelope):
    event: Literal["loop_next"]
    data: LoopNextData


class ContainerCompleted(Envelope):
    event: Literal["iteration_completed", "loop_completed"]
    data: ContainerCompletedData


class TextChunk(Envelope):
    event: Literal["text_chunk"]
    data: TextChunkData


class ReasoningChunk(Envelope):
    event: Literal["reasoning_chunk"]
    data: ReasoningChunkData


class StreamError(InConversation, ErrorData):
    """The last event of a stream whose run failed (messages), or that broke."""

    event: Literal["error"]
    message_id: NotRequired[str]
    created_at: NotRequired[int]
    workflow_run_id: NotRequired[str]
    task_id: NotRequired[str]


RunStreamEvent = (
    WorkflowStarted
    | WorkflowPaused
    | HumanInputRequired
    | HumanInputFormFilled
    | HumanInputFormTimeout
    | WorkflowFinished
    | NodeStarted
    | NodeFinished
    | NodeRetry
    | AgentLog
    | ContainerStarted
    | IterationNext
    | LoopNext
    | ContainerCompleted
    | TextChunk
    | ReasoningChunk
    | StreamError
)
"""An event of a workflow's run."""
