"""Callers of OpenAI's API, who have no other way to stop a run than to leave, and send a request again when it takes
them too long.

A run whose last caller has left is stopped. Where the client is known to send the request again, the run is given some
seconds: the request that comes again finds it, and is answered from it. OpenAI's clients send no Idempotency-Key, but
count their attempts in `x-stainless-retry-count`; whoever does send a key gets the run of that key, in any process.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from starlette.requests import Request

from headrace.api.native.idempotency import key_of
from headrace.errors import HeadraceError
from headrace.kernel.events import RunId
from headrace.runs.service import RunService

logger = logging.getLogger(__name__)

KEEP = "headrace-keep-running"
"""The header of a request whose run goes on when its caller leaves."""
ATTEMPT = "x-stainless-retry-count"
AGAIN_SECONDS = 3.0  # within which OpenAI's clients send a request again: they wait half a second, then one, then two
KEPT_SECONDS = 600.0  # how long a run that goes on without a caller is found by a request that comes again
_STOPPED = "stopped"


@dataclass(slots=True)
class _Call:
    """A run that callers of one and the same request wait for, or waited for some seconds ago."""

    run: RunId
    waiting: int = 0
    forgetting: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request wants to be treated: `digest` is of what makes two requests the same; `attempt` is 0 for the first
    of a client that counts, None of one that does not; `key` is its Idempotency-Key."""

    digest: str
    attempt: int | None = None
    key: str | None = None
    keep: bool = False

    @classmethod
    def of(cls, request: Request, body: bytes) -> Terms:
        """InvalidParam for a malformed Idempotency-Key."""
        made = hashlib.sha256(request.headers.get("authorization", "").encode("utf-8", "surrogatepass") + b"\n")
        made.update(body)
        attempt = request.headers.get(ATTEMPT, "")
        counted = int(attempt[:9]) if attempt.isascii() and attempt.isdigit() else None
        keep = request.headers.get(KEEP, "").strip().lower() in ("true", "1", "yes", "on")
        return cls(made.hexdigest(), counted, key_of(request), keep)


@dataclass
class Calls:
    """The calls of this process. One for all endpoints."""

    run_service: RunService
    _calls: dict[str, list[_Call]] = field(default_factory=dict[str, list[_Call]])

    async def run_of(self, app: str, terms: Terms) -> tuple[RunId | None, bool]:
        """(the run that answers a request, whether there is one already). None: the request wants a new one, of any
        id. A run that was stopped answers nothing: its key begins another."""
        if terms.key is not None:
            for number in range(1000):
                run = str(uuid5(UUID(app), f"openai {terms.key} {terms.digest} {number}"))
                known = await self.run_service.runs.find_run(run)
                if known is None or known.status != _STOPPED:
                    return run, known is not None
        if terms.attempt:
            calls = self._calls.get(terms.digest, [])
            for call in sorted(calls, key=lambda each: each.waiting):  # first one that nobody waits for any more
                known = await self.run_service.runs.find_run(call.run)
                if known is not None and known.status != _STOPPED:
                    return call.run, True
        return None, False

    @asynccontextmanager
    async def waiting(self, run: RunId, terms: Terms, over: Callable[[], bool], *, again: bool) -> AsyncGenerator[None]:
        """Counts one more caller of a run, as long as the block lasts. Where the last leaves before it is `over`, the
        run is stopped: at once, or where the request may come `again`, some seconds later; unless it is to go on."""
        calls = self._calls.setdefault(terms.digest, [])
        call = next((each for each in calls if each.run == run), None)
        if call is None:
            call = _Call(run)
            calls.append(call)
        if call.forgetting is not None:
            call.forgetting.cancel()
            call.forgetting = None
        call.waiting += 1
        try:
            yield
        finally:
            call.waiting -= 1
            if call.waiting == 0:
                if over():
                    self._forget(terms.digest, call)
                else:
                    pause = KEPT_SECONDS if terms.keep else AGAIN_SECONDS if again else 0
                    call.forgetting = asyncio.create_task(self._leave(call, terms, pause), name=f"left {run}")

    async def _leave(self, call: _Call, terms: Terms, pause: float) -> None:
        """What becomes of a run that nobody waits for any more."""
        await asyncio.sleep(pause)
        self._forget(terms.digest, call)
        if terms.keep or self.run_service.draining:  # a process that ends loses its callers: the run goes on elsewhere
            return
        try:
            await self.run_service.stop(call.run, "caller left")
        except HeadraceError as error:
            logger.warning("run %s, whose caller has left, cannot be stopped: %s", call.run, error)

    def _forget(self, digest: str, call: _Call) -> None:
        calls = self._calls.get(digest, [])
        if call in calls:
            calls.remove(call)
        if not calls:
            self._calls.pop(digest, None)
