"""What an endpoint is: one declaration, from which requests reach it and `openapi` describes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from headrace.api.http.schema import Media
from headrace.errors import RequestError

Endpoint = Callable[[Request], Awaitable[Response]]
Contents = Media[Any] | Sequence[Media[Any]]
"""One kind of content, or several to choose from."""


@dataclass(frozen=True, slots=True)
class Security:
    """What authenticates a request: a bearer token of this kind."""

    name: str
    description: str


def parameter(
    where: str, name: str, description: str, schema: Mapping[str, Any], *, required: bool = False
) -> Mapping[str, Any]:
    """A parameter in the query, a header or the path."""
    required = required or where == "path"
    return {"in": where, "name": name, "description": description, "schema": schema, "required": required}


UUID_SCHEMA = {"type": "string", "format": "uuid"}
TEXT_SCHEMA = {"type": "string"}
PATH_PARAMETERS = {
    declared["name"]: declared
    for declared in (
        parameter("path", "app_id", "The id of an app", UUID_SCHEMA),
        parameter("path", "batch_id", "The id of a batch", UUID_SCHEMA),
        parameter("path", "callback_id", "The id of a callback, as listed and as `webhook-id` has it", UUID_SCHEMA),
        parameter("path", "key_id", "The id of a key", UUID_SCHEMA),
        parameter("path", "task_id", "The task id of a run", TEXT_SCHEMA),
        parameter("path", "version_id", "The id of a version", UUID_SCHEMA),
        parameter("path", "workflow_id", "The id of an app (its current version) or of a version", UUID_SCHEMA),
        parameter("path", "workflow_run_id", "The id of a run", UUID_SCHEMA),
        parameter("path", "message_id", "The id of a message, which is its run's", UUID_SCHEMA),
        parameter("path", "conversation_id", "The id of a conversation", UUID_SCHEMA),
        parameter("path", "variable_id", "The id of a variable", UUID_SCHEMA),
        parameter("path", "annotation_id", "The id of an annotation", UUID_SCHEMA),
        parameter("path", "action", "What to do", TEXT_SCHEMA | {"enum": ["enable", "disable"]}),
        parameter("path", "job_id", "The id that switching returned", UUID_SCHEMA),
        parameter("path", "file_id", "The id of a file", UUID_SCHEMA),
        parameter("path", "name", "The id and extension of a file", TEXT_SCHEMA),
        parameter("path", "end_user_id", "The id of an end user", UUID_SCHEMA),
        parameter("path", "model", "The name or id of an app", TEXT_SCHEMA),
    )
}
"""Parameters that an operation has whose path names them; it may list one of its own instead."""
PAGE_PARAMETERS = [
    parameter("query", "limit", "Items on a page", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    parameter("query", "cursor", "The `next_cursor` of the page before", TEXT_SCHEMA),
]
IDS = (
    "Events have an `id`, from which a stream can be resumed, only if the request asks for it: by "
    "`Accept: text/event-stream; ids=true`, or by sending `Last-Event-ID`."
)
_POSITION = {"type": "string", "examples": ["12:34"]}
STARTING_POINT = [
    parameter("header", "Last-Event-ID", "Resume after this `id`, the last received; `0`: from the start", _POSITION),
    parameter("query", "last_event_id", "The same starting point, without asking for ids", _POSITION),
]
"""Where a stream that is followed resumes."""


def integer(default: int, maximum: int) -> Mapping[str, Any]:
    return {"type": "integer", "default": default, "minimum": 1, "maximum": maximum}


def paging(largest: int) -> Sequence[Mapping[str, Any]]:
    """The parameters of a list in pages of at most `largest`."""
    return (
        parameter("query", "page", "Starts at 1", integer(1, 99_999_999)),
        parameter("query", "limit", "Entries per page", integer(20, largest)),
    )


LIMIT = parameter("query", "limit", "Entries per page", integer(20, 100))
USER = parameter("query", "user", "Your name for the end user; without one it is anonymous", TEXT_SCHEMA)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. The endpoint's docstring is the description, unless one is given.

    `response` is what it returns with 200, or by status; `errors` are those of its own, beside the ones that follow
    from its security and its body. Parameters of the path need not be listed, see PATH_PARAMETERS."""

    method: str
    path: str
    endpoint: Endpoint
    id: str = ""
    summary: str = ""
    response: Contents | Mapping[int, Contents] = ()
    _: KW_ONLY
    tag: str = ""
    description: str = ""
    errors: Sequence[RequestError] = ()
    parameters: Sequence[Mapping[str, Any]] = ()
    body: Contents = ()
    body_required: bool = True
    documented: bool = True
    deprecated: bool = False


class ApiRoute(Route):
    """Responds with what the endpoint returns; to HEAD where it does to GET, as Dify."""

    def __init__(
        self, operation: Operation, prefix: str = "", *, security: Security | None = None, documented: bool = True
    ) -> None:
        super().__init__(
            prefix + operation.path,
            operation.endpoint,
            methods=[operation.method],
            include_in_schema=documented and operation.documented,
        )
        self.operation = operation
        self.security = security
        self._start = self.path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # the start of a path rules out most routes, and is much cheaper than a regular expression
        if not scope["path"].startswith(self._start) and not scope.get("root_path"):
            return Match.NONE, {}
        return super().matches(scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(405, headers={"Allow": self.operation.method})
        response = await self.operation.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def tagged(tag: str, *operations: Operation) -> list[Operation]:
    """Operations of one subject."""
    return [replace(operation, tag=tag) for operation in operations]


def mounted(
    prefix: str, operations: Iterable[Operation], security: Security | None = None, *, documented: bool = True
) -> list[ApiRoute]:
    """The routes of operations below a prefix."""
    return [ApiRoute(operation, prefix, security=security, documented=documented) for operation in operations]
