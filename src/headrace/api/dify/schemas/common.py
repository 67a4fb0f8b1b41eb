"""Shapes that occur in several requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetPydanticSchema, SkipValidation
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypedDict

from headrace.frozen import frozen
from headrace.values import File, Value

Object = Mapping[str, Value]
"""A JSON object whose fields the app decides."""

_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def encoded_as(shape: Any) -> GetPydanticSchema:
    """Describes a type of a response by the JSON that the encoder writes for it."""
    return GetPydanticSchema(lambda _source, handler: handler.generate_schema(shape))


@frozen
class DescribedAs:
    """Describes a type of a request by a narrower one, which is checked elsewhere."""

    shape: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        shape = handler.generate_schema(self.shape)
        return core_schema.json_or_python_schema(json_schema=shape, python_schema=handler(source))


def _boolean(value: Value) -> bool:
    """A boolean, or a word or number that stands for one."""
    word = value.strip().lower() if isinstance(value, str) else str(value).lower()
    if word not in _BOOLEANS or not isinstance(value, str | bool | int):
        raise PydanticCustomError("bool_type", "Input should be a valid boolean")
    return _BOOLEANS[word]


def _without_nul(text: str) -> str:
    return text.replace("\0", "")


def _nul_removed(value: Value) -> Value:
    return _without_nul(value) if isinstance(value, str) else value


WITHOUT_NUL = BeforeValidator(_nul_removed)
"""Removes NULs before the length of a string is checked."""
Text = Annotated[str, AfterValidator(_without_nul)]
"""A string without NULs, which databases refuse."""
Name = Annotated[str, Field(max_length=255), AfterValidator(_without_nul)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Unchecked = SkipValidation
"""A field that is described, but checked elsewhere or not at all."""


class FileObject(TypedDict):
    """A file among a run's inputs or outputs. `size` is in bytes, -1 where it is unknown."""

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
    """The response where there is nothing to return."""

    result: Literal["success"]
