"""Runs: requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from headrace.api.http.schema import EVENT_STREAM, Media, Url, Uuid, closed, described
from headrace.api.native.schemas.common import (
    APP_ID,
    CONVERSATION_ID,
    RUN_ID,
    TASK_ID,
    USER,
    WORKFLOW_ID,
    Duration,
    Milliseconds,
    Seconds,
    Status,
    one_of,
)
from headrace.errors import InvalidParam
from headrace.kernel.summary import ModelCost, RunUsage
from headrace.values import Value

LONGEST_URL = 2048


def callback_url(url: Value) -> str | None:
    """The `callback_url` of a request to run; None where it has none. InvalidParam where it cannot be one. Whether it
    can be reached is known only when it is called: names change their addresses."""
    if url is None:
        return None
    if not isinstance(url, str) or not _is_url(url):
        raise InvalidParam(f"callback_url must be an http or https URL of {LONGEST_URL} characters at most.")
    return url


def _is_url(text: str) -> bool:
    if len(text) > LONGEST_URL or any(letter <= " " or letter == "\x7f" for letter in text):
        return False
    try:
        text.encode()  # half a surrogate pair is in no URL
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class RunOptions(TypedDict, total=False):
    response_mode: Literal["async", "streaming", "blocking"] | None
    callback_url: Annotated[str | None, BeforeValidator(callback_url), Field(json_schema_extra={"format": "uri"})]
    """Receives a signed message when the run ends or pauses."""


@described
class SubmitRunRequest(RunOptions):
    """A run of a workflow, or a message to a chat."""

    inputs: Mapping[str, Any]
    """The start node's variables by name."""
    user: str
    """Your name for the end user."""
    query: NotRequired[str | None]
    """The user's message: for chats and completion apps."""
    files: NotRequired[list[Mapping[str, Any]] | None]
    """What `sys.files` holds, within the app's upload limits."""
    conversation_id: NotRequired[str | None]
    """The conversation to continue; empty for a new one."""
    auto_generate_name: NotRequired[bool]


@closed
class ReplayRequest(TypedDict):
    """A run again, with another version or other inputs."""

    version: NotRequired[Uuid | None]
    """A version's id; the current version by default."""
    inputs: NotRequired[Mapping[str, Any] | None]
    """By default those of the old run."""


@closed
class ForkRequest(TypedDict):
    """A run again from a node on."""

    node_id: str
    """A node of the top level: it and what follows it run again."""
    outputs: NotRequired[Mapping[str, Mapping[str, Any]] | None]
    """Values that replace outputs of nodes that do not run again, by node and name."""


class StopRequest(TypedDict, total=False):
    """Who stops the run."""

    user: str | None


class AcceptedRun(TypedDict):
    """A run that is stored, and will be executed."""

    task_id: Uuid
    workflow_run_id: Uuid
    status: Annotated[str, one_of("queued")]
    created_at: Seconds
    conversation_id: NotRequired[Uuid | None]
    message_id: NotRequired[Uuid]


class ErrorNode(TypedDict):
    """The node whose failure ended the run."""

    id: Uuid
    node_id: str
    title: str
    type: str
    error_type: str


@described
class RunLine(TypedDict):
    """A run in a list. `conversation_id` and `message_id` are those of a run that responds to a message."""

    id: Uuid
    workflow_id: Uuid
    app_id: Uuid
    status: Status
    error: str | None
    total_tokens: int
    total_steps: int
    exceptions_count: int
    created_at: Seconds
    created_at_ms: Milliseconds
    finished_at: Seconds | None
    finished_at_ms: Milliseconds | None
    elapsed_time: Duration | None
    user: str
    source: str
    """`service-api`, or `batch:` and the id of a batch."""
    conversation_id: NotRequired[Uuid | None]
    message_id: NotRequired[Uuid]
    app_name: NotRequired[str]
    """With `include=app`."""
    version_number: NotRequired[int | None]
    """Of its version, with `include=version`; null if that was removed."""
    total_price: NotRequired[str | None]
    """With `include=cost`; null until the run has ended, and where currencies are mixed."""
    currency: NotRequired[str | None]
    error_node_title: NotRequired[str | None]
    """Of the node whose failure ended it, with `include=error_node`."""
    input: NotRequired[str | None]
    """Its query, or else the first text of its inputs: at most 200 characters, with `include=input`."""


class RunCosts(TypedDict):
    """What a run has cost; no total where currencies are mixed."""

    total_price: str | None
    currency: str | None
    by_model: list[ModelCost]


class RunKey(TypedDict):
    """Who submitted a run: a key, or an identity, which has no prefix."""

    id: str
    prefix: str | None
    name: str


class ChildRun(TypedDict):
    """A run that another one called."""

    id: Uuid
    app_id: Uuid
    status: Status


