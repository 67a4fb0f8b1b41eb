"""Parameters of operations. One in the query is declared once: `/openapi.json` describes it, and `of` reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from headrace.api.auth import as_uuid
from headrace.errors import InvalidParam
from headrace.frozen import frozen

T = TypeVar("T")
_Number = TypeVar("_Number", int, None)
_Text = TypeVar("_Text", str, None)

_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})
_SECONDS = re.compile(r"-?\d{1,12}(\.\d{0,9})?", re.ASCII)

_LONGEST_KEYWORD = 10_000  # characters: SQLite searches for patterns of up to 50,000 bytes

TEXT_SCHEMA = {"type": "string"}
MODEL_TYPES = ("text-embedding", "rerank", "llm", "tts", "speech2text", "moderation")  # Dify's
UUID_SCHEMA = {"type": "string", "format": "uuid"}
_TIME_SCHEMA = {"type": "string", "format": "date-time"}


@frozen
class Parameter:
    """A parameter in the path, in a header or in the query (`where`)."""

    where: str
    name: str
    description: str
    schema: Mapping[str, Any]
    required: bool = False


@frozen
class Query(Parameter, Generic[T]):
    """A parameter in the query. `parse` raises InvalidParam for a text that is not valid, of which `error` is an
    example. One that is empty counts as absent, unless `parse_empty`."""

    _: KW_ONLY
    default: T
    parse: Callable[[str], T]
    error: InvalidParam | None = None
    parse_empty: bool = False

    def of(self, request: Request) -> T:
        """Its value in a request."""
        if not request.scope["query_string"]:
            return self.default  # without parsing the query: polling sends none
        text = request.query_params.get(self.name)
        if text is None or not (text.strip() or self.parse_empty):
            return self.default
        return self.parse(text)


@frozen
class Texts(Parameter):
    """A parameter in the query that may occur several times."""

    def of(self, request: Request) -> list[str]:
        """Its values without NULs, which databases refuse."""
        values = [text.replace("\0", "") for text in request.query_params.getlist(self.name)]
        return [text for text in values if text.strip()]


def texts(name: str, description: str) -> Texts:
    return Texts("query", name, description, {"type": "array", "items": TEXT_SCHEMA})


def text(name: str, description: str, *, required: bool = False) -> Query[str | None]:
    return Query("query", name, description, TEXT_SCHEMA, required, default=None, parse=str)


def keyword(description: str) -> Query[str]:
    """A text that is searched for; "" if there is none. It has no NULs, which databases refuse."""

    error = InvalidParam(f"keyword: String should have at most {_LONGEST_KEYWORD} characters")

    def parse(value: str) -> str:
        if len(value) > _LONGEST_KEYWORD:
            raise error
        return value.replace("\0", "")

    schema = TEXT_SCHEMA | {"maxLength": _LONGEST_KEYWORD}
    return Query("query", "keyword", description, schema, default="", parse=parse, error=error)


def integer(name: str, description: str, default: _Number, maximum: int, minimum: int = 1) -> Query[int | _Number]:

    def error(value: str) -> InvalidParam:
        return InvalidParam(f"{name}: Input should be an integer from {minimum} to {maximum}, not {value[:50]!r}")

    def parse(value: str) -> int | _Number:
        if not (value.isascii() and value.isdigit()) or not minimum <= int(value[:18]) <= maximum:
            raise error(value)
        return int(value)

    schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
    schema |= {} if default is None else {"default": default}
    return Query("query", name, description, schema, default=default, parse=parse, error=error("x"))


def boolean(name: str, description: str, *, default: bool = False) -> Query[bool]:
    message = f"{name} must be true or false"

    def parse(value: str) -> bool:
        word = value.strip().lower()
        if word not in _TRUE | _FALSE:
            raise InvalidParam(message)
        return word in _TRUE

    schema = {"type": "boolean", "default": default}
    return Query("query", name, description, schema, default=default, parse=parse, error=InvalidParam(message))


def choice(name: str, description: str, values: Sequence[str], default: _Text) -> Query[str | _Text]:
    *others, last = (f"'{value}'" for value in values)
    message = f"{name}: Input should be {', '.join(others)}{' or ' if others else ''}{last}"

    def parse(value: str) -> str | _Text:
        if value not in values:
            raise InvalidParam(message)
        return value

    schema = {"type": "string", "enum": list(values)} | ({} if default is None else {"default": default})
    error, required = InvalidParam(message), default is not None
    return Query("query", name, description, schema, default=default, parse=parse, error=error, parse_empty=required)


def names(name: str, description: str, values: Sequence[str]) -> Query[frozenset[str]]:
    """Any of these values, separated by commas."""
    message = f"{name}: Input should be any of {', '.join(values)}, separated by commas"

    def parse(value: str) -> frozenset[str]:
        words = frozenset(word.strip() for word in value.split(","))
        if not words <= frozenset(values):
            raise InvalidParam(message)
        return words

    schema = TEXT_SCHEMA | {"examples": [",".join(values)]}
    description = f"{description}: any of {', '.join(f'`{value}`' for value in values)}, separated by commas"
    error = InvalidParam(message)
    return Query("query", name, description, schema, default=frozenset[str](), parse=parse, error=error)


def uuid(name: str, description: str) -> Query[str | None]:
    def parse(value: str) -> str:
        return as_uuid(value.strip(), InvalidParam(f"{name}: {value.strip()[:50]!r} is not a valid uuid"))

    error = InvalidParam(f"{name}: 'x' is not a valid uuid")
    return Query("query", name, description, UUID_SCHEMA, default=None, parse=parse, error=error)


def time(name: str, description: str, *, seconds: bool = False) -> Query[float | None]:
    """An ISO 8601 time (UTC by default), in seconds since the epoch; with `seconds` also the number of these."""
    expected = "neither a number of seconds nor an ISO 8601 time" if seconds else "not an ISO 8601 time"

    def parse(value: str) -> float:
        value = value.strip()
        if seconds and _SECONDS.fullmatch(value):
            return float(value)
        try:
            # the plus of an offset may not have been escaped in the query
            at = datetime.fromisoformat(value.replace(" ", "+") if "T" in value else value)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise InvalidParam(f"{name}: {value[:50]!r} is {expected}") from None

    schema = TEXT_SCHEMA if seconds else _TIME_SCHEMA
    error = InvalidParam(f"{name}: 'x' is {expected}")
    return Query("query", name, description, schema, default=None, parse=parse, error=error)


def paging(largest: int) -> tuple[Query[int], Query[int]]:
    """`page`, and `limit` up to `largest`."""
    return integer("page", "Starts at 1", 1, 99_999_999), integer("limit", "Entries per page", 20, largest)


LIMIT = integer("limit", "Entries per page", 20, 100)
USER = text("user", "Your name for the end user; without one it is anonymous")
PATH_PARAMETERS = {
    name: Parameter("path", name, description, schema, required=True)
    for name, description, schema in (
        ("app_id", "The id of an app", UUID_SCHEMA),
        ("batch_id", "The id of a batch", UUID_SCHEMA),
        ("callback_id", "The id of a callback, as listed and as `webhook-id` has it", UUID_SCHEMA),
        ("key_id", "The id of a key", UUID_SCHEMA),
        ("task_id", "The task id of a run", TEXT_SCHEMA),
        ("trigger_id", "The id of a trigger, as listed", UUID_SCHEMA),
        ("subscription_id", "The id of a subscription, as listed", UUID_SCHEMA),
        ("version_id", "The id of a version", UUID_SCHEMA),
        ("workflow_id", "The id of an app (its current version) or of a version", UUID_SCHEMA),
        ("workflow_run_id", "The id of a run", UUID_SCHEMA),
        ("message_id", "The id of a message, which is its run's", UUID_SCHEMA),
        ("conversation_id", "The id of a conversation", UUID_SCHEMA),
        ("variable_id", "The id of a variable", UUID_SCHEMA),
        ("annotation_id", "The id of an annotation", UUID_SCHEMA),
        ("action", "What to do", TEXT_SCHEMA | {"enum": ["enable", "disable"]}),
        ("job_id", "The id that switching returned", UUID_SCHEMA),
        ("file_id", "The id of a file", UUID_SCHEMA),
        ("name", "The id and extension of a file", TEXT_SCHEMA),
        ("end_user_id", "The id of an end user", UUID_SCHEMA),
        ("model", "The name or id of an app", TEXT_SCHEMA),
        ("form_token", "The token of a form, as the event `human_input_required` has it", TEXT_SCHEMA),
        ("dataset_id", "The id of a knowledge base", UUID_SCHEMA),
        ("document_id", "The id of a document", UUID_SCHEMA),
        ("segment_id", "The id of a segment (a chunk)", UUID_SCHEMA),
        ("child_chunk_id", "The id of a child chunk", UUID_SCHEMA),
        ("metadata_id", "The id of a field of metadata", UUID_SCHEMA),
        ("batch", "The batch that indexing returned", TEXT_SCHEMA),
        (
            "model_type",
            "The type of models",
            TEXT_SCHEMA | {"enum": [*MODEL_TYPES]},
        ),
        ("node_id", "The id of a node", TEXT_SCHEMA),
        ("response_id", "The id of a response: `resp_` and the id of its run", TEXT_SCHEMA),
    )
}
"""Parameters that an operation has whose path names them, unless it declares its own."""
IDS = (
    "Events have an `id`, from which a stream can be resumed, only if the request asks for it: by "
    "`Accept: text/event-stream; ids=true`, or by sending `Last-Event-ID`."
)
_POSITION = {"type": "string", "examples": ["12:34"]}
STARTING_POINT = (
    Parameter("header", "Last-Event-ID", "Resume after this `id`, the last received; `0`: from the start", _POSITION),
    Parameter("query", "last_event_id", "The same starting point, without asking for ids", _POSITION),
)
"""Where a stream that is followed resumes."""
