"""Conversations and their variables, annotations, and speech."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import Object
from headrace.values import Value


class OptionalUserRequest(TypedDict):
    """A request that may say for whom it is made; all requests that do not are of one anonymous end user."""

    user: NotRequired[Annotated[str | None, Field(description="Your name for the end user.")]]


class Conversation(TypedDict):
    id: str
    name: str
    inputs: Object
    status: str
    introduction: str
    created_at: int
    updated_at: int


class ConversationPage(TypedDict):
    limit: int
    has_more: bool
    data: list[Conversation]


class RenameRequest(OptionalUserRequest):
    """A new name for a conversation, or (`auto_generate`) that of its first message."""

    name: NotRequired[Annotated[str, Field(max_length=255)] | None]
    auto_generate: NotRequired[bool]


class ConversationVariable(TypedDict):
    """A variable of a conversation, and its value as text."""

    id: str
    name: str
    value_type: str
    value: str | None
    description: str
    created_at: int
    updated_at: int


class ConversationVariablePage(TypedDict):
    limit: int
    has_more: bool
    data: list[ConversationVariable]


class VariableRequest(OptionalUserRequest):
    """A new value for a variable, of the variable's type."""

    value: Value


# ------------------------------------------------------------------------------------------------------ annotations


class AnnotationRequest(TypedDict):
    """A question, and the answer that a person wrote."""

    question: str
    answer: str


class Annotation(TypedDict):
    id: str
    question: str
    answer: str
    hit_count: int
    created_at: int


class AnnotationPage(TypedDict):
    data: list[Annotation]
    has_more: bool
    limit: int
    total: int
    page: int


class AnnotationReplyRequest(TypedDict):
    """The setting of annotation reply, which is needed to switch it off, too."""

    score_threshold: float
    embedding_provider_name: str
    embedding_model_name: str


class AnnotationReplyJob(TypedDict):
    job_id: str
    job_status: Literal["waiting", "completed"]


class AnnotationReplyJobStatus(AnnotationReplyJob):
    error_msg: str


# ----------------------------------------------------------------------------------------------------------- speech


class SpeechRequest(OptionalUserRequest):
    """A text, or a message's answer, to be spoken."""

    message_id: NotRequired[Annotated[str | None, Field(description="The message whose answer is spoken.")]]
    text: NotRequired[str | None]
    voice: NotRequired[str | None]
    streaming: NotRequired[Annotated[bool | None, Field(description="Accepted, and of no effect.")]]


class Transcript(TypedDict):
    text: str
