"""The events of a stream. One that this version does not know is an `UnknownEvent`, with all that was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import ValidationError as Mismatch

from headrace_client.models import Answer, Id


class _Event(Answer):
    """`synthesized`: the server did not send the event; it was made from what could be read later."""

    synthesized: bool = False

    @property
    def text(self) -> str:
        """The piece of text that this event adds; "" for most."""
        return ""


class _RunEvent(_Event):
    """An event of a workflow's run; in a chat it has the ids of the message as well."""

    task_id: Id = ""
    workflow_run_id: Id = ""
    conversation_id: str | None = None
    message_id: str | None = None


class _MessageEvent(_Event):
    """An event of a message. Completion apps have no conversation, and apps without a workflow no run."""

    task_id: Id = ""
    message_id: Id = ""
    conversation_id: str | None = None
    workflow_run_id: str | None = None


class UnknownEvent(_Event):
    """An event of a type that this version does not know. `event["event"]` is its type."""

    if TYPE_CHECKING:
        # Type checkers narrow a union by comparing `event` only where it is a literal in every member.
        event: Literal["(unknown)"]
    else:
        event: str
    task_id: str | None = None
    workflow_run_id: str | None = None
    conversation_id: str | None = None
    message_id: str | None = None
    data: Any = None


class RunData(Answer):
    id: Id = ""
    workflow_id: Id = ""
    inputs: Any = None
    created_at: int | None = None


class WorkflowStarted(_RunEvent):
    event: Literal["workflow_started"]
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


class WorkflowFinished(_RunEvent):
    event: Literal["workflow_finished"]
    data: OutcomeData


class PausedData(Answer):
    paused_nodes: list[str] | None = None
    reasons: list[Any] | None = None
    outputs: Any = None


class WorkflowPaused(_RunEvent):
    event: Literal["workflow_paused"]
    data: PausedData


class NodeData(Answer):
    id: Id = ""
    node_id: str
    node_type: Id = ""
    title: Id = ""
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


class NodeStarted(_RunEvent):
    event: Literal["node_started"]
    data: NodeData


class NodeFinished(_RunEvent):
    event: Literal["node_finished"]
    data: NodeData


class NodeRetry(_RunEvent):
    event: Literal["node_retry"]
    data: NodeData


class IterationEvent(_RunEvent):
    """iteration_started, iteration_next, iteration_completed."""

    event: Literal["iteration_started", "iteration_next", "iteration_completed"]
    data: NodeData


class LoopEvent(_RunEvent):
    """loop_started, loop_next, loop_completed."""

    event: Literal["loop_started", "loop_next", "loop_completed"]
    data: NodeData


class TextData(Answer):
    text: str = ""
    from_variable_selector: list[str] | None = None


class TextChunk(_RunEvent):
    event: Literal["text_chunk"]
    data: TextData

    @property
    def text(self) -> str:
        return self.data.text


class ReasoningData(Answer):
    reasoning: str = ""
    node_id: str
    is_final: bool = False


class ReasoningChunk(_RunEvent):
    """A piece of a model's reasoning, where its node separates it from the text. `is_final`: there is no more."""

    event: Literal["reasoning_chunk"]
    data: ReasoningData


class HumanInputEvent(_RunEvent):
    """human_input_required, human_input_form_filled, human_input_form_timeout."""

    event: Literal["human_input_required", "human_input_form_filled", "human_input_form_timeout"]
    data: dict[str, Any] | None = None


class MessageEvent(_MessageEvent):
    """message, agent_message: a piece of the answer."""

    event: Literal["message", "agent_message"]
    answer: str = ""
    created_at: int | None = None

    @property
    def text(self) -> str:
        return self.answer


class MessageReplace(_MessageEvent):
    """The whole answer is this instead."""

    event: Literal["message_replace"]
    answer: str = ""
    reason: str | None = None


class MessageEnd(_MessageEvent):
    event: Literal["message_end"]
    metadata: dict[str, Any] | None = None
    files: list[Any] | None = None
    answer: str | None = None
    """The whole answer; only where the event is synthesized."""


class MessageFile(_MessageEvent):
    event: Literal["message_file"]
    type: str | None = None
    url: str | None = None


class AgentThought(_MessageEvent):
    event: Literal["agent_thought"]
    thought: str | None = None
    observation: str | None = None
    tool: str | None = None
    tool_input: str | None = None


class AgentLog(_RunEvent):
    event: Literal["agent_log"]
    data: dict[str, Any] | None = None


class SpeechEvent(_MessageEvent):
    """tts_message, tts_message_end: base64 audio."""

    event: Literal["tts_message", "tts_message_end"]
    audio: str | None = None


class ErrorEvent(_Event):
    """Something went wrong after the stream had begun. It is the last event."""

    event: Literal["error"]
    task_id: str | None = None
    workflow_run_id: str | None = None
    conversation_id: str | None = None
    message_id: str | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None


Event = (
    WorkflowStarted
    | WorkflowFinished
    | WorkflowPaused
    | NodeStarted
    | NodeFinished
    | NodeRetry
    | IterationEvent
    | LoopEvent
    | TextChunk
    | ReasoningChunk
    | HumanInputEvent
    | MessageEvent
    | MessageReplace
    | MessageEnd
    | MessageFile
    | AgentThought
    | AgentLog
    | SpeechEvent
    | ErrorEvent
    | UnknownEvent
)
"""Any event of a stream; comparing `event.event` narrows it."""

_TYPES: Mapping[str, type[Any]] = {
    name: kind
    for kind in get_args(Event)
    if kind is not UnknownEvent
    for name in get_args(kind.model_fields["event"].annotation)
}


def event_of(told: Mapping[str, Any]) -> Event:
    """The event that a stream tells."""
    kind = _TYPES.get(str(told.get("event")), UnknownEvent)
    try:
        event: Event = kind.model_validate(told)
        return event
    except Mismatch:
        # of another form than the one known here: all of it is passed on, rather than nothing
        kept = {name: value for name, value in told.items() if not name.startswith("_")}
        return UnknownEvent.model_construct(_fields_set=set(kept), **kept)
