"""The models of responses. They can also be read as mappings, and keep unknown fields."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from headrace_client.errors import RunFailedError
from headrace_client.response_model import Id, ResponseModel, Values

FINAL = frozenset({"succeeded", "failed", "stopped", "partial-succeeded"})
"""The statuses of a run that has ended."""


class Usage(ResponseModel):
    """The tokens and the price of model calls."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    total_price: str | float | None = None
    currency: str | None = None


class ErrorNode(ResponseModel):
    """The node whose failure ended a run."""

    id: str | None = None
    node_id: str | None = None
    title: str | None = None
    type: str | None = None
    error_type: str | None = None


class CreatedRun(ResponseModel):
    """A run that has been created."""

    workflow_run_id: str
    task_id: Id = ""
    status: str = "queued"
    created_at: int | None = None
    conversation_id: str | None = None
    message_id: str | None = None


class WorkflowRun(ResponseModel):
    """The current state of a run. `..._at` are whole seconds since the epoch, `..._at_ms` milliseconds (Headrace).

    `outputs` is None until the run has ended, and if a failed run has none. `query`, `answer`, `conversation_id` and
    `message_id` are set for runs that answer a chat message (Headrace).
    """

    id: str
    workflow_run_id: str
    status: str
    workflow_id: Id = ""
    task_id: str | None = None
    inputs: Values = None
    outputs: Values = None
    error: str | None = None
    error_node: ErrorNode | None = None
    usage: Usage | None = None
    total_tokens: int | None = None
    total_steps: int | None = None
    exceptions_count: int | None = None
    created_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    created_at_ms: int | None = None
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    elapsed_time: float | None = None
    query: str | None = None
    answer: str | None = None
    conversation_id: str | None = None
    message_id: str | None = None
    app_id: str | None = None
    user: str | None = None
    source: str | None = None
    retry_of: str | None = None
    callback_url: str | None = None

    @property
    def ended(self) -> bool:
        return self.status in FINAL

    @property
    def paused(self) -> bool:
        """Whether the run waits for a person's input. `reasons` of the event workflow_paused has the forms."""
        return self.status == "paused"

    @property
    def succeeded(self) -> bool:
        """Also if nodes failed whose errors the workflow handles."""
        return self.status in ("succeeded", "partial-succeeded")

    def raise_for_status(self) -> WorkflowRun:
        """The run itself; RunFailedError if it failed or was stopped."""
        if self.status not in ("failed", "stopped"):
            return self
        node = self.error_node
        reason = self.error or f"The run {self.status}."
        prefix = f"{node.title or node.node_id}: " if node is not None and (node.title or node.node_id) else ""
        error = RunFailedError(
            f"{prefix}{reason}",
            code=self.status,
            run_id=self.workflow_run_id,
            task_id=self.task_id,
            node=None if node is None else dict(node),
        )
        error.run = self
        raise error


class NodeExecution(ResponseModel):
    """The execution of one node of a run (Headrace)."""

    id: Id = ""
    node_id: Id = ""
    node_type: Id = ""
    title: Id = ""
    index: int | None = None
    predecessor_node_id: str | None = None
    status: Id = ""
    inputs: Any = None
    process_data: Any = None
    outputs: Any = None
    error: str | None = None
    error_type: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    elapsed_time: float | None = None
    iteration_id: str | None = None
    iteration_index: int | None = None
    loop_id: str | None = None
    loop_index: int | None = None
    attempts: list[dict[str, Any]] | None = None
    reused: bool | None = None
    usage: Usage | None = None


class LoggedRun(ResponseModel):
    """The run of an entry of the log."""

    id: Id = ""
    status: Id = ""
    error: str | None = None
    elapsed_time: float | None = None
    total_tokens: int | None = None
    total_steps: int | None = None
    created_at: int | None = None
    finished_at: int | None = None
    exceptions_count: int | None = None
    version: str | None = None
    triggered_from: str | None = None


class WorkflowLog(ResponseModel):
    """An entry of the log of runs."""

    id: Id = ""
    workflow_run: LoggedRun | None = None
    created_from: str | None = None
    created_by_role: str | None = None
    created_at: int | None = None
    created_by_end_user: dict[str, Any] | None = None


