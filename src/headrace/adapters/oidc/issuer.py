"""The keys of an OpenID Connect issuer, fetched over HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode, urlsplit

import orjson

from headrace.adapters.models.failures import Failure
from headrace.adapters.models.lazy_transport import LazyTransport
from headrace.adapters.oidc.keys import Key, Keys, keys_of
from headrace.adapters.oidc.token import brief
from headrace.adapters.urls import is_loopback
from headrace.errors import HeadraceError, RequestError

logger = logging.getLogger(__name__)

LONGEST, SHORTEST = 3600.0, 60.0  # bounds of the time for which a response is fresh, in seconds
USUAL = 600.0  # the same, without Cache-Control
GRACE = 3600.0  # seconds for which known keys stay valid if the issuer does not respond
ASKED_AGAIN = 10.0  # seconds between two requests for unknown keys
_SLOWEST = 10.0  # seconds between two attempts while the issuer does not respond; the first ones are sooner
_LARGEST = 256 * 1024  # bytes of a response
_SHOWN = 300  # characters of an error
_CONNECT, _SECONDS = 3.0, 8.0
_WHO = "the OpenID Connect issuer"
_DISCOVERY = "/.well-known/openid-configuration"


class Unreachable(RequestError):
    """503: the issuer does not respond, so a token cannot be verified."""

    def __init__(self) -> None:
        message = "The identity provider cannot be reached. Please try again."
        super().__init__(message, "service_unavailable", 503, {"Retry-After": "5"})


class Endpoints(NamedTuple):
    """Where browsers and clients sign in. `takes_basic`: a client may send its secret by HTTP's basic scheme."""

    authorization: str
    token: str
    takes_basic: bool


