"""Open calls of OpenAI's API, whose clients can stop a run only by disconnecting, and retry a request that takes too
long.

A run whose last client has disconnected is stopped. Where the client is known to retry, the run continues for some
seconds: the retry finds it, and is answered from it. OpenAI's clients send no Idempotency-Key, but count their attempts
in `x-stainless-retry-count`; a request with a key gets the run of that key, in any process.
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
from headrace.frozen import frozen
from headrace.kernel.events import RunId
from headrace.runs.service import RunService

logger = logging.getLogger(__name__)

KEEP = "headrace-keep-running"
"""The header of a request whose run continues when its client disconnects."""
ATTEMPT = "x-stainless-retry-count"
RETRY_SECONDS = 3.0  # OpenAI's clients retry after half a second, then after one, then after two
KEEP_SECONDS = 600.0  # for which a retry finds a run that continues without a client
_STOPPED = "stopped"


@dataclass(slots=True)
class _Call:
    """A run that clients with the same request wait for, or waited for some seconds ago."""

    run: RunId
    waiting: int = 0
    forgetting: asyncio.Task[None] | None = None


@frozen
class RetryTerms:
    """How a request is to be retried: `digest` is of what makes two requests the same; `attempt` is 0 for the first of
    a client that counts, None of one that does not; `key` is its Idempotency-Key."""

    digest: str
    attempt: int | None = None
    key: str | None = None
    keep: bool = False

    @classmethod
    def of(cls, request: Request, body: bytes) -> RetryTerms:
        """InvalidParam for a malformed Idempotency-Key."""
        hash_ = hashlib.sha256(request.headers.get("authorization", "").encode("utf-8", "surrogatepass") + b"\n")
        hash_.update(body)
        attempt = request.headers.get(ATTEMPT, "")
        number = int(attempt[:9]) if attempt.isascii() and attempt.isdigit() else None
        keep = request.headers.get(KEEP, "").strip().lower() in ("true", "1", "yes", "on")
        return cls(hash_.hexdigest(), number, key_of(request), keep)


@dataclass
class OpenCalls:
    """The open calls of this process, of all endpoints."""

    run_service: RunService
    _calls: dict[str, list[_Call]] = field(default_factory=dict[str, list[_Call]])

    async def run_of(self, app: str, terms: RetryTerms) -> tuple[RunId | None, bool]:
        """(the run that answers a request, whether it exists). None: the request needs a new run, of any id. A run that
        was stopped answers nothing: its key starts another."""
        if terms.key is not None:
            for number in range(1000):
                run = str(uuid5(UUID(app), f"openai {terms.key} {terms.digest} {number}"))
                summary = await self.run_service.runs.find_run(run)
                if summary is None or summary.status != _STOPPED:
                    return run, summary is not None
        if terms.attempt:
            calls = self._calls.get(terms.digest, [])
            for call in sorted(calls, key=lambda call: call.waiting):  # first one without clients
                summary = await self.run_service.runs.find_run(call.run)
                if summary is not None and summary.status != _STOPPED:
                    return call.run, True
        return None, False

    @asynccontextmanager
    async def waiting(
        self, run: RunId, terms: RetryTerms, is_done: Callable[[], bool], *, retried: bool
    ) -> AsyncGenerator[None]:
        """Counts one more client of a run, for the duration of the block. If the last one disconnects before the run is
        done, the run is stopped: at once, or some seconds later where the request may be `retried`; unless its terms
        let it continue."""
        calls = self._calls.setdefault(terms.digest, [])
        call = next((call for call in calls if call.run == run), None)
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
                if is_done():
                    self._forget(terms.digest, call)
                else:
                    pause = KEEP_SECONDS if terms.keep else RETRY_SECONDS if retried else 0
                    call.forgetting = asyncio.create_task(self._leave(call, terms, pause), name=f"left {run}")

    async def _leave(self, call: _Call, terms: RetryTerms, pause: float) -> None:
        """Stops a run that no client waits for any more."""
        await asyncio.sleep(pause)
        self._forget(terms.digest, call)
        if (
            terms.keep or self.run_service.draining
        ):  # a process that ends loses its clients: the run continues elsewhere
            return
        try:
            await self.run_service.stop(call.run, "client disconnected")
        except HeadraceError as error:
            logger.warning("run %s, whose client has disconnected, cannot be stopped: %s", call.run, error)

    def _forget(self, digest: str, call: _Call) -> None:
        calls = self._calls.get(digest, [])
        if call in calls:
            calls.remove(call)
        if not calls:
            self._calls.pop(digest, None)