class Result(ResponseModel):
    """`result` is "success"."""

    result: Id = ""


class StoppedRun(ResponseModel):
    """A run after a request to stop it; `status` is its status now."""

    workflow_run_id: Id = ""
    task_id: str | None = None
    status: Id = ""
    result: str | None = None


class AppInfo(ResponseModel):
    name: Id = ""
    description: str | None = None
    tags: list[Any] | None = None
    mode: Id = ""
    author_name: str | None = None


class AppParameters(ResponseModel):
    """An app's inputs and features. `user_input_form`: a list of `{kind: {"variable", "label", ...}}`."""

    user_input_form: list[dict[str, dict[str, Any]]] = Field(default_factory=list)
    opening_statement: str | None = None
    suggested_questions: list[str] | None = None
    file_upload: dict[str, Any] | None = None
    system_parameters: dict[str, Any] | None = None
    suggested_questions_after_answer: dict[str, Any] | None = None
    speech_to_text: dict[str, Any] | None = None
    text_to_speech: dict[str, Any] | None = None
    retriever_resource: dict[str, Any] | None = None
    annotation_reply: dict[str, Any] | None = None
    more_like_this: dict[str, Any] | None = None
    sensitive_word_avoidance: dict[str, Any] | None = None


class AppMeta(ResponseModel):
    tool_icons: dict[str, Any] | None = None


class AppSite(ResponseModel):
    title: str | None = None
    description: str | None = None
    icon: str | None = None
    icon_type: str | None = None
    icon_background: str | None = None
    icon_url: str | None = None
    default_language: str | None = None
    chat_color_theme_inverted: bool | None = None
    custom_disclaimer: str | None = None
    show_workflow_steps: bool | None = None
    use_icon_as_answer_icon: bool | None = None


class UploadedFile(ResponseModel):
    """A file on the server; can be used as a value in `inputs` or `files`."""

    id: str
    name: Id = ""
    size: int | None = None
    extension: Id = ""
    mime_type: Id = ""
    created_by: str | None = None
    created_at: int | None = None
    source_url: str | None = None


class Message(ResponseModel):
    """The complete answer of a chat or a completion app."""

    answer: str
    message_id: Id = ""
    conversation_id: str | None = None
    task_id: Id = ""
    workflow_run_id: str | None = None
    mode: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: int | None = None
    id: str | None = None
    event: str | None = None
    data: dict[str, Any] | None = None


class PastMessage(ResponseModel):
    """A query and its answer in a conversation's history."""

    id: str
    conversation_id: Id = ""
    query: Id = ""
    answer: Id = ""
    inputs: dict[str, Any] | None = None
    feedback: dict[str, Any] | None = None
    status: str | None = None
    error: str | None = None
    created_at: int | None = None
    parent_message_id: str | None = None
    retriever_resources: list[dict[str, Any]] | None = None
    message_files: list[dict[str, Any]] | None = None
    agent_thoughts: list[dict[str, Any]] | None = None
    message_tokens: int | None = None
    answer_tokens: int | None = None
    provider_response_latency: float | None = None
    total_price: str | float | None = None
    currency: str | None = None
    total_tokens: int | None = None


class Conversation(ResponseModel):
    id: str
    name: Id = ""
    inputs: dict[str, Any] | None = None
    status: str | None = None
    introduction: str | None = None
    created_at: int | None = None
    updated_at: int | None = None


class ConversationVariable(ResponseModel):
    id: str
    name: Id = ""
    value_type: Id = ""
    value: Any = None
    description: str | None = None
    created_at: int | None = None
    updated_at: int | None = None


class SuggestedQuestions(ResponseModel):
    data: list[str] = Field(default_factory=list)
    result: str | None = None


class Feedback(ResponseModel):
    id: Id = ""
    message_id: Id = ""
    conversation_id: Id = ""
    rating: str | None = None
    content: str | None = None
    app_id: str | None = None
    from_source: str | None = None
    from_end_user_id: str | None = None
    created_at: str | int | None = None
    updated_at: str | int | None = None


class Transcript(ResponseModel):
    """The text of a recording."""

    text: str


class Health(ResponseModel):
    """`status` is "ok" or "ready" if `healthy` is true."""

    status: str | None = None
    healthy: bool = True
