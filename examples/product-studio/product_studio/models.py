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


class DetailRequest(BaseModel):
    product_name: Name


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


# ------------------------------------------------------------------------- what the stream tells while a run goes on


class Started(BaseModel):
    kind: Literal["started"] = "started"
    task_id: str
    """What the run is stopped by."""
    run_id: str


class Node(BaseModel):
    """A step of the workflow."""

    kind: Literal["node"] = "node"
    id: str
    title: str
    state: Literal["running", "done", "failed"]


class Text(BaseModel):
    """The next piece of the description."""

    kind: Literal["text"] = "text"
    text: str


class Finished(BaseModel):
    """The last word. Without a picture where the one that was made could not be had."""

    kind: Literal["finished"] = "finished"
    description: str
    picture_id: str | None
    picture_url: str | None


Reason = Literal["busy", "configuration", "run", "service", "stopped", "timeout", "unreachable"]


class Failed(BaseModel):
    """The last word, too. The page has a sentence for each reason; `node` is the title of the step that failed."""

    kind: Literal["failed"] = "failed"
    reason: Reason
    node: str | None = None


Progress = Started | Node | Text | Finished | Failed


class StopRequest(BaseModel):
    task_id: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\w-]+$")]


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
    """A page of the list, newest first."""

    products: list[Product]
    has_more: bool


class Picture(BaseModel):
    picture_id: str
    picture_url: str
