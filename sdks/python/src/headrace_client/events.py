"""The events of a stream. An event of an unknown type is an `UnknownEvent`, with all fields that were sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field
from pydantic import ValidationError as PydanticError

from headrace_client.errors import HeadraceError, RunFailedError, ServerError
from headrace_client.human_input import FormFilledData, FormTimeoutData, HumanInputRequiredData, PauseReason
from headrace_client.models import CreatedRun
from headrace_client.response_model import Id, ResponseModel
from headrace_client.wire import parse_model


class _Event(ResponseModel):
    """`synthesized`: the server did not send the event; the client made it from what it could read later."""

    synthesized: bool = False

    @property
    def text(self) -> str:
        """The text that this event adds; "" for most."""
        return ""


class _RunEvent(_Event):
    """An event of a workflow run; in a chat it also has the ids of the message."""

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


class RunData(ResponseModel):
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


class PausedData(ResponseModel):
    """`reasons` has the forms that the run waits for."""

    workflow_run_id: Id = ""
    paused_nodes: list[str] | None = None
    reasons: list[PauseReason] = Field(default_factory=list)
    outputs: Any = None
    status: str = "paused"
    created_at: int | None = None
    elapsed_time: float | None = None
    total_tokens: int | None = None
    total_steps: int | None = None


class WorkflowPaused(_RunEvent):
    event: Literal["workflow_paused"]
    data: PausedData


class NodeData(ResponseModel):
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


class TextData(ResponseModel):
    text: str = ""
    from_variable_selector: list[str] | None = None


class TextChunk(_RunEvent):
    event: Literal["text_chunk"]
    data: TextData

    @property
    def text(self) -> str:
        return self.data.text


class ReasoningData(ResponseModel):
    reasoning: str = ""
    node_id: str
    is_final: bool = False


class ReasoningChunk(_RunEvent):
    """A chunk of a model's reasoning, if its node separates it from the text. `is_final`: it is the last one."""

    event: Literal["reasoning_chunk"]
    data: ReasoningData


class HumanInputRequired(_RunEvent):
    event: Literal["human_input_required"]
    data: HumanInputRequiredData


class HumanInputFormFilled(_RunEvent):
    event: Literal["human_input_form_filled"]
    data: FormFilledData


class HumanInputFormTimeout(_RunEvent):
    event: Literal["human_input_form_timeout"]
    data: FormTimeoutData


class MessageEvent(_MessageEvent):
    """message, agent_message: a chunk of the answer."""

    event: Literal["message", "agent_message"]
    answer: str = ""
    created_at: int | None = None

    @property
    def text(self) -> str:
        return self.answer


class MessageReplace(_MessageEvent):
    """Replaces the whole answer."""

    event: Literal["message_replace"]
    answer: str = ""
    reason: str | None = None


class MessageEnd(_MessageEvent):
    event: Literal["message_end"]
    metadata: dict[str, Any] | None = None
    files: list[Any] | None = None
    answer: str | None = None
    """The whole answer; only if the event is synthesized."""


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
    """An error after the stream had started. It is the last event."""

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
    | HumanInputRequired
    | HumanInputFormFilled
    | HumanInputFormTimeout
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


def parse_event(payload: Mapping[str, Any]) -> Event:
    """A stream's JSON object as an event of its type."""
    kind = _TYPES.get(str(payload.get("event")), UnknownEvent)
    try:
        event: Event = kind.model_validate(payload)
        return event
    except PydanticError:
        # the payload does not match the known schema: pass on all fields rather than none
        fields = {name: value for name, value in payload.items() if not name.startswith("_")}
        return UnknownEvent.model_construct(_fields_set=set(fields), **fields)


def to_created_run(event: Event) -> CreatedRun:
    """The run of a stream's first event."""
    data: Any = event.get("data")
    payload = {"workflow_run_id": event.workflow_run_id, "task_id": event.task_id, "status": "running"}
    created_at = data.get("created_at") if isinstance(data, ResponseModel) else None
    return parse_model(CreatedRun, payload if created_at is None else {**payload, "created_at": created_at})


def to_error(event: Event) -> HeadraceError:
    """The exception for an `error` event."""
    status, code = event.get("status"), event.get("code")
    kind = RunFailedError if event.workflow_run_id else ServerError
    message = str(event.get("message") or "The run ended with an error.")
    return kind(message, status=status, code=code, run_id=event.workflow_run_id, task_id=event.task_id)