class Issuer:
    """The issuer's keys. They are fetched when needed, again once they are no longer fresh, and when a token needs an
    unknown one. `keys` is a new object whenever they have changed.

    `algorithms` are those of the keys to use; `clock` is monotonic, in seconds; `environ` has the proxies.
    HeadraceError if the URL is invalid.
    """

    def __init__(
        self,
        url: str,
        algorithms: Collection[str],
        *,
        allow_http: bool = False,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._allow_http = allow_http
        self._clock = clock
        if problem := self._problem(url):
            raise HeadraceError(f"HEADRACE_OIDC_ISSUER: {problem}.")
        self.keys = Keys()
        self._about: Mapping[str, Any] = {}
        self._place = ""  # of the keys
        self._place_fresh = self._fresh = self._usable = self._last_attempt_at = self._last_request_at = float("-inf")
        self._failures = 0
        self._fetching: asyncio.Task[None] | None = None
        self._transport = LazyTransport(environ, _CONNECT, _SECONDS)

    async def freshen(self) -> None:
        """Fetches `keys` if they are not fresh. Unreachable if there are none."""
        now = self._clock()
        if now < self._fresh:
            return
        wait = min(_SLOWEST, 2.0 ** (self._failures - 1)) if self._failures else 0.0
        if self._fetching or now >= self._last_attempt_at + wait:
            fetching = self._fetch()
            if not self._failures or now >= self._usable:
                # after a failure, callers with a valid token do not wait while it is tried again
                await asyncio.shield(fetching)
        if self._clock() >= self._usable:
            self.keys = Keys()
            raise Unreachable

    async def has(self, kid: str | None, alg: str, verifies: Callable[[Key], bool]) -> bool:
        """Whether one of the keys that match a token's header verifies it. Unreachable if the issuer does not
        respond."""
        await self.freshen()
        candidates = self.keys.matching(kid, alg)
        if any(map(verifies, candidates)):
            return True
        if candidates and kid is not None:
            return False
        # a new key, or an invented one: requests for it are limited
        now = self._clock()
        if self._fetching is None and now < self._last_request_at + ASKED_AGAIN:
            verified = False
        else:
            self._last_request_at = self._last_request_at if self._fetching else now
            await asyncio.shield(self._fetch())
            verified = any(map(verifies, self.keys.matching(kid, alg)))
        if not verified and self._failures:
            raise Unreachable
        return verified

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._fetching:
            self._fetching.cancel()
            await asyncio.wait((self._fetching,))
        await self._transport.aclose()

    # ---------------------------------------------------------------------------------------------------- fetching

    def _fetch(self) -> asyncio.Task[None]:
        """The task that fetches the keys, started if there is none. It does not raise."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._update(), name="keys of the issuer")
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _update(self) -> None:
        self._last_attempt_at = self._clock()
        try:
            async with asyncio.timeout(_SECONDS):
                keys, seconds = await self._get_keys()
        except (HeadraceError, Failure, TimeoutError) as error:
            self._failures += 1
            self._place_fresh = float("-inf")  # they may have moved
            reason = str(error) or f"no response within {_SECONDS:g} seconds"
            logger.warning("the keys of %s cannot be fetched: %s", self._url, reason[:_SHOWN])
            return
        if keys.digest != self.keys.digest:
            key_ids = ", ".join(sorted({str(key.kid) for key in keys.keys}))
            logger.info("the keys of %s are: %s", self._url, brief(key_ids))
            self.keys = keys
        self._failures = 0
        self._fresh = self._clock() + seconds
        self._usable = self._fresh + GRACE

    async def _get_keys(self) -> tuple[Keys, float]:
        """(the keys, for how many seconds they are fresh)."""
        await self._discover()
        keys, seconds = await self._get(self._place)
        return keys_of(keys, self._algorithms), seconds

    async def _discover(self) -> None:
        """Fetches what the issuer publishes about itself, if that is not fresh."""
        if self._clock() < self._place_fresh:
            return
        about, seconds = await self._get(self._url.rstrip("/") + _DISCOVERY)
        if about.get("issuer") != self._url:
            raise HeadraceError(f"its name is {brief(about.get('issuer'))}: the setting must be exactly that")
        place = about.get("jwks_uri")
        if not isinstance(place, str):
            raise HeadraceError("it has no URL of keys (jwks_uri)")
        if problem := self._problem(place, query=True):
            raise HeadraceError(f"its jwks_uri {problem}")
        self._about, self._place, self._place_fresh = about, place, self._clock() + seconds

    async def endpoints(self) -> Endpoints:
        """Where people sign in. Unreachable if the issuer does not respond, or does not say."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._discover()
            urls = [self._about.get(f"{name}_endpoint") for name in ("authorization", "token")]
            for url in urls:
                if problem := self._problem(str(url), query=True):
                    raise HeadraceError(f"its endpoint {brief(url)} {problem}")
        except (HeadraceError, Failure, TimeoutError) as error:
            reason = str(error) or f"no response within {_SECONDS:g} seconds"
            logger.warning("nobody can sign in at %s: %s", self._url, reason[:_SHOWN])
            raise Unreachable from None
        methods = self._about.get("token_endpoint_auth_methods_supported")
        authorization, token = map(str, urls)
        return Endpoints(authorization, token, not isinstance(methods, list) or "client_secret_basic" in methods)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, Any]:
        """The JSON object of the response to a form. Failure or HeadraceError if there is none."""
        form_headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **headers}
        body = urlencode(form).encode()
        raw, _ = await self._transport.open().whole("POST", _WHO, url, form_headers, body, max_size=_LARGEST)
        return _object(raw, url)

    async def _get(self, url: str) -> tuple[dict[str, Any], float]:
        """(the JSON object of the response, for how many seconds it is fresh)."""
        async with self._transport.open().get(_WHO, url, {"Accept": "application/json"}) as stream:
            raw, _ = await stream.whole(_LARGEST)
            seconds = fresh_seconds(stream.headers.get("Cache-Control", ""))
        return _object(raw, url), seconds

    def _problem(self, url: str, *, query: bool = False) -> str:
        """The problem of a URL; "" if it is valid."""
        try:
            parts = urlsplit(url)
            host = parts.hostname if parts.port != 0 else None
        except ValueError:
            host, parts = None, urlsplit("")
        odd = parts.fragment or parts.username is not None or (parts.query and not query)
        if parts.scheme not in ("http", "https") or not host or odd or not url.isprintable() or " " in url:
            return "must be a URL such as https://id.example.com/realms/main"
        if parts.scheme == "http" and not (self._allow_http or is_loopback(host)):
            return "must begin with https:// (or set HEADRACE_OIDC_ALLOW_HTTP if the network is trusted)"
        return ""


def _object(raw: bytes, url: str) -> dict[str, Any]:
    try:
        document: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise HeadraceError(f"{url} is not a JSON object")
    return cast("dict[str, Any]", document)


def fresh_seconds(cache_control: str) -> float:
    """For how long a response is fresh, by its Cache-Control."""
    header = cache_control.lower()
    if re.search(r"\bno-(store|cache)\b", header):
        return SHORTEST
    match = re.search(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,10})", header)
    return min(max(float(match[1]), SHORTEST), LONGEST) if match else USUAL
