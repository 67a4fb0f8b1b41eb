"""Workflow files in requests, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from json import JSONDecodeError
from typing import Any, cast

from starlette.requests import Request

from headrace.api.http.errors import ProblemError, of_status
from headrace.content.python_json import load_json
from headrace.dsl.package import text_of
from headrace.errors import InvalidParam, Problem, RequestError

_JSON = "application/json"
_FILES = frozenset(
    {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "application/zip"}
)
EXPECTED = 'Send the workflow as application/yaml, or as application/json: {"content": "..."}.'


def refused(code: str, message: str, status: int, problems: Sequence[Problem]) -> RequestError:
    """An error with all problems; `message` has {} in place of the first fatal one."""
    fatal = [problem for problem in problems if problem.fatal]
    more = f" (and {len(fatal) - 1} more, see `details`)" if len(fatal) > 1 else ""
    return ProblemError(message.format(f"{fatal[0]}{more}"), code, status, problems)


def content_of(request: Request, body: bytes) -> str:
    """The workflow file in a body. RequestError for another kind of body, LoadError if it is not text."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared in _FILES or declared.endswith("+yaml"):
        return text_of(body, "content")
    if declared != _JSON and not declared.endswith("+json"):
        raise of_status(415, EXPECTED)
    try:
        parsed: Any = load_json(body)
    except JSONDecodeError:
        raise of_status(400) from None
    content = cast("dict[str, Any]", parsed).get("content") if isinstance(parsed, dict) else None
    if not isinstance(content, str):
        raise InvalidParam(f"content: Field required, text. {EXPECTED}")
    return content.removeprefix("\ufeff")


EXAMPLE = Problem("there is no `workflow` section")
CANNOT_LOAD = "The workflow cannot be loaded: {}"
INVALID = refused("invalid_workflow", CANNOT_LOAD, 400, [EXAMPLE])
