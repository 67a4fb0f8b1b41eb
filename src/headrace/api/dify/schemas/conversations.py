"""Conversations and their variables, annotations, and speech."""

from __future__ import annotations

import math
from typing import Annotated, Literal, NotRequired

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import Boolean, Name, Object, Text, Unchecked
from headrace.api.dify.schemas.runs import OptionalUserRequest
from headrace.values import Value


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

    name: NotRequired[Name | None]
    auto_generate: NotRequired[Boolean]


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

    question: Text
    answer: Text


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


def _number(value: Value) -> float:
    """A finite number, or a string that writes one."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    return number


class AnnotationReplyRequest(TypedDict):
    """The setting of annotation reply, which is needed to switch it off, too."""

    score_threshold: Annotated[float, BeforeValidator(_number)]
    embedding_provider_name: Text
    embedding_model_name: Text


class AnnotationReplyJob(TypedDict):
    job_id: str
    job_status: Literal["waiting", "completed"]


class AnnotationReplyJobStatus(AnnotationReplyJob):
    error_msg: str


# ----------------------------------------------------------------------------------------------------------- speech


class SpeechRequest(OptionalUserRequest):
    """A text, or a message's answer, to be spoken."""

    message_id: NotRequired[Annotated[Text | None, Field(description="The message whose answer is spoken.")]]
    text: NotRequired[Text | None]
    voice: NotRequired[Text | None]
    streaming: NotRequired[Annotated[Unchecked[bool | None], Field(description="Accepted, and of no effect.")]]


class Transcript(TypedDict):
    text: str
