"""Idempotency-Key: a repeated request gets the first response again, and nothing is created twice.

Three things work together. Within a process, requests with the same key wait for the first one's response. Between
processes, and for 24 hours, the store has which request was first, and its response. And what a request creates has an
id that is derived from the key's first use: if a process dies after it has created something and before the response
is stored, `handle` is called again with the same id, finds it, and responds with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid5

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.http.params import Parameter
from headrace.api.http.responses import EventStream
from headrace.apps.catalog import Release
from headrace.errors import InvalidParam, RequestError
from headrace.ports import IdempotencyRecord, IdempotencyStore

STORED_SECONDS = 24 * 3600.0  # for which a first response is repeated
WAIT_SECONDS = 30.0  # for which a repeated request waits for the first one's response
ABANDONED_SECONDS = 5.0  # after which the claim of another process is taken over: handling it again does no harm
_POLL_SECONDS = 0.1  # between reads of what another process has stored
_LONGEST_KEY = 255
_STREAM = b""  # is stored as the body of a stream

Handle = Callable[[str | None], Awaitable[Response]]


@dataclass(slots=True)
class _Pending:
    """A request that this process handles; `done` has None where the response is not stored. `digest` is the request's,
    None until this process has the claim."""

    digest: str | None
    done: asyncio.Future[IdempotencyRecord | None]


class Idempotency:
    """Repeats first responses. One for all endpoints. `clock` gives seconds since the epoch."""

    def __init__(self, store: IdempotencyStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._pending: dict[tuple[str, str], _Pending] = {}

    async def once(self, request: Request, release: Release, body: bytes, handle: Handle) -> Response:
        """The response of `handle`; for a repeated request its first one, with `Idempotency-Replayed: true`.

        `handle(id)` gets the id (a UUID) for what it creates, or None where the request has no Idempotency-Key. After a
        crash it is called again with the same id, and must find what has that id and respond with it. Responses with
        the status 2xx are stored. A stream is not: it is created again, from the existing run.

        Raises InvalidParam for a malformed key, 409 `idempotency_conflict` for one that was used with another request
        (method, path, query or body), 409 `idempotency_in_progress` if the first response takes longer than 30 s.
        """
        key = key_of(request)
        if key is None:
            return await handle(None)
        app = release.app.id
        digest = digest_of(request, body)
        until = time.monotonic() + WAIT_SECONDS
        while True:
            first = await self._first(app, key, digest, until)
            if isinstance(first, IdempotencyRecord):
                _check(first.digest, digest)
                if first.body == _STREAM:
                    return _replayed(await handle(_id(app, key, first.created_at)))
                return _replayed(Response(first.body, first.status or 200, media_type="application/json"))
            if first is not None:
                return await self._handle(app, key, *first, handle)

    async def _first(
        self, app: str, key: str, digest: str, until: float
    ) -> IdempotencyRecord | tuple[_Pending, float, bool] | None:
        """The stored response; or (the pending request, when the key was first used, whether that is now), if this
        caller has to handle the request; or None: try again."""
        pending = self._pending.get((app, key))
        if pending is not None:
            if pending.digest is not None:
                _check(pending.digest, digest)
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    return await asyncio.shield(pending.done)
            except TimeoutError:
                raise _in_progress() from None
        pending = self._pending[app, key] = _Pending(None, asyncio.get_running_loop().create_future())
        claimed = False
        try:
            now = self._clock()
            record = await self._store.claim(app, key, digest, now, now - STORED_SECONDS)
            if record is None:
                pending.digest, claimed = digest, True
                return pending, now, True
            if record.status is not None:
                return record
            _check(record.digest, digest)
            if now - record.created_at >= ABANDONED_SECONDS:
                # the same time as before, because the id is derived from it
                at = record.created_at
                existing = await self._store.claim(app, key, digest, at, math.nextafter(at, math.inf))
                if existing is None:
                    pending.digest, claimed = digest, True
                    return pending, at, False
        finally:
            if not claimed:
                self._done(app, key, pending, None)
        if time.monotonic() + _POLL_SECONDS > until:
            raise _in_progress()
        await asyncio.sleep(_POLL_SECONDS)
        return None

    async def _handle(self, app: str, key: str, pending: _Pending, since: float, new: bool, handle: Handle) -> Response:
        """Handles the request, and stores the response. A 4xx leaves the key as if it had not been used; after any
        other error something may have been created, so the claim stays, and the next request is handled with the same
        id."""
        record: IdempotencyRecord | None = None
        try:
            response = await handle(_id(app, key, since))
            if 200 <= response.status_code < 300:
                body = _STREAM if isinstance(response, EventStream) else bytes(response.body)
                try:
                    await self._store.complete(app, key, response.status_code, body)
                except BaseException:
                    if isinstance(response, EventStream):
                        await response.close()
                    raise
                record = IdempotencyRecord(app, key, pending.digest or "", since, response.status_code, body)
            elif response.status_code < 500:
                await self._store.release(app, key)
            return response if new else _replayed(response)
        except RequestError as error:
            if error.status < 500:
                await self._store.release(app, key)
            raise
        finally:
            self._done(app, key, pending, record)

    def _done(self, app: str, key: str, pending: _Pending, record: IdempotencyRecord | None) -> None:
        del self._pending[app, key]
        pending.done.set_result(record)


def key_of(request: Request) -> str | None:
    """The request's Idempotency-Key. InvalidParam if it is malformed."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip(" \t")
    if not 1 <= len(key) <= _LONGEST_KEY or not all("!" <= letter <= "~" for letter in key):
        raise _malformed()
    return key


def digest_of(request: Request, body: bytes) -> str:
    """Of what makes two requests the same: method, path (below whichever prefix), query and body."""
    path = request.url.path.removeprefix("/api").removeprefix("/v1")
    digest = hashlib.sha256(f"{request.method} {path}?{request.url.query}\n".encode("utf-8", "surrogatepass"))
    digest.update(body)
    return digest.hexdigest()


def _id(app: str, key: str, since: float) -> str:
    """The id of what a request with a key creates. It is another one if the key is used again after 24 hours."""
    return str(uuid5(UUID(app), f"{key} {since!r}"))


def _check(first: str, digest: str) -> None:
    if first != digest:
        raise _conflict()


_malformed = partial(InvalidParam, f"Idempotency-Key must be 1 to {_LONGEST_KEY} visible ASCII characters.")


def _conflict() -> RequestError:
    message = "This Idempotency-Key was used with another request. Use a new key for a new request."
    return RequestError(message, "idempotency_conflict", 409)


def _in_progress() -> RequestError:
    message = "The first request with this Idempotency-Key is still being handled. Try again later."
    return RequestError(message, "idempotency_in_progress", 409, {"Retry-After": "5"})


KEY_PARAMETER = Parameter(
    "header",
    "Idempotency-Key",
    "1 to 255 visible ASCII characters of your choice. The first response is kept for 24 hours and returned again to "
    "the same request, with `Idempotency-Replayed: true`.",
    {"type": "string", "minLength": 1, "maxLength": 255},
)
KEY_ERRORS = (_malformed(), _conflict(), _in_progress())
"""How a request with an Idempotency-Key can fail."""


def _replayed(response: Response) -> Response:
    response.headers["Idempotency-Replayed"] = "true"
    return response
