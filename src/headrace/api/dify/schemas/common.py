"""Shapes that occur in several requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import GetPydanticSchema
from typing_extensions import TypedDict

from headrace.values import File, Value

Object = Mapping[str, Value]
"""A JSON object whose fields the app decides."""


def encoded_as(shape: Any) -> GetPydanticSchema:
    """Describes a type by the JSON that the encoder writes for it."""
    return GetPydanticSchema(lambda _source, handler: handler(shape))


class FileObject(TypedDict):
    """A file among a run's inputs or outputs. `size` is in bytes, -1 where it is not known."""

    dify_model_identity: str
    id: None
    tenant_id: None
    type: str
    transfer_method: str
    remote_url: str | None
    related_id: str | None
    filename: str | None
    extension: str | None
    mime_type: str | None
    size: int
    url: str | None


WireFile = Annotated[File, encoded_as(FileObject)]


class FileInput(TypedDict):
    """A file for a run: at a URL, or uploaded before."""

    type: Literal["image", "document", "audio", "video", "custom"]
    transfer_method: Literal["remote_url", "local_file"]
    url: NotRequired[str]
    upload_file_id: NotRequired[str]


class TokenCounts(TypedDict):
    """Tokens that models used."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Success(TypedDict):
    """Nothing but that it is done."""

    result: Literal["success"]
