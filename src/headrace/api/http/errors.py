"""Errors, in Dify's envelope: {code, message, status}; below `/v1/openai` in OpenAI's.

The codes and messages are Dify's own where it has one for the same thing; clients go by the code.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NotRequired

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from headrace.api.http.responses import encode
from headrace.errors import InvalidParam, LoadError, NewerSchema, Problem, RequestError, StoreError

logger = logging.getLogger(__name__)

INTERNAL = (
    "The server encountered an internal error and was unable to complete your request. "
    "Either the server is overloaded or there is an error in the application."
)
_UNAVAILABLE = "The server cannot reach its storage. Please try again later."
_STATUSES: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The browser (or proxy) sent a request that this server could not understand."),
    404: (
        "not_found",
        "The requested URL was not found on the server. "
        "If you entered the URL manually please check your spelling and try again.",
    ),
    405: ("method_not_allowed", "The method is not allowed for the requested URL."),
    408: ("request_timeout", "The request took too long to arrive."),
    413: ("request_entity_too_large", "The data value transmitted exceeds the capacity limit."),
    415: (
        "unsupported_media_type",
        "Did not attempt to load JSON data because the request Content-Type was not 'application/json'.",
    ),
    416: ("requested_range_not_satisfiable", "The server cannot provide the requested range."),
    431: ("request_header_fields_too_large", "The request's headers are too large."),
    503: ("service_unavailable", "The server is shutting down. Please try again."),
}


def of_status(status: int, message: str | None = None) -> RequestError:
    """The error that a bare HTTP status stands for."""
    code, usual = _STATUSES.get(status, ("internal_server_error" if status >= 500 else "unknown", INTERNAL))
    return RequestError(message or usual, code, status)


not_workflow_app = partial(
    RequestError, "Please check if your app mode matches the right API route.", "not_workflow_app", 400
)
not_chat_app = partial(RequestError, "Please check if your app mode matches the right API route.", "not_chat_app", 400)
user_missing = partial(InvalidParam, "Arg user must be provided.")
app_unavailable = partial(
    RequestError, "App unavailable, please check your app configurations.", "app_unavailable", 400
)
file_not_found = partial(RequestError, "The requested file was not found.", "file_not_found", 404)
end_user_not_found = partial(RequestError, "End user not found.", "end_user_not_found", 404)
no_file_uploaded = partial(RequestError, "Please upload your file.", "no_file_uploaded", 400)
no_filename = partial(RequestError, "The specified filename does not exist.", "filename_not_exists_error", 400)
unsupported_file_type = partial(RequestError, "File type not allowed.", "unsupported_file_type", 415)


def file_too_large(limit: int) -> RequestError:
    message = f"File size exceeded: this kind of file may have {limit / 1024 / 1024:g} MB at most."
    return RequestError(message, "file_too_large", 413)


OPENAI = "/v1/openai"
"""The path below which errors have OpenAI's form."""
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class BadParameter(RequestError):
    """400: a parameter of OpenAI's request is missing, wrong, or not supported."""

    def __init__(self, message: str, param: str, code: str = "invalid_value") -> None:
        super().__init__(message, code, 400)
        self.param = param


class Error(TypedDict):
    """An error, as Dify returns it."""

    code: str
    message: str
    status: int
    details: NotRequired[list[ProblemBody]]


class ProblemBody(TypedDict):
    """A problem of a workflow file. One that is not fatal does not keep it from being published."""

    message: str
    line: int | None
    node: str | None
    field: str | None
    fatal: bool


class ProblemError(RequestError):
    """An error that is due to a workflow file, with all its problems."""

    def __init__(self, message: str, code: str, status: int, problems: Sequence[Problem]) -> None:
        super().__init__(message, code, status)
        self.problems = problems


def problem_body(problem: Problem) -> ProblemBody:
    return {
        "message": problem.message,
        "line": problem.line,
        "node": problem.node,
        "field": problem.field,
        "fatal": problem.fatal,
    }


class OpenAIErrorDetail(TypedDict):
    """What went wrong, as OpenAI returns it."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(TypedDict):
    """An error, as OpenAI returns it."""

    error: OpenAIErrorDetail


def openai_body(error: RequestError) -> OpenAIError:
    kind = _OPENAI_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    param = error.param if isinstance(error, BadParameter) else None
    return {"error": {"message": error.message, "type": kind, "param": param, "code": error.code}}


def body_type(path: str) -> type[Error] | type[OpenAIError]:
    """The shape of errors below this path."""
    return OpenAIError if path == OPENAI or path.startswith(f"{OPENAI}/") else Error


def body_of(error: RequestError, path: str = "") -> Error | OpenAIError:
    """The body of the response to a request to this path."""
    if body_type(path) is OpenAIError:
        return openai_body(error)
    body: Error = {"code": error.code, "message": error.message, "status": error.status}
    if isinstance(error, ProblemError):
        body["details"] = [problem_body(problem) for problem in error.problems]
    return body


def envelope(error: RequestError, path: str = "") -> Response:
    """The response to a request to this path."""
    return Response(encode(body_of(error, path)), error.status, dict(error.headers), "application/json")


def error_response(request: Request, error: Exception) -> Response | None:
    """The response to a request that has raised an error; None for one that is not expected."""
    path = request.url.path
    if isinstance(error, RequestError | StoreError | LoadError):
        return envelope(request_error(request, error), path)
    if not isinstance(error, HTTPException):
        return None
    message = _openai_message(request, error.status_code) if body_type(path) is OpenAIError else None
    of_route = of_status(error.status_code, message)
    of_route.headers = dict(error.headers or {})
    return envelope(of_route, path)


def request_error(request: Request, error: Exception) -> RequestError:
    """The error that a request's exception is reported as."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, LoadError):
        # the version could be loaded once: another Headrace, or a node type that is no longer installed
        logger.error("%s %s: %s", request.method, request.url.path, error)
        return app_unavailable()
    if isinstance(error, StoreError) and not error.transient and not isinstance(error, NewerSchema):
        logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
        return RequestError(INTERNAL, "internal_server_error", 500)
    logger.debug("%s %s: %s", request.method, request.url.path, error)
    return _unavailable()


def interrupted(run: str, error: Exception) -> RequestError:
    """The error event of a run's stream that breaks off."""
    if isinstance(error, StoreError) and (error.transient or isinstance(error, NewerSchema)):
        logger.log(error.level, "the stream of run %s broke: %s", run, error)
        return _unavailable()
    logger.error("the stream of run %s broke", run, exc_info=error)
    return error if isinstance(error, RequestError) else RequestError(INTERNAL, "internal_server_error", 500)


_unavailable = partial(RequestError, _UNAVAILABLE, "service_unavailable", 503, {"Retry-After": "1"})


def _openai_message(request: Request, status: int) -> str | None:
    """What to say of a path or method of OpenAI's API that is not served; None for other errors."""
    path = request.url.path
    if status == 404:
        return f"'{path}' is not served here. An app is a model for {OPENAI}/chat/completions and {OPENAI}/responses."
    return f"'{path}' does not accept {request.method}." if status == 405 else None
