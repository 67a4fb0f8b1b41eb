"""Parses responses and maps errors. No network access here."""

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
from pydantic import ValidationError as PydanticError
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
from headrace_client.response_model import Payload, ResponseModel, request_id

_M = TypeVar("_M", bound=ResponseModel)

API_VERSION_HEADER = "headrace-api-version"
"""The header of every response of Headrace's asynchronous API."""

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
_MAX_SHOWN = 300  # characters of a response that is not JSON


def _version() -> str:
    try:
        return version("headrace-client")
    except PackageNotFoundError:  # the package is not installed
        return "0"


VERSION = _version()


def build_tls(verify: bool | str | PathLike[str] | SSLContext, cert: Cert | None) -> bool | SSLContext:
    """The `verify` argument of httpx. `verify`: a CA bundle (a file or a folder). UsageError if a file cannot be
    read."""
    try:
        return _build_tls(verify, cert)
    except OSError as error:  # includes ssl.SSLError
        raise UsageError(f"The CA bundle or the client certificate cannot be used: {error}") from error


def _build_tls(verify: bool | str | PathLike[str] | SSLContext, cert: Cert | None) -> bool | SSLContext:
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
    content_type = _content_type(response)
    return content_type == "application/json" or content_type.endswith("+json")


def is_document(response: httpx.Response) -> bool:
    """Whether a response is HTML or JSON, such as a proxy's login page: it is certainly not an event stream."""
    return is_json(response) or "html" in _content_type(response)


def is_stream(response: httpx.Response) -> bool:
    return _content_type(response) == "text/event-stream"


def is_parameters(response: httpx.Response) -> bool:
    """Whether a response to GET /v1/parameters is of Dify's API, or ours that is like it: parameters or an error."""
    try:
        body = from_json(response.content)
    except ValueError:
        return False
    if not isinstance(body, dict) or API_VERSION_HEADER in response.headers:
        return False
    fields = cast("dict[str, Any]", body)
    if response.is_success:
        return "user_input_form" in fields
    is_error = response.status_code != 404 and fields.get("status") == response.status_code
    return is_error and "code" in fields and "message" in fields


def is_inconclusive(response: httpx.Response) -> bool:
    """Whether a response does not show which server sent it: the server is overloaded, or broken."""
    return response.status_code == 429 or (response.status_code >= 500 and response.status_code != 501)


def _content_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def parse_retry_after(response: httpx.Response) -> float | None:
    """The seconds of Retry-After, which is a number or a date; None if it is missing or not valid."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value)) if value[0].isdigit() else _seconds_until(value)
    except ValueError:
        return None


def _seconds_until(date: str) -> float:
    return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())


def parse_object(response: httpx.Response) -> Payload:
    """The response's JSON object. ServerError if it is anything else."""
    body = _parse_json(response)
    if not isinstance(body, dict):
        raise _unexpected_body(response, "a JSON object")
    return Payload(cast("dict[str, Any]", body), response)


def parse_array(response: httpx.Response) -> Payload:
    """The response's JSON array, as the `data` of an object. ServerError if it is anything else."""
    body = _parse_json(response)
    if not isinstance(body, list):
        raise _unexpected_body(response, "a JSON array")
    return Payload({"data": cast("list[object]", body)}, response)


def _parse_json(response: httpx.Response) -> Any:
    """The body of a response; None if it is not JSON."""
    try:
        return from_json(response.content)
    except ValueError:
        return None


def _unexpected_body(response: httpx.Response, expected: str) -> ServerError:
    text = _describe_body(response)
    return ServerError(
        f"{_describe_exchange(response)}: the response is not {expected}: {text}",
        status=response.status_code,
        request_id=request_id(response.headers),
        body=text,
    )


def parse_model(kind: type[_M], payload: Mapping[str, Any]) -> _M:
    """A payload as a model. ServerError if it does not match."""
    try:
        return kind.from_payload(payload)
    except PydanticError as error:
        details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise ServerError(
            f"The server's response does not have the expected form: {details}", body=dict(payload)
        ) from error


