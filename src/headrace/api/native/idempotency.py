"""Idempotency-Key: a request that is sent again gets the first answer again, and makes nothing twice.

Three things work together. Within a process, callers of one key wait for the one that makes the answer. Between
processes, and for 24 hours, the store says who was first and what the answer was. And whatever is made under a key has
an id that follows from the key's first use, so that a process that dies between making and keeping has made nothing
that its successor makes again: `make` is called again with the same id, finds the thing, and answers from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid5

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.http.params import Parameter
from headrace.api.http.sse import EventStream
from headrace.apps.catalog import Served
from headrace.errors import InvalidParam, RequestError
from headrace.ports import IdempotencyRecord, IdempotencyStore

KEPT_SECONDS = 24 * 3600.0  # how long a first answer is given again
WAIT_SECONDS = 30.0  # how long a repeated request waits for the first one's answer
ABANDONED_SECONDS = 5.0  # after these a claim of another process is taken over: to make again does no harm
_LOOK_SECONDS = 0.1  # between looks at what another process does
_LONGEST_KEY = 255
_STREAM = b""  # what is kept of a stream: that there was one

Make = Callable[[str | None], Awaitable[Response]]


@dataclass(slots=True)
class _Making:
    """An answer that this process is making; `done` gives None where there is none to keep. `digest` is of the request
    that it is made for, None until it is known that it is for this process to make."""

    digest: str | None
    done: asyncio.Future[IdempotencyRecord | None]


class Idempotency:
    """Gives first answers again. One for all endpoints. `clock` gives seconds since the epoch."""

    def __init__(self, store: IdempotencyStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._making: dict[tuple[str, str], _Making] = {}

    async def once(self, request: Request, served: Served, body: bytes, make: Make) -> Response:
        """The answer that `make` makes; to a repeated request the one it made first, with `Idempotency-Replayed: true`.

        `make(id)` is given the id (a UUID) that the thing it creates is to have, or None where the request has no
        Idempotency-Key. Called again with the same id it must find that thing and answer alike: after a crash it is.
        Of its answers, those of status 2xx are kept. A stream is not: it is made again, from what is there already.

        Raises InvalidParam for a malformed key, 409 `idempotency_conflict` for one that came with another request
        (method, path, query or body), 409 `idempotency_in_progress` if the first answer takes longer than 30 s.
        """
        key = key_of(request)
        if key is None:
            return await make(None)
        app = served.app.id
        digest = digest_of(request, body)
        until = time.monotonic() + WAIT_SECONDS
        while True:
            kept = await self._first(app, key, digest, until)
            if isinstance(kept, IdempotencyRecord):
                _check(kept.digest, digest)
                if kept.body == _STREAM:
                    return _again(await make(_id(app, key, kept.created_at)))
                return _again(Response(kept.body, kept.status or 200, media_type="application/json"))
            if kept is not None:
                return await self._make(app, key, *kept, make)

    async def _first(
        self, app: str, key: str, digest: str, until: float
    ) -> IdempotencyRecord | tuple[_Making, float, bool] | None:
        """The answer that there is; or (the making, since when the key is in use, whether anew), if it is for this
        caller to make it; or None: look again."""
        making = self._making.get((app, key))
        if making is not None:
            if making.digest is not None:
                _check(making.digest, digest)
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    return await asyncio.shield(making.done)
            except TimeoutError:
                raise _in_progress() from None
        making = self._making[app, key] = _Making(None, asyncio.get_running_loop().create_future())
        mine = False
        try:
            now = self._clock()
            record = await self._store.claim(app, key, digest, now, now - KEPT_SECONDS)
            if record is None:
                making.digest, mine = digest, True
                return making, now, True
            if record.status is not None:
                return record
            _check(record.digest, digest)
            if now - record.created_at >= ABANDONED_SECONDS:
                # the same time as before, because the id follows from it
                at = record.created_at
                taken = await self._store.claim(app, key, digest, at, math.nextafter(at, math.inf))
                if taken is None:
                    making.digest, mine = digest, True
                    return making, at, False
        finally:
            if not mine:
                self._done(app, key, making, None)
        if time.monotonic() + _LOOK_SECONDS > until:
            raise _in_progress()
        await asyncio.sleep(_LOOK_SECONDS)
        return None

    async def _make(self, app: str, key: str, making: _Making, since: float, new: bool, make: Make) -> Response:
        """Makes the answer and keeps it. A refusal (4xx) leaves the key as if it had not been used; after anything
        worse something may have been made, so the claim stays, and whoever asks next makes it with the same id."""
        kept: IdempotencyRecord | None = None
        try:
            answer = await make(_id(app, key, since))
            if 200 <= answer.status_code < 300:
                body = _STREAM if isinstance(answer, EventStream) else bytes(answer.body)
                try:
                    await self._store.complete(app, key, answer.status_code, body)
                except BaseException:
                    if isinstance(answer, EventStream):
                        await answer.close()
                    raise
                kept = IdempotencyRecord(app, key, making.digest or "", since, answer.status_code, body)
            elif answer.status_code < 500:
                await self._store.release(app, key)
            return answer if new else _again(answer)
        except RequestError as error:
            if error.status < 500:
                await self._store.release(app, key)
            raise
        finally:
            self._done(app, key, making, kept)

    def _done(self, app: str, key: str, making: _Making, kept: IdempotencyRecord | None) -> None:
        del self._making[app, key]
        making.done.set_result(kept)


def key_of(request: Request) -> str | None:
    """The request's Idempotency-Key. InvalidParam where it is none."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    key = key.strip(" \t")
    if not 1 <= len(key) <= _LONGEST_KEY or not all("!" <= letter <= "~" for letter in key):
        raise _malformed()
    return key


def digest_of(request: Request, body: bytes) -> str:
    """What makes two requests the same: method, path (under whichever prefix), query and body."""
    path = request.url.path.removeprefix("/api").removeprefix("/v1")
    digest = hashlib.sha256(f"{request.method} {path}?{request.url.query}\n".encode("utf-8", "surrogatepass"))
    digest.update(body)
    return digest.hexdigest()


def _id(app: str, key: str, since: float) -> str:
    """The id of what is made under a key. Used again after 24 hours, it is another."""
    return str(uuid5(UUID(app), f"{key} {since!r}"))


def _check(first: str, digest: str) -> None:
    if first != digest:
        raise _conflict()


def _malformed() -> RequestError:
    return InvalidParam(f"Idempotency-Key must be 1 to {_LONGEST_KEY} visible ASCII characters.")


def _conflict() -> RequestError:
    message = "This Idempotency-Key came with another request before. Use a new key for a new request."
    return RequestError(message, "idempotency_conflict", 409)


def _in_progress() -> RequestError:
    message = "The first request with this Idempotency-Key is still being answered. Ask again later."
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


def _again(answer: Response) -> Response:
    answer.headers["Idempotency-Replayed"] = "true"
    return answer
