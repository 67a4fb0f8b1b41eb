"""Runs of workflows: requests, responses, and the log."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import DescribedAs, FileInput, Object, Unchecked


class UserRequest(TypedDict):
    """A request for an end user."""

    user: Annotated[Unchecked[str], Field(description="Your name for the end user.")]


class OptionalUserRequest(TypedDict):
    """A request that may name an end user; all requests without one have the same, who is anonymous."""

    user: NotRequired[Annotated[Unchecked[str], Field(description="Your name for the end user.")]]


class StreamableRequest(UserRequest):
    """A request whose response can be streamed; it is blocking by default."""

    response_mode: NotRequired[Literal["blocking", "streaming"] | None]


class RunFields(TypedDict):
    """What a run is given."""

    inputs: Annotated[Object, Field(description="The app's variables by name.")]
    files: NotRequired[
        Annotated[
            list[Object] | None,
            DescribedAs(list[FileInput] | None),
            Field(description="The value of `sys.files`; ignored by messages to apps that do not accept files."),
        ]
    ]


class WorkflowRequest(StreamableRequest, RunFields):
    """A run of a workflow."""


class RunOutcome(TypedDict):
    """How a run ended, and after how many seconds."""

    id: str
    workflow_id: str
    status: str
    outputs: Object
    error: str | None
    elapsed_time: float
    total_tokens: int
    total_steps: int


class RunResult(RunOutcome):
    """A run that has ended. Times are in seconds since the epoch."""

    created_at: int
    finished_at: int | None


class PausedRun(RunResult):
    """A run that waits for a person; `finished_at` is null."""

    paused_nodes: list[str]
    reasons: list[Object]


class BlockingRun(TypedDict):
    """The response to a blocking request."""

    task_id: str
    workflow_run_id: str
    data: RunResult | PausedRun


class WorkflowRun(TypedDict):
    """A run as it is now. `inputs` and `outputs` are JSON in a string."""

    id: str
    workflow_id: str
    status: str
    inputs: str
    outputs: str | None
    error: str | None
    total_steps: int
    total_tokens: int
    created_at: int
    finished_at: int | None
    elapsed_time: float


class LoggedRun(TypedDict):
    """A run in the log. `version` is when its version was published."""

    id: str
    version: str | None
    status: str
    triggered_from: str
    error: str | None
    elapsed_time: float
    total_tokens: int
    total_steps: int
    created_at: int
    finished_at: int | None
    exceptions_count: int


class LoggedEndUser(TypedDict):
    """The end user of a run in the log."""

    id: str
    type: str
    is_anonymous: bool
    session_id: str


class WorkflowLog(TypedDict):
    """An entry of the log."""

    id: str
    workflow_run: LoggedRun
    details: None
    created_from: str
    created_by_role: str
    created_by_account: None
    created_by_end_user: LoggedEndUser | None
    created_at: int


class WorkflowLogPage(TypedDict):
    """A page of the log."""

    page: int
    limit: int
    total: int
    has_more: bool
    data: list[WorkflowLog]
