"""Shapes of JSON on the wire: TypedDicts, from which requests are checked and the OpenAPI description is written.

A response is built by a function whose return type is its TypedDict: the type checker refuses a field that is missing
or misspelt, and at run time it is a plain dict. Nothing of pydantic is built before it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cache
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from headrace.frozen import frozen

T = TypeVar("T")

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

described = with_config(ConfigDict(use_attribute_docstrings=True))
"""Decorates a TypedDict whose fields have docstrings: they become the descriptions of its properties."""
closed = with_config(ConfigDict(use_attribute_docstrings=True, extra="forbid"))
"""As `described`, for a request that may have no other fields."""

Uuid = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]


@frozen
class Media(Generic[T]):
    """A request's or a response's content: its shape, or the schema of what is not JSON (a string by default), and an
    example, or several by name."""

    shape: type[T] | UnionType | None
    example: T | None = None
    type: str = JSON
    schema: Mapping[str, Any] | None = None
    examples: Mapping[str, T] = field(default_factory=dict[str, T])


BINARY = {"type": "string"}
"""The schema of bytes that are not text."""
UPLOAD: Media[Any] = Media(
    None,
    type="multipart/form-data",
    schema={
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}, "user": {"type": "string"}},
    },
)
"""A form with a file."""


@cache
def adapter(shape: type[T]) -> TypeAdapter[T]:
    """Builds it once, when the first request needs it."""
    return TypeAdapter(shape)
