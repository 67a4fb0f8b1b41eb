"""HTTP to the outside: a pooled client, guarded by `egress`, that enforces a request's limits.

Its library is loaded by the first request, so that a server starts faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from headrace.adapters.egress import Egress, Resolve
from headrace.adapters.http_redirects import failed, first_hop, location_of, next_hop
from headrace.ports.services import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from headrace.adapters.http_session import Session

MAX_REDIRECTS = 10
USER_AGENT = "Headrace/0.1"


class HttpClient:
    """Implements `ports.services.Http`.

    `allow`: see `egress`. `resolve` replaces the system's name resolution. `user_agent` is the default for requests
    without that header. It belongs to the event loop of its first request; `aclose` closes its connections. Proxy
    settings in the environment are ignored, because a proxy would resolve names without the guard.
    """

    def __init__(
        self, allow: Sequence[str] = (), *, resolve: Resolve | None = None, user_agent: str = USER_AGENT
    ) -> None:
        self._egress = Egress(allow, resolve)
        self._user_agent = user_agent
        self._session: Session | None = None

    async def send(self, request: HttpRequest) -> HttpResponse:
        """See `Http.send`. Follows up to 10 redirects as browsers do; each is checked again, and headers that may have
        credentials are not sent to another origin."""
        hop = first_hop(request, self._user_agent)
        if self._session is None:
            from headrace.adapters.http_session import Session

            self._session = Session(self._egress)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._session.send(hop, request)
            location = location_of(response) if request.follow_redirects else None
            if location is None:
                return response
            try:
                url = urljoin(response.url, location)
            except ValueError as error:
                raise failed(f"Redirected to an invalid URL {location[:200]!r}: {error}", "InvalidURLError") from None
            hop = next_hop(hop, response.status, url, self._session.origin(response.url), self._session.origin(url))
        raise failed(f"More than {MAX_REDIRECTS} redirects, the last one to {hop.url}")

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()
        self._egress.close()
