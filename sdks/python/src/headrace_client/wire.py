"""What goes over the wire and comes back, without the wire: bodies, errors, waits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any, TypeVar, cast
from uuid import UUID

import httpx
from pydantic import ValidationError as Mismatch
from pydantic_core import from_json

from headrace_client.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ConflictError,
    HeadraceError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RunFailedError,
    ServerError,
    UsageError,
    ValidationError,
)
from headrace_client.models import Answer, Payload, request_id

_A = TypeVar("_A", bound=Answer)

MARK = "headrace-api-version"
"""The header that every answer of Headrace's asynchronous API has."""

Cert = str | tuple[str, str] | tuple[str, str, str]

_BY_STATUS: Mapping[int, type[HeadraceError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitError,
}
_RUN_FAILED = "Run failed:"
_TOO_MANY = "Too many requests"
_SHOWN = 300  # characters of an answer that is no JSON


def _version() -> str:
    try:
        return version("headrace-client")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "0"


VERSION = _version()


def tls(verify: bool | str | PathLike[str] | SSLContext, cert: Cert | None) -> bool | SSLContext:
    """What httpx verifies servers with, and shows itself to them with. `verify`: a CA bundle (a file or a folder).
    UsageError where a file cannot be read."""
    try:
        return _tls(verify, cert)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"The CA bundle or the client certificate cannot be used: {error}") from error


def _tls(verify: bool | str | PathLike[str] | SSLContext, cert: Cert | None) -> bool | SSLContext:
    if isinstance(verify, SSLContext):
        context = verify
    elif isinstance(verify, bool):
        if cert is None:
            return verify
        context = httpx.create_ssl_context(verify=verify)
    else:
        path = Path(verify)
        if not path.exists():
            raise UsageError(f"There is no CA bundle at {path}")
        folder = path.is_dir()
        context = create_default_context(cafile=None if folder else str(path), capath=str(path) if folder else None)
    if isinstance(cert, str):
        context.load_cert_chain(cert)
    elif cert is not None:
        context.load_cert_chain(*cert)
    return context


def is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def is_json(response: httpx.Response) -> bool:
    declared = _declared(response)
    return declared == "application/json" or declared.endswith("+json")


def is_document(response: httpx.Response) -> bool:
    """Whether an answer is a page or JSON, such as a login page of a proxy: no stream of events for certain."""
    return is_json(response) or "html" in _declared(response)


def is_stream(response: httpx.Response) -> bool:
    return _declared(response) == "text/event-stream"


def is_parameters(response: httpx.Response) -> bool:
    """Whether Dify's API, or ours that is like it, has answered GET /v1/parameters: with them, or with a refusal."""
    try:
        told = from_json(response.content)
    except ValueError:
        return False
    if not isinstance(told, dict) or MARK in response.headers:
        return False
    answer = cast("dict[str, Any]", told)
    if response.is_success:
        return "user_input_form" in answer
    refused = response.status_code != 404 and answer.get("status") == response.status_code
    return refused and "code" in answer and "message" in answer


def is_silent(response: httpx.Response) -> bool:
    """Whether an answer says nothing of which server it is from: it is too busy, or broken."""
    return response.status_code == 429 or (response.status_code >= 500 and response.status_code != 501)


def _declared(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, from a number or a date; None where the server says nothing that can be understood."""
    told = response.headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        return max(0.0, float(told)) if told[0].isdigit() else _until(told)
    except ValueError:
        return None


def _until(date: str) -> float:
    return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())


def object_of(response: httpx.Response) -> Payload:
    """The answer's JSON object. ServerError where it is anything else."""
    try:
        told = from_json(response.content)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        said = _words(response)
        raise ServerError(
            f"{_asked(response)}: the answer is not a JSON object: {said}",
            status=response.status_code,
            request_id=request_id(response.headers),
            body=said,
        )
    return Payload(cast("dict[str, Any]", told), response)


def typed(kind: type[_A], told: Mapping[str, Any]) -> _A:
    """An answer as its type. ServerError where it is of another form."""
    try:
        return kind.received(told)
    except Mismatch as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        raise ServerError(f"The server's answer is not what was expected: {wrong}", body=dict(told)) from error


def error_of(response: httpx.Response, key: str = "") -> HeadraceError:
    """The error that an answer (its body read) tells of. `key` is never shown, whatever the server says."""
    status = response.status_code
    body: Any = None
    if response.content:
        try:
            body = from_json(response.content)
        except ValueError:
            body = None
    code = message = None
    if isinstance(body, dict):
        told = cast("dict[str, Any]", body)
        code = str(told["code"]) if told.get("code") else None
        message = _message(told)
    else:
        body = _words(response)
    if not message:
        message = f"{_asked(response)}: {_words(response) if not isinstance(body, dict) else response.reason_phrase}"
    if 300 <= status < 400:
        message = f"{_asked(response)}: the server redirects to {response.headers.get('location', 'nowhere')}"
    elif status < 300:
        message = f"{_asked(response)} with something that is no stream of events: {_words(response)}"
    if key:
        message = message.replace(key, "***")
    kind = _BY_STATUS.get(status) or (ServerError if status >= 500 or status < 400 else ValidationError)
    if status == 400 and message.startswith(_RUN_FAILED):
        kind = RunFailedError
    elif status == 400 and message.startswith(_TOO_MANY):
        kind = RateLimitError  # Dify tells of its limit of concurrent requests so
    error = kind(message, status=status, code=code, request_id=request_id(response.headers), body=body)
    if isinstance(error, RateLimitError):
        error.retry_after = retry_after(response)
    return error


def _message(told: Mapping[str, Any]) -> str | None:
    message = told.get("message", told.get("detail", told.get("error")))
    if isinstance(message, dict):  # {"error": {"message": ...}}, as some gateways have it
        message = cast("dict[str, Any]", message).get("message")
    return None if message is None else str(message)


def _asked(response: httpx.Response) -> str:
    request = response.request
    return f"{request.method} {request.url.path} answered {response.status_code}"


def _words(response: httpx.Response) -> str:
    """A body that is no JSON, as far as it can be told in a line."""
    if not response.content:
        return response.reason_phrase or "nothing"
    text = response.content[:20_000].decode("utf-8", "replace")
    if "<" in text and "html" in text[:1000].lower():
        title = text.lower().find("<title>")
        end = text.lower().find("</title>", title)
        if 0 <= title < end:
            return f"an HTML page, {text[title + 7 : end].strip()[:_SHOWN]!r}"
        return "an HTML page"
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."


def connection_error(error: httpx.RequestError, method: str, url: str) -> APIConnectionError:
    """What httpx says went wrong, in this tree."""
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError(f"{method} {url}: no answer in time ({type(error).__name__})")
    return APIConnectionError(f"{method} {url}: {said}")


def arrived(error: httpx.TransportError) -> bool:
    """Whether the request may have reached the server."""
    return not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))


def hopeless(error: httpx.TransportError) -> bool:
    """Whether it would go wrong again."""
    return isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError))


def seconds(number: float) -> str:
    """A time as it is said in a message: `1 second`, `2.5 seconds`."""
    return f"{number:g} second{'' if number == 1 else 's'}"
