"""The JSON of OpenAI's responses, as far as apps have it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import DescribedAs


class InputText(TypedDict):
    type: Literal["input_text", "output_text"]
    text: str


class InputImage(TypedDict):
    """An image at a URL, which may be a data URL, or an upload."""

    type: Literal["input_image"]
    detail: NotRequired[str]
    image_url: NotRequired[str | None]
    file_id: NotRequired[str | None]


class InputFile(TypedDict):
    """A file: its bytes in base64 or as a data URL, a URL, or the id of an upload."""

    type: Literal["input_file"]
    file_data: NotRequired[str]
    file_url: NotRequired[str | None]
    file_id: NotRequired[str | None]
    filename: NotRequired[str | None]


class InputMessage(TypedDict):
    """A message of the conversation."""

    type: NotRequired[Literal["message"]]
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText | InputImage | InputFile]


class TextFormat(TypedDict):
    """What an answer is: text, or a workflow's outputs as JSON."""

    type: Literal["text", "json_object", "json_schema"]
    name: NotRequired[str]
    schema: NotRequired[dict[str, Any]]
    strict: NotRequired[bool | None]


class TextOptions(TypedDict):
    format: NotRequired[Annotated[Any, DescribedAs(TextFormat | None)]]
    verbosity: NotRequired[Any]


class ConversationReference(TypedDict):
    id: str


class ResponseRequest(TypedDict):
    """A message for an app to answer. Other parameters of OpenAI's are refused or ignored."""

    model: Annotated[str, Field(min_length=1, description="The app's name or id.")]
    input: Annotated[str | list[Any], DescribedAs(str | list[InputMessage]), Field(min_length=1)]
    instructions: NotRequired[str | None]
    previous_response_id: NotRequired[str | None]
    conversation: NotRequired[str | ConversationReference | None]
    stream: NotRequired[bool | None]
    background: NotRequired[bool | None]
    text: NotRequired[TextOptions | None]
    user: NotRequired[str | None]
    metadata: NotRequired[
        Annotated[dict[str, str] | None, Field(description="Fills the app's text variables of these names.")]
    ]
    inputs: NotRequired[
        Annotated[dict[str, Any] | None, Field(description="Not in OpenAI's API: the app's variables by name.")]
    ]


class OutputText(TypedDict):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputMessage(TypedDict):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class InputTokensDetails(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(TypedDict):
    reasoning_tokens: int


class ResponseUsage(TypedDict):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(TypedDict):
    code: Literal["server_error"]
    message: str


class ResponseObject(TypedDict):
    """A response. What its request had (`instructions`, `metadata` ...) is in it if it was a request for a response."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
    background: bool
    error: ResponseError | None
    incomplete_details: None
    instructions: str | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage]
    parallel_tool_calls: bool
    previous_response_id: str | None
    conversation: ConversationReference | None
    store: bool
    text: dict[str, Any]
    tool_choice: Literal["none"]
    tools: list[Any]
    usage: ResponseUsage | None


class InputItem(TypedDict):
    """A message that a response answers, or one before."""

    id: str
    type: Literal["message"]
    role: str
    status: Literal["completed"]
    content: list[InputText | InputImage | InputFile]


class InputItemList(TypedDict):
    object: Literal["list"]
    data: list[InputItem]
    first_id: str | None
    last_id: str | None
    has_more: bool
