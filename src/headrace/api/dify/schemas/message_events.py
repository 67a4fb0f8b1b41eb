"""Events that only streams of messages have."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import WireFile
from headrace.api.dify.schemas.messages import InConversation, MessageMetadata, ToolLabel
from headrace.api.dify.schemas.stream_events import RunStreamEvent


class MessageEnvelope(InConversation):
    """The first fields of all events of a message."""

    message_id: str
    created_at: int


class MessageData(TypedDict):
    """A piece of the answer."""

    id: str
    answer: str
    from_variable_selector: NotRequired[list[str] | None]


class MessageFileData(TypedDict):
    """A file that belongs to the answer."""

    id: str | None
    type: str
    belongs_to: Literal["assistant"]
    url: str | None


class AgentThoughtData(TypedDict):
    """A round of an agent: when it begins, when its model has answered, and when the tools have (see AgentThought)."""

    id: str
    position: int
    thought: str
    observation: str
    tool: str
    tool_labels: dict[str, ToolLabel]
    tool_input: str
    message_files: list[str]


class MessageEndData(TypedDict):
    """The answer is complete."""

    id: str
    metadata: MessageMetadata
    files: list[WireFile] | None


class MessageChunk(MessageEnvelope, MessageData):
    event: Literal["message", "agent_message"]
    task_id: str


class MessageFile(MessageEnvelope, MessageFileData):
    event: Literal["message_file"]
    task_id: str


class AgentThoughtEvent(MessageEnvelope, AgentThoughtData):
    event: Literal["agent_thought"]
    task_id: str


class MessageEnd(MessageEnvelope, MessageEndData):
    event: Literal["message_end"]
    task_id: str


MessageStreamEvent = RunStreamEvent | MessageChunk | MessageFile | AgentThoughtEvent | MessageEnd
"""An event of a message."""