def parse_error(response: httpx.Response, key: str = "") -> HeadraceError:
    """The error of a response whose body has been read. `key` is never shown, even if the server sends it."""
    status = response.status_code
    body: Any = None
    if response.content:
        try:
            body = from_json(response.content)
        except ValueError:
            body = None
    code = message = None
    if isinstance(body, dict):
        fields = cast("dict[str, Any]", body)
        code = str(fields["code"]) if fields.get("code") else None
        message = _parse_message(fields)
    else:
        body = _describe_body(response)
    exchange = _describe_exchange(response)
    if not message:
        message = f"{exchange}: {response.reason_phrase if isinstance(body, dict) else body}"
    if 300 <= status < 400:
        message = f"{exchange}: the server redirects to {response.headers.get('location', 'nowhere')}"
    elif status < 300:
        message = f"{exchange}, but the response is not an event stream: {_describe_body(response)}"
    if key:
        message = message.replace(key, "***")
    kind = _BY_STATUS.get(status) or (ServerError if status >= 500 or status < 400 else ValidationError)
    if status == 400 and message.startswith(_RUN_FAILED):
        kind = RunFailedError
    elif status == 400 and message.startswith(_TOO_MANY):
        kind = RateLimitError  # how Dify reports its limit of concurrent requests
    error = kind(message, status=status, code=code, request_id=request_id(response.headers), body=body)
    if isinstance(error, RateLimitError):
        error.retry_after = parse_retry_after(response)
    return error


def _parse_message(body: Mapping[str, Any]) -> str | None:
    message = body.get("message", body.get("detail", body.get("error")))
    if isinstance(message, dict):  # {"error": {"message": ...}}, as some gateways send it
        message = cast("dict[str, Any]", message).get("message")
    return None if message is None else str(message)


def _describe_exchange(response: httpx.Response) -> str:
    request = response.request
    return f"{request.method} {request.url.path} returned {response.status_code}"


def _describe_body(response: httpx.Response) -> str:
    """A body that is not JSON, shortened to one line."""
    if not response.content:
        return response.reason_phrase or "nothing"
    text = response.content[:20_000].decode("utf-8", "replace")
    if "<" in text and "html" in text[:1000].lower():
        title = text.lower().find("<title>")
        end = text.lower().find("</title>", title)
        if 0 <= title < end:
            return f"an HTML page, {text[title + 7 : end].strip()[:_MAX_SHOWN]!r}"
        return "an HTML page"
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."


def connection_error(error: httpx.RequestError, method: str, url: str) -> APIConnectionError:
    """An error of httpx as one of this package."""
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError(f"{method} {url}: no response in time ({type(error).__name__})")
    return APIConnectionError(f"{method} {url}: {str(error) or type(error).__name__}")


def may_have_arrived(error: httpx.TransportError) -> bool:
    """Whether the request may have reached the server."""
    return not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))


def is_permanent(error: httpx.TransportError) -> bool:
    """Whether a retry would fail in the same way."""
    return isinstance(error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError))


def format_seconds(number: float) -> str:
    """A duration for a message: `1 second`, `2.5 seconds`."""
    return f"{number:g} second{'' if number == 1 else 's'}"


def normalize_run(payload: Mapping[str, Any]) -> Payload:
    """A run of any server in one form: Dify's blocking response has its fields under `data`, where they also stay."""
    data: Any = payload.get("data")
    flat: dict[str, Any] = {**cast("dict[str, Any]", data), **payload} if isinstance(data, dict) else dict(payload)
    run_id = flat.get("workflow_run_id") or flat.get("id")
    response = payload.response if isinstance(payload, Payload) else None
    return Payload({**flat, "id": run_id, "workflow_run_id": run_id}, response)
