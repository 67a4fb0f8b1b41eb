"""Errors of providers: Dify's name for them, the message to show, and whether to retry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any, cast

from headrace.content.python_json import load_json
from headrace.errors import NodeError

CONNECTION = "InvokeConnectionError"
UNAVAILABLE = "InvokeServerUnavailableError"
RATE_LIMIT = "InvokeRateLimitError"
AUTHORIZATION = "InvokeAuthorizationError"
BAD_REQUEST = "InvokeBadRequestError"

_SHOWN = 2000  # characters of a provider's message


class Failure(Exception):
    """A call failed. `retry`: another attempt may succeed, after `wait` seconds if the provider says so; `status`: the
    HTTP status, 0 without a response."""

    def __init__(
        self, message: str, kind: str, *, retry: bool = False, wait: float | None = None, status: int = 0
    ) -> None:
        self.message = message
        self.kind = kind
        self.retry = retry
        self.wait = wait
        self.status = status
        super().__init__(message)

    def node_error(self, secrets: Iterable[str]) -> NodeError:
        """The error to show, without the secrets, even if the provider repeats one."""
        return NodeError(scrub(self.message, secrets)[:_SHOWN], self.kind)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def refused(who: str, url: str, status: int, reason: str, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure of a response with a status other than 200. `who` names the provider."""
    location = headers.get("Location")
    if 300 <= status < 400 and location:
        return Failure(f"{who} redirects to {location}: set its base URL to that.", BAD_REQUEST, status=status)
    payload = _decoded(body)
    message = message_of(payload) or _plain(body)
    if status in (404, 405) and not (isinstance(payload, dict) and payload.keys() & {"error", "message"}):
        # not an error of the protocol, nor of Dify's
        problem = f"{who} answered {status} at {url}: check its base URL."
        return Failure(f"{problem} {message}".rstrip(), BAD_REQUEST, status=status)
    # Google's answer to a key that does not exist is a 400
    kind = AUTHORIZATION if status == 400 and b'"API_KEY_INVALID"' in body else kind_of(status)
    # a used-up quota does not recover within seconds
    spent = _code_of(payload) in ("insufficient_quota", "billing_hard_limit_reached")
    retry = (kind in (RATE_LIMIT, UNAVAILABLE)) and status != 501 and not spent
    return Failure(
        message or f"{who} answered {status} {reason}".rstrip() + ".",
        kind,
        retry=retry,
        wait=_wait(headers, body),
        status=status,
    )


def kind_of(status: int) -> str:
    """Dify's name for the error of an HTTP status."""
    if status in (401, 403):
        return AUTHORIZATION
    if status == 429:
        return RATE_LIMIT
    return UNAVAILABLE if status >= 500 or status == 408 else BAD_REQUEST


def in_stream(payload: Mapping[str, Any]) -> Failure | None:
    """The failure in an event of a stream, if there is one. Providers send an error object in place of the next piece
    of the answer."""
    is_error = payload.get("object") == "error" or (payload.get("code") and "choices" not in payload)
    if not (payload.get("error") or is_error or _refused_by_minimax(payload)):
        return None
    code = _code_of(payload)
    if code.isdigit() and 400 <= int(code) < 600:
        kind = kind_of(int(code))
    else:
        kind = next((kind for pattern, kind in _CODES if pattern.search(code)), UNAVAILABLE)
    message = message_of(payload) or "The provider broke off its answer with an error."
    return Failure(message, kind, retry=kind in (RATE_LIMIT, UNAVAILABLE))


def _refused_by_minimax(payload: Mapping[str, Any]) -> bool:
    """MiniMax responds 200 with `base_resp`, and a status other than 0."""
    base = payload.get("base_resp")
    return isinstance(base, dict) and bool(cast("dict[str, Any]", base).get("status_code"))


_CODES = (
    (re.compile(r"rate.?limit|quota|too_many|throttl", re.IGNORECASE), RATE_LIMIT),
    (re.compile(r"auth|permission|api.?key|forbidden", re.IGNORECASE), AUTHORIZATION),
    (re.compile(r"invalid|bad.?request|not.?found|context_length|content_filter", re.IGNORECASE), BAD_REQUEST),
)


def message_of(payload: Any) -> str:
    """The message in an error body, in any of the forms that providers use; "" if there is none."""
    if isinstance(payload, list) and payload:  # Gemini wraps the object in a list, FastAPI lists all errors
        return "; ".join(filter(None, map(message_of, cast("list[Any]", payload))))
    if isinstance(payload, str):
        return payload.strip()
    if not isinstance(payload, dict):
        return ""
    fields = cast("dict[str, Any]", payload)
    for name in ("error", "message", "detail", "msg", "error_msg", "errors", "base_resp", "status_msg", "Message"):
        if message := message_of(fields.get(name)):
            return message
    return ""


def _code_of(payload: Any) -> str:
    """The code in an error body, else the type."""
    if isinstance(payload, list) and payload:
        return _code_of(cast("list[Any]", payload)[0])
    if not isinstance(payload, dict):
        return ""
    fields = cast("dict[str, Any]", payload)
    error = fields.get("error")
    inner = cast("dict[str, Any]", error) if isinstance(error, dict) else fields
    return next((str(value) for value in (inner.get("code"), inner.get("type"), inner.get("status")) if value), "")


def _decoded(body: bytes) -> Any:
    try:
        return load_json(body)
    except JSONDecodeError:
        return None


def _plain(body: bytes) -> str:
    """A body that is not JSON, unless it is an HTML page."""
    text = body.decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else text[:500]


def _wait(headers: Mapping[str, str], body: bytes) -> float | None:
    """Seconds that the provider asks to wait, in a header or, as Google's do, in the error."""
    delay = _RETRY_DELAY.search(body)
    return float(delay[1]) if delay else retry_after(headers)


_RETRY_DELAY = re.compile(rb'"retryDelay":\s*"(\d{1,9}(?:\.\d{1,9})?)s"')


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait (RFC 9110, 10.2.3: a number or a date; OpenAI also sends milliseconds)."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("Retry-After", "")
        if not value:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        until = parsedate_to_datetime(value)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None