@described
class RunDetail(RunLine):
    """A run as it is now. `query` and `answer` are those of a run that responds to a message."""

    task_id: Uuid
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any] | None
    """null until the run has ended."""
    error_node: ErrorNode | None
    usage: RunUsage
    started_at: Seconds | None
    started_at_ms: Milliseconds | None
    retry_of: Uuid | None
    callback_url: Url | None
    query: NotRequired[str | None]
    answer: NotRequired[str]
    cost: NotRequired[RunCosts]
    """This and the following: with `include`."""
    queue_time: NotRequired[Duration | None]
    """Until it began."""
    first_token: NotRequired[Duration | None]
    """From its begin to the first text of a model."""
    key: NotRequired[RunKey | None]
    parent_run_id: NotRequired[str | None]
    """The run that called it."""
    children: NotRequired[list[ChildRun]]
    """The runs that it called, the newest first, 100 at most."""
    replay_of: NotRequired[Uuid | None]


@described
class RunPage(TypedDict):
    """Runs, newest first."""

    data: list[RunLine]
    next_cursor: str | None
    """The `cursor` of the next page; null on the last."""


class StoppedRun(TypedDict):
    """The status of a run after a request to stop it."""

    workflow_run_id: Uuid
    task_id: Uuid
    status: Status


# ----------------------------------------------------------------------------------------------------------- examples

USAGE: RunUsage = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "total_price": "0.0002250",
    "currency": "USD",
}
_LINE: RunLine = {
    "id": RUN_ID,
    "workflow_id": WORKFLOW_ID,
    "app_id": APP_ID,
    "status": "succeeded",
    "error": None,
    "total_tokens": 150,
    "total_steps": 3,
    "exceptions_count": 0,
    "created_at": 1795226714,
    "created_at_ms": 1795226714250,
    "finished_at": 1795226715,
    "finished_at_ms": 1795226715490,
    "elapsed_time": 1.23,
    "user": USER,
    "source": "service-api",
}
_RUN: RunDetail = {
    **_LINE,
    "task_id": TASK_ID,
    "status": "failed",
    "inputs": {"query": "hello"},
    "outputs": {},
    "error": "Reached maximum retries (0) for URL https://example.com/",
    "error_node": {
        "id": "0ad1b1e8-5f2e-5d1f-8f57-6f0f7f3f2c11",
        "node_id": "1718000000001",
        "title": "Look it up",
        "type": "http-request",
        "error_type": "HttpRequestNodeError",
    },
    "usage": USAGE,
    "exceptions_count": 1,
    "started_at": 1795226714,
    "started_at_ms": 1795226714260,
    "retry_of": None,
    "callback_url": "https://example.com/headrace",
}
_PICTURE = {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/a.png"}

SUBMIT = Media(
    SubmitRunRequest,
    examples={
        "async": {"inputs": {"query": "hello"}, "user": USER},
        "message": {
            "inputs": {"field1": "value1"},
            "query": "What is on this picture?",
            "conversation_id": CONVERSATION_ID,
            "files": [_PICTURE],
            "response_mode": "streaming",
            "user": USER,
        },
        "callback": {"inputs": {"query": "hello"}, "user": USER, "callback_url": "https://example.com/headrace"},
        "blocking": {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": USER},
    },
)
ACCEPTED = Media(
    AcceptedRun, {"task_id": TASK_ID, "workflow_run_id": RUN_ID, "status": "queued", "created_at": 1795226714}
)
RUN = Media(RunDetail, _RUN)
RUNS = Media(
    RunPage, {"data": [_LINE], "next_cursor": "MTc5NTIyNjcxNC4yNSBmYjQ3YjJlNi01ZTQzLTRmOTAtYmUwMS1kNWM1YTA4OGQxNTY"}
)
NEWS = Media(
    None,
    f'event: ready\nid: 1f0c2d3e.41\ndata: {{}}\n\nevent: run\nid: 1f0c2d3e.42\ndata: {{"id":"{RUN_ID}",'
    f'"workflow_id":"{WORKFLOW_ID}","app_id":"{APP_ID}","status":"running","error":null,"total_tokens":0}}\n\n',
    EVENT_STREAM,
)
STOP = Media(StopRequest, {"user": USER})
REPLAY = Media(ReplayRequest, {"inputs": {"query": "good morning"}})
FORK = Media(ForkRequest, {"node_id": "1718000000001", "outputs": {"1718000000000": {"query": "good morning"}}})
STOPPED = Media(StoppedRun, {"workflow_run_id": RUN_ID, "task_id": TASK_ID, "status": "stopped"})
STREAM = Media(
    None,
    f'data: {{"event":"workflow_started","workflow_run_id":"{RUN_ID}","task_id":"{TASK_ID}",'
    f'"data":{{"id":"{RUN_ID}","workflow_id":"{WORKFLOW_ID}","inputs":{{"query":"hello"}},'
    '"created_at":1795226714,"reason":"initial"}}\n\n',
    EVENT_STREAM,
)
