"""The events of a stream. One that this version does not know is an `UnknownEvent`, with all that was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError as Mismatch

from headrace_client.models import Answer


class Event(Answer):
    """What all events have. `synthesized`: the server did not send it; it was made from what could be asked later."""

    event: str
    task_id: str | None = None
    workflow_run_id: str | None = None
    conversation_id: str | None = None
    message_id: str | None = None
    synthesized: bool = False

    @property
    def text(self) -> str:
        """The piece of text that this event adds; "" for most."""
        return ""


class UnknownEvent(Event):
    data: Any = None


class RunData(Answer):
    id: str | None = None
    workflow_id: str | None = None
    inputs: Any = None
    created_at: int | None = None


class WorkflowStarted(Event):
    data: RunData


class OutcomeData(RunData):
    status: str
    outputs: Any = None
    error: str | None = None
    elapsed_time: float | None = None
    total_tokens: int | None = None
    total_steps: int | None = None
    exceptions_count: int | None = None
    finished_at: int | None = None


class WorkflowFinished(Event):
    data: OutcomeData


class PausedData(Answer):
    paused_nodes: list[str] | None = None
    reasons: list[Any] | None = None
    outputs: Any = None


class WorkflowPaused(Event):
    data: PausedData


class NodeData(Answer):
    id: str | None = None
    node_id: str
    node_type: str | None = None
    title: str | None = None
    index: int | None = None
    inputs: Any = None
    process_data: Any = None
    outputs: Any = None
    status: str | None = None
    error: str | None = None
    elapsed_time: float | None = None
    created_at: int | None = None
    finished_at: int | None = None
    iteration_id: str | None = None
    loop_id: str | None = None


class NodeStarted(Event):
    data: NodeData


class NodeFinished(Event):
    data: NodeData


class NodeRetry(Event):
    data: NodeData


class IterationEvent(Event):
    """iteration_started, iteration_next, iteration_completed."""

    data: NodeData


class LoopEvent(Event):
    """loop_started, loop_next, loop_completed."""

    data: NodeData


class TextData(Answer):
    text: str = ""
    from_variable_selector: list[str] | None = None


class TextChunk(Event):
    data: TextData

    @property
    def text(self) -> str:
        return self.data.text


class HumanInputEvent(Event):
    """human_input_required, human_input_form_filled, human_input_form_timeout."""

    data: dict[str, Any] | None = None


class MessageEvent(Event):
    """message, agent_message: a piece of the answer."""

    answer: str = ""
    created_at: int | None = None

    @property
    def text(self) -> str:
        return self.answer


class MessageReplace(Event):
    """The whole answer is this instead."""

    answer: str = ""
    reason: str | None = None


class MessageEnd(Event):
    metadata: dict[str, Any] | None = None
    files: list[Any] | None = None
    answer: str | None = None
    """The whole answer; only where the event is synthesized."""


class MessageFile(Event):
    type: str | None = None
    url: str | None = None


class AgentThought(Event):
    thought: str | None = None
    observation: str | None = None
    tool: str | None = None
    tool_input: str | None = None


class AgentLog(Event):
    data: dict[str, Any] | None = None


class SpeechEvent(Event):
    """tts_message, tts_message_end: base64 audio."""

    audio: str | None = None


class ErrorEvent(Event):
    """Something went wrong after the stream had begun. It is the last event."""

    status: int | None = None
    code: str | None = None
    message: str | None = None


_TYPES: Mapping[str, type[Event]] = {
    "workflow_started": WorkflowStarted,
    "workflow_finished": WorkflowFinished,
    "workflow_paused": WorkflowPaused,
    "node_started": NodeStarted,
    "node_finished": NodeFinished,
    "node_retry": NodeRetry,
    "iteration_started": IterationEvent,
    "iteration_next": IterationEvent,
    "iteration_completed": IterationEvent,
    "loop_started": LoopEvent,
    "loop_next": LoopEvent,
    "loop_completed": LoopEvent,
    "text_chunk": TextChunk,
    "human_input_required": HumanInputEvent,
    "human_input_form_filled": HumanInputEvent,
    "human_input_form_timeout": HumanInputEvent,
    "message": MessageEvent,
    "agent_message": MessageEvent,
    "message_replace": MessageReplace,
    "message_end": MessageEnd,
    "message_file": MessageFile,
    "agent_thought": AgentThought,
    "agent_log": AgentLog,
    "tts_message": SpeechEvent,
    "tts_message_end": SpeechEvent,
    "error": ErrorEvent,
}


def event_of(told: Mapping[str, Any]) -> Event:
    """The event that a stream tells."""
    kind = _TYPES.get(str(told.get("event")), UnknownEvent)
    try:
        return kind.model_validate(told)
    except Mismatch:
        # of another form than the one known here: all of it is passed on, rather than nothing
        kept = {name: value for name, value in told.items() if not name.startswith("_")}
        return UnknownEvent.model_construct(_fields_set=set(kept), **kept)
