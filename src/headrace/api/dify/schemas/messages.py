"""Messages of chat and completion apps: requests, responses, and what end users think of them."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired
from uuid import UUID

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import Boolean, Object, Success, Text, TokenCounts
from headrace.api.dify.schemas.forms import HumanInputContent
from headrace.api.dify.schemas.runs import PausedRun, RunFields, StreamableRequest, UserRequest
from headrace.values import Value


def _conversation_id(value: Value) -> str | None:
    text = value.strip() if isinstance(value, str) else value
    if not text:
        return None
    try:
        return str(UUID(text))
    except (ValueError, AttributeError):  # also of what is not a string
        raise ValueError("conversation_id must be a valid UUID") from None


class CompletionFields(RunFields):
    """A text for a completion app."""

    query: NotRequired[Text]


class ChatFields(RunFields):
    """A message to a chat app."""

    query: Annotated[Text, Field(description="The user's message.")]
    conversation_id: NotRequired[
        Annotated[
            str | None,
            BeforeValidator(_conversation_id),
            Field(description="The conversation to continue; empty for a new one."),
        ]
    ]
    auto_generate_name: NotRequired[
        Annotated[Boolean, Field(description="Name a new conversation after its first query (the default).")]
    ]
    workflow_id: NotRequired[
        Annotated[str | None, Field(description="A version of a chatflow, instead of the current one.")]
    ]


class CompletionRequest(StreamableRequest, CompletionFields):
    """A text for a completion app."""


class ChatRequest(StreamableRequest, ChatFields):
    """A message to a chat app."""


class ModelUsage(TokenCounts):
    """What the models of an answer used and cost, and when its text came, in seconds."""

    prompt_unit_price: str
    prompt_price_unit: str
    prompt_price: str
    completion_unit_price: str
    completion_price_unit: str
    completion_price: str
    total_price: str
    currency: str
    latency: float
    time_to_first_token: float | None
    time_to_generate: float | None


class RetrieverResource(TypedDict):
    """A passage of a knowledge base that the answer cites. What is not known of it is left out."""

    position: int
    dataset_id: NotRequired[str]
    dataset_name: NotRequired[str]
    document_id: NotRequired[str]
    document_name: NotRequired[str]
    data_source_type: NotRequired[str]
    segment_id: NotRequired[str]
    retriever_from: NotRequired[str]
    score: NotRequired[float]
    hit_count: NotRequired[int]
    word_count: NotRequired[int]
    segment_position: NotRequired[int]
    index_node_hash: NotRequired[str]
    page: NotRequired[int]
    doc_metadata: NotRequired[Object]
    content: NotRequired[str]
    title: NotRequired[str]
    files: NotRequired[list[Object]]
    summary: NotRequired[str]


class AnnotationAuthor(TypedDict):
    id: None
    name: str


class AnnotationReply(TypedDict):
    """The annotation that was the answer."""

    id: str
    account: AnnotationAuthor


class MessageMetadata(TypedDict):
    """What goes with the text of an answer."""

    annotation_reply: AnnotationReply | None
    retriever_resources: list[RetrieverResource]
    usage: ModelUsage


class InConversation(TypedDict):
    """The conversation of a message; completion apps have none."""

    conversation_id: NotRequired[str]


class MessageFields(InConversation):
    """The response to a blocking request, apart from its event."""

    task_id: str
    id: str
    message_id: str
    mode: str
    answer: str
    metadata: MessageMetadata
    created_at: int


class Message(MessageFields):
    """The response to a blocking request."""

    event: Literal["message"]


class PausedMessage(MessageFields):
    """The response to a blocking request whose run waits for a person."""

    event: Literal["workflow_paused"]
    workflow_run_id: str
    data: PausedRun


class CitedSource(TypedDict):
    """A passage that a message of a conversation cites."""

    id: str
    message_id: str
    position: int
    dataset_id: str | None
    dataset_name: str | None
    document_id: str | None
    document_name: str | None
    data_source_type: str | None
    segment_id: str | None
    score: float | None
    hit_count: int | None
    word_count: int | None
    segment_position: int | None
    index_node_hash: str | None
    content: str | None
    summary: str | None
    created_at: None


class PastMessageFile(TypedDict):
    """A file of a message: the user's, or the answer's."""

    id: str
    filename: str
    type: str
    url: str | None
    mime_type: str | None
    size: int
    transfer_method: str
    belongs_to: Literal["user", "assistant"]
    upload_file_id: str | None


class Rating(TypedDict):
    rating: str


class ToolLabel(TypedDict):
    """What a tool is called for people."""

    en_US: str
    zh_Hans: str


class AgentThought(TypedDict):
    """A round of an agent: what its model answered, and the tools that it called. `tool` joins their names by `;`;
    `tool_input` and `observation` are JSON objects by the name of the tool."""

    id: str
    chain_id: None
    message_id: str
    position: int
    thought: str
    observation: str
    tool: str
    tool_labels: dict[str, ToolLabel]
    tool_input: str
    created_at: int
    files: list[str]


class PastMessage(TypedDict):
    """A message of a conversation, and its answer as far as it has come. `status` is normal, paused or error."""

    id: str
    conversation_id: str
    parent_message_id: str
    inputs: Object
    query: str
    answer: str
    feedback: Rating | None
    retriever_resources: list[CitedSource]
    created_at: int
    agent_thoughts: list[AgentThought]
    message_files: list[PastMessageFile]
    message_tokens: int
    answer_tokens: int
    provider_response_latency: float
    total_price: str
    currency: str
    status: str
    error: str | None
    extra_contents: list[HumanInputContent]
    total_tokens: int


class MessagePage(TypedDict):
    """A page of a conversation's messages, the oldest first."""

    limit: int
    has_more: bool
    data: list[PastMessage]


class SuggestedQuestions(Success):
    """Up to three questions that the user may ask next."""

    data: list[str]


class FeedbackRequest(UserRequest):
    """A rating of an answer; null removes it."""

    rating: NotRequired[Literal["like", "dislike"] | None]
    content: NotRequired[Annotated[Text | None, Field(description="A comment.")]]


class Feedback(TypedDict):
    """A rating of an answer by an end user."""

    id: str
    app_id: str
    conversation_id: str
    message_id: str
    rating: str
    content: str | None
    from_source: str
    from_end_user_id: str
    from_account_id: None
    created_at: str
    updated_at: str


class FeedbackPage(TypedDict):
    data: list[Feedback]
