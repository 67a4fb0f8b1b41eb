"""The JSON of OpenAI's chat completions, as far as apps have it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import DescribedAs, TokenCounts


class TextPart(TypedDict):
    type: Literal["text"]
    text: str


class ImageUrl(TypedDict):
    url: str


class ImagePart(TypedDict):
    """An image at a URL, which may be a data URL."""

    type: Literal["image_url"]
    image_url: ImageUrl


class FileFields(TypedDict, total=False):
    file_data: str
    file_id: str
    filename: str


class FilePart(TypedDict):
    """A file: its bytes in base64, or a data URL, or the id of an upload."""

    type: Literal["file"]
    file: FileFields


class ChatMessageParam(TypedDict):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart | ImagePart | FilePart] | None


class StreamOptions(TypedDict):
    include_usage: NotRequired[bool | None]


class JsonSchema(TypedDict):
    name: str
    schema: dict[str, Any]
    strict: NotRequired[bool | None]


class ResponseFormat(TypedDict):
    """What an answer is: text, or a workflow's outputs as JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NotRequired[JsonSchema]


class ChatCompletionRequest(TypedDict):
    """A conversation for an app to answer. Other parameters of OpenAI's are refused or ignored."""

    model: Annotated[str, Field(min_length=1, description="The app's name or id.")]
    messages: Annotated[list[Any], DescribedAs(list[ChatMessageParam]), Field(min_length=1)]
    stream: NotRequired[bool | None]
    stream_options: NotRequired[StreamOptions | None]
    user: NotRequired[str | None]
    metadata: NotRequired[
        Annotated[dict[str, str] | None, Field(description="Fills the app's text variables of these names.")]
    ]
    response_format: NotRequired[
        Annotated[Any, DescribedAs(ResponseFormat | None), Field(description="JSON needs a workflow.")]
    ]
    inputs: NotRequired[
        Annotated[dict[str, Any] | None, Field(description="Not in OpenAI's API: the app's variables by name.")]
    ]
    conversation_id: NotRequired[
        Annotated[str | None, Field(description="Not in OpenAI's API: the conversation to continue.")]
    ]


class CompletionFields(TypedDict):
    """The fields of completions and chunks; of a chat also its conversation, which OpenAI's do not have."""

    id: str
    created: int
    model: str
    conversation_id: NotRequired[str]


class AnswerMessage(TypedDict):
    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(TypedDict):
    index: int
    message: AnswerMessage
    logprobs: None
    finish_reason: Literal["stop"]


class ChatCompletion(CompletionFields):
    """A whole answer."""

    object: Literal["chat.completion"]
    choices: list[Choice]
    usage: TokenCounts


class Delta(TypedDict, total=False):
    """What the answer grew by."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChunkChoice(TypedDict):
    index: int
    delta: Delta
    logprobs: None
    finish_reason: Literal["stop"] | None


class ChatCompletionChunk(CompletionFields):
    """A piece of an answer; with `include_usage` the last one has no choices, but the usage."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: NotRequired[TokenCounts | None]


class Model(TypedDict):
    """An app as a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[Model]
