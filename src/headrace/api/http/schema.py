"""Shapes of JSON on the wire: TypedDicts, from which requests are checked and the OpenAPI description is written.

A response is built by a function whose return type is its TypedDict: the type checker refuses a field that is missing
or misspelt, and at run time it is a plain dict. Nothing of pydantic is built before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from headrace.errors import InvalidParam, RequestError
from headrace.values import Value

T = TypeVar("T")

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

described = with_config(ConfigDict(use_attribute_docstrings=True))
"""Decorates a TypedDict whose fields have docstrings: they become the descriptions of its properties."""
closed = with_config(ConfigDict(use_attribute_docstrings=True, extra="forbid"))
"""As `described`, for a request that may have no other fields."""

Uuid = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]


@dataclass(frozen=True, slots=True)
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


def _invalid(where: str, message: str) -> RequestError:
    return InvalidParam(f"{where}: {message}")


def parse(shape: type[T], body: Mapping[str, Value], error_of: Callable[[str, str], RequestError] = _invalid) -> T:
    """A request's body as its shape has it. Raises `error_of` the first field that does not fit and why not, in
    pydantic's words, which are Dify's."""
    try:
        return adapter(shape).validate_python(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part)[:50] for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(getattr(shape, "__annotations__", {})))
            raise error_of(where, f"Input should be one of {known}") from None
        raise error_of(where, first["msg"]) from None


@cache
def adapter(shape: type[T]) -> TypeAdapter[T]:
    """Builds it once, when the first request needs it."""
    return TypeAdapter(shape)
