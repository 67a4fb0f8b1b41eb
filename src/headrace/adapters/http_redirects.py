"""The requests of a chain of redirects."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from headrace.errors import NodeError
from headrace.frozen import frozen
from headrace.ports.services import HttpRequest, HttpResponse, Part

Origin: TypeAlias = tuple[str, str, int]
"""(scheme, host, port)"""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Framing is left to the client: a wrong length would make one request look like two.
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_BODY_HEADERS = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
# A workflow may send its key in any header: those that may have one are only sent to the first origin.
_SECRET = re.compile(r"auth|cookie|token|secret|session|signature|credential|passw|api-?_?key", re.IGNORECASE)


def failed(message: str, kind: str = "HttpRequestNodeError") -> NodeError:
    """The error of a failed request."""
    return NodeError(message, kind)


@frozen
class Hop:
    """One request of a chain of redirects, ready to be sent: headers and body are final."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes


def location_of(response: HttpResponse) -> str | None:
    """The location of a redirect as written; None for other responses."""
    if response.status not in REDIRECTS:
        return None
    return next((value for name, value in response.headers if name.lower() == "location" and value), None)


def first_hop(request: HttpRequest, user_agent: str) -> Hop:
    """The first request, with its body and default headers. NodeError for an invalid header."""
    for name, value in request.headers:
        if not _TOKEN.fullmatch(name):
            raise failed(f"Illegal header name {name!r}")
        if _CONTROL.search(value):
            raise failed(f"Illegal value of header {name!r}: it has control characters")
    headers = [(name, value) for name, value in request.headers if name.lower() not in _FRAMING]
    body = request.content or b""
    if request.parts:
        boundary = secrets.token_hex(16)
        body = multipart(request.parts, boundary)
        headers = [(name, value) for name, value in headers if name.lower() != "content-type"]
        headers.append(("Content-Type", f"multipart/form-data; boundary={boundary}"))
    names = {name.lower() for name, _ in headers}
    defaults = [("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"), ("User-Agent", user_agent)]
    headers = [*(header for header in defaults if header[0].lower() not in names), *headers]
    return Hop(request.method.upper(), request.url, headers, body)


def next_hop(hop: Hop, status: int, url: str, before: Origin, after: Origin) -> Hop:
    """The next request, by the rules of the Fetch standard."""
    headers = list(hop.headers)
    same_host_secured = before == ("http", after[1], 80) and after == ("https", before[1], 443)
    if before != after:
        headers = [
            (name, value)
            for name, value in headers
            if name.lower() != "host" and (same_host_secured or not _SECRET.search(name))
        ]
    to_get = (status == 303 and hop.method != "HEAD") or (status in (301, 302) and hop.method == "POST")
    if to_get and hop.method != "GET":
        headers = [(name, value) for name, value in headers if name.lower() not in _BODY_HEADERS]
        return Hop("GET", url, headers, b"")
    return replace(hop, url=url, headers=headers)


def multipart(parts: Sequence[Part], boundary: str) -> bytes:
    """The parts as a multipart/form-data body."""
    lines: list[bytes] = []
    for part in parts:
        disposition = f'form-data; name="{_quoted(part.name)}"'
        if part.filename is not None:
            disposition += f'; filename="{_quoted(part.filename)}"'
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n"
        if part.content_type:
            head += f"Content-Type: {_CONTROL.sub('', part.content_type)}\r\n"
        lines += [head.encode("utf-8", "replace"), b"\r\n", part.content, b"\r\n"]
    return b"".join([*lines, f"--{boundary}--\r\n".encode()])


def _quoted(name: str) -> str:
    """A name as HTML forms encode it: quotes and line ends percent-encoded."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").replace("\x00", "%00")
