"""HTTP to the outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.frozen import frozen


@frozen
class Part:
    """One part of a multipart body."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None


@frozen
class HttpRequest:
    """Times in seconds, sizes in bytes. With `parts` the body is multipart, otherwise `content`."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    content: bytes | None = None
    parts: Sequence[Part] = ()
    connect_timeout: float = 10
    read_timeout: float = 60
    write_timeout: float = 20
    verify: bool = True
    max_size: int = 10 * 1024 * 1024
    follow_redirects: bool = True
    cut_off: bool = False  # only the status matters: a body that is too large, slow or broken is cut off, not an error


@frozen
class HttpResponse:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    url: str  # after redirects


class Http(Protocol):
    """HTTP to the outside, guarded: private, loopback and link-local addresses are refused, after name resolution and
    after every redirect, unless the egress setting allows them."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """NodeError with kind `HttpRequestNodeError` (could not connect, timed out), `ResponseSizeError` (larger than
        `max_size`) or `EgressRefused`."""
        ...
