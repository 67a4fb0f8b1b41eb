"""HTTP to the outside: one pooled client, guarded by `egress`, that keeps to a request's limits.

The library underneath is loaded at the first request, so that a server without any starts faster.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urljoin

from headrace.adapters.egress import Egress, Resolve
from headrace.errors import NodeError
from headrace.resources import HttpRequest, HttpResponse, Part

if TYPE_CHECKING:
    from headrace.adapters.http_session import Session

Origin: TypeAlias = tuple[str, str, int]
"""(scheme, host, port)"""

MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
USER_AGENT = "Headrace/0.1"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Framing is the client's own business: a wrong length would make one request look like two.
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_BODY_HEADERS = frozenset({"content-type", "content-encoding", "content-language", "content-location"})
# A workflow may carry its key in any header: all that may be one stay with the origin they were meant for.
_SECRET = re.compile(r"auth|cookie|token|secret|session|signature|credential|passw|api-?_?key", re.IGNORECASE)


def failed(message: str, kind: str = "HttpRequestNodeError") -> NodeError:
    return NodeError(message, kind)


@dataclass(frozen=True, slots=True)
class Hop:
    """One request of a chain of redirects, ready to be sent: headers and body are final."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes


class HttpClient:
    """Implements `resources.Http`.

    `allow`: see `egress`. `resolve` stands in for the system's name resolution. `user_agent` is what requests say
    that do not say it themselves. Belongs to the event loop of its first request; `aclose` ends its connections.
    Settings for proxies in the environment are not heeded: a proxy would resolve names behind the guard's back.
    """

    def __init__(
        self, allow: Sequence[str] = (), *, resolve: Resolve | None = None, user_agent: str = USER_AGENT
    ) -> None:
        self._egress = Egress(allow, resolve)
        self._user_agent = user_agent
        self._session: Session | None = None

    async def send(self, request: HttpRequest) -> HttpResponse:
        """See `resources.Http`. Follows up to 10 redirects as browsers do; each is checked again, and loses what may
        be a credential when it leads to another origin."""
        hop = _first(request, self._user_agent)
        if self._session is None:
            from headrace.adapters.http_session import Session

            self._session = Session(self._egress)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._session.send(hop, request)
            location = _location(answer) if request.follow_redirects else None
            if location is None:
                return answer
            url = urljoin(answer.url, location)
            hop = _follow(hop, answer.status, url, self._session.origin(answer.url), self._session.origin(url))
        raise failed(f"More than {MAX_REDIRECTS} redirects, the last one to {hop.url}")

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()
        self._egress.close()


def _location(answer: HttpResponse) -> str | None:
    if answer.status not in REDIRECTS:
        return None
    return next((value for name, value in answer.headers if name.lower() == "location" and value), None)


def _first(request: HttpRequest, user_agent: str) -> Hop:
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
    given = {name.lower() for name, _ in headers}
    defaults = [("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"), ("User-Agent", user_agent)]
    headers = [*(each for each in defaults if each[0].lower() not in given), *headers]
    return Hop(request.method.upper(), request.url, headers, body)


def _follow(hop: Hop, status: int, url: str, before: Origin, after: Origin) -> Hop:
    """The next request, by the rules of the Fetch standard that every client follows."""
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
    """As HTML forms write names: quotes and line ends percent-encoded."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A").replace("\x00", "%00")
