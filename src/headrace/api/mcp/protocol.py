"""Messages of the Model Context Protocol over HTTP: what a client sends, checked, and what it receives.

Two generations of the protocol are spoken. Since 2026-07-28 there are no sessions: a request says in its `_meta` which
version it is of, and repeats in its headers what proxies look at. Before that a client began with `initialize`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from headrace import __version__
from headrace.api.http.responses import encode
from headrace.errors import RequestError
from headrace.frozen import frozen
from headrace.values import Value

STATELESS = ("2026-07-28",)
WITH_SESSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
VERSIONS = STATELESS + WITH_SESSIONS
UNDECLARED = "2025-03-26"  # the version of requests without the header, which later versions demand

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

SERVER: Mapping[str, Value] = {"name": "headrace", "title": "Headrace", "version": __version__}
_PREFIX = "io.modelcontextprotocol/"
_VERSION, _CAPABILITIES, _SERVER = (
    f"{_PREFIX}{name}" for name in ("protocolVersion", "clientCapabilities", "serverInfo")
)
_ENCODED_START, _ENCODED_END = "=?base64?", "?="
_TOOLS_CHANGE_MS = 60_000  # how long a client may take a list of tools for current

RequestId: TypeAlias = str | int


class ProtocolError(RequestError):
    """An error that MCP has a number for. `status` is that of the HTTP response: 200 where the client is told in the
    message alone."""

    def __init__(self, number: int, message: str, status: int = 200, data: Mapping[str, Value] | None = None) -> None:
        super().__init__(message, "protocol_error", status)
        self.number = number
        self.data = data


@frozen
class Message:
    """What a client sends: a request, or a notification, which has no id. A response, to which nothing here leads, is a
    notification without a method."""

    method: str
    params: Mapping[str, Value]
    id: RequestId | None
    version: str

    @property
    def is_stateless(self) -> bool:
        return self.version in STATELESS

    @property
    def progress_token(self) -> RequestId | None:
        """What the client names the request's progress by; None if it wants to hear of none."""
        token = _object(self.params.get("_meta")).get("progressToken")
        return token if _is_id(token) else None


def read(body: Mapping[str, Value], headers: Mapping[str, str]) -> Message:
    """A client's message. ProtocolError where it is malformed, or of a version that is not spoken here."""
    if body.get("jsonrpc") != "2.0":
        raise ProtocolError(INVALID_REQUEST, 'A message must have "jsonrpc": "2.0".', 400)
    method, params = body.get("method", ""), body.get("params", {})
    if not isinstance(method, str) or not (method or "result" in body or "error" in body):
        raise ProtocolError(INVALID_REQUEST, "A message must have a method, which is a string.", 400)
    if "id" in body and not _is_id(body["id"]):
        raise ProtocolError(INVALID_REQUEST, "A request's id must be a string or an integer.", 400)
    if not isinstance(params, dict):
        raise ProtocolError(INVALID_PARAMS, "A message's params must be an object.", 400)
    params = cast("dict[str, Value]", params)
    id_ = request_id(body) if method else None
    return Message(method, params, id_, _version(method, params, headers, is_request=id_ is not None))


def request_id(body: Mapping[str, Value]) -> RequestId | None:
    """The id of a request, if it has a valid one."""
    id_ = body.get("id")
    return id_ if _is_id(id_) else None


def _version(method: str, params: Mapping[str, Value], headers: Mapping[str, str], *, is_request: bool) -> str:
    meta = _object(params.get("_meta"))
    version_of_message, header = meta.get(_VERSION), headers.get("mcp-protocol-version")
    if version_of_message is None:
        if method == "initialize":  # the version is about to be agreed on
            return WITH_SESSIONS[0]
        if header in STATELESS and is_request:
            raise ProtocolError(INVALID_PARAMS, f"The request's _meta must have '{_VERSION}'.", 400)
        return spoken(header)
    if header != version_of_message:
        raise _mismatch("MCP-Protocol-Version", header, version_of_message)
    version = spoken(version_of_message)
    if version in STATELESS and is_request:
        if not isinstance(meta.get(_CAPABILITIES), dict):
            raise ProtocolError(INVALID_PARAMS, f"The request's _meta must have '{_CAPABILITIES}', an object.", 400)
        if headers.get("mcp-method") != method:
            raise _mismatch("Mcp-Method", headers.get("mcp-method"), method)
        if method == "tools/call" and (name := _decoded(headers.get("mcp-name"))) != params.get("name"):
            raise _mismatch("Mcp-Name", name, params.get("name"))
    return version


def spoken(version: Value) -> str:
    """The version that a request declares, or that of requests which declare none. ProtocolError for one that is not
    spoken here."""
    if version is None:
        return UNDECLARED
    if version not in VERSIONS:
        data = {"supported": list(VERSIONS), "requested": version}
        raise ProtocolError(UNSUPPORTED_VERSION, "Unsupported protocol version", 400, data)
    return cast("str", version)


def _mismatch(header: str, value: str | None, expected: Value) -> ProtocolError:
    problem = "is missing" if value is None else f"is {value[:100]!r}"
    message = f"Header mismatch: {header} {problem}, but the request's body has {str(expected)[:100]!r}."
    return ProtocolError(HEADER_MISMATCH, message, 400)


def _decoded(value: str | None) -> str | None:
    """A header whose text may be encoded, since headers are ASCII."""
    if value is None or not (value.startswith(_ENCODED_START) and value.endswith(_ENCODED_END)):
        return value
    try:
        return base64.b64decode(value[len(_ENCODED_START) : -len(_ENCODED_END)], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ProtocolError(HEADER_MISMATCH, "Header mismatch: Mcp-Name is not valid base64.", 400) from None


def result(message: Message, body: Mapping[str, Value], *, cacheable: bool = False) -> bytes:
    """The response to a request."""
    if message.is_stateless:
        meta = {**_object(body.get("_meta")), _SERVER: SERVER}
        body = {"resultType": "complete", **body, "_meta": meta}
        if cacheable:
            body = {**body, "ttlMs": _TOOLS_CHANGE_MS, "cacheScope": "private"}
    return encode({"jsonrpc": "2.0", "id": message.id, "result": body})


def notification(method: str, params: Mapping[str, Value]) -> bytes:
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def failure(error: RequestError, id_: RequestId | None) -> bytes:
    """The response to a request that fails. An error that MCP has no number for has its code and status beside."""
    if isinstance(error, ProtocolError):
        number, data = error.number, error.data
    else:
        number = INVALID_REQUEST if error.status < 500 else INTERNAL_ERROR
        data = {"code": error.code, "status": error.status}
    detail: dict[str, Value] = {"code": number, "message": error.message}
    if data is not None:
        detail["data"] = data
    return encode({"jsonrpc": "2.0", "id": id_, "error": detail})


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _object(value: Value) -> Mapping[str, Value]:
    return cast("dict[str, Value]", value) if isinstance(value, dict) else {}
