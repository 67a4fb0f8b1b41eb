"""What goes in and out of the API, as types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from annotated_types import Len
from pydantic import AfterValidator, BaseModel, StringConstraints

MESSAGE = "An error occurred while processing your request."


def _characters(value: str) -> str:
    """Refuses halves of characters, which JSON can name but no text can hold."""
    value.encode()
    return value


def _one_line(value: str) -> str:
    """White space at the ends goes, and each other stretch of it becomes one space: as the workflow counts."""
    return " ".join(value.split())


Words = Annotated[str, AfterValidator(_characters)]
Name = Annotated[Words, AfterValidator(_one_line), Len(5, 30)]
"""What a description can be written for: 5 to 30 characters (not bytes)."""


Id = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\w-]+$")]


class DetailRequest(BaseModel):
    product_name: Name


class StreamRequest(DetailRequest):
    retry_of: Id | None = None
    """A failed run that is to be continued, where the workflow's server can."""


class DetailResponse(BaseModel):
    """`code` is 200 or 500; `body` the workflow's outputs, or a message."""

    isSuccess: bool
    code: Literal[200, 500]
    body: dict[str, Any] | str


class ProductDetail(BaseModel):
    """The outputs of the workflow."""

    description: str
    prompt_id: str
    image_url: str


# --------------------------------------------------------------------------------- the stream of a run, event by event

StepName = Literal["check", "write", "picture"]
"""What a shop owner knows of the workflow; its nodes are its own business."""


class Started(BaseModel):
    """The first event of every stream, also when a run is followed again: what the page knows of it begins anew."""

    kind: Literal["started"] = "started"
    run_id: str
    task_id: str | None
    """What the run is stopped by. None where the server does not repeat it."""


class Step(BaseModel):
    """A step begins, ends or fails. `seconds`: how long it has taken so far."""

    kind: Literal["step"] = "step"
    step: StepName
    state: Literal["running", "done", "failed"]
    seconds: float


class Text(BaseModel):
    """The next piece of the description."""

    kind: Literal["text"] = "text"
    text: str


class Waiting(BaseModel):
    """The run waits until somebody has answered a form. `form_url`: its page, if the workflow's server has one."""

    kind: Literal["waiting"] = "waiting"
    form_url: str | None


class Finished(BaseModel):
    """The last event of a run that succeeded. Without a picture if that could not be fetched."""

    kind: Literal["finished"] = "finished"
    description: str
    picture_id: str | None
    picture_url: str | None


Reason = Literal[
    "busy",  # the workflow's server refuses more requests
    "configuration",  # this application's settings, or a workflow that does not fit
    "credentials",  # the model's key
    "limit",  # the model's limit or quota
    "model",  # the model's service is down
    "picture",  # the steps after the text
    "title",  # the steps before the text
    "run",  # any other failure of the run
    "gone",  # there is no such run
    "rejected",  # by the person whom the run asked
    "expired",  # nobody answered in time
    "service",  # the workflow's server responded with an error
    "stopped",
    "timeout",
    "unreachable",
]


class Failed(BaseModel):
    """The last event of a run that failed, or could not be started. The page has a sentence for each reason."""

    kind: Literal["failed"] = "failed"
    reason: Reason


class Interrupted(BaseModel):
    """The last event if the connection to the workflow's server is lost: the run continues, and can be followed."""

    kind: Literal["interrupted"] = "interrupted"


Progress = Started | Step | Text | Waiting | Finished | Failed | Interrupted


class StopRequest(BaseModel):
    task_id: Id


class Stopped(BaseModel):
    isSuccess: Literal[True] = True


# -------------------------------------------------------------------------------------------------------- products


class NewProduct(BaseModel):
    title: Annotated[Words, AfterValidator(_one_line), Len(1, 100)]
    description: Annotated[Words, AfterValidator(str.strip), Len(0, 5000)] = ""
    picture_id: Annotated[Words, Len(1, 200)] | None = None


class Product(NewProduct):
    id: int
    picture_url: str | None
    created_at: datetime


class Products(BaseModel):
    """A page of the list, newest first; `total` counts all."""

    products: list[Product]
    total: int
    has_more: bool


class Picture(BaseModel):
    picture_id: str
    picture_url: str
