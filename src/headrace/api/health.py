"""Whether the process is alive, and ready for requests."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from headrace.api.auth import Api
from headrace.api.http.responses import encode
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.errors import StoreError

logger = logging.getLogger(__name__)

_READY_SECONDS = 2.0  # within which the journal has to respond
_PROBE_SECONDS = 0.5  # for which a result is reused, so that frequent requests do not cause frequent writes


class Health(TypedDict):
    status: Literal["ok", "ready"]


class NotReady(TypedDict):
    """Why the process is not ready."""

    code: str
    message: str
    status: Literal["not ready"]


_NOT_READY: NotReady = {
    "code": "service_unavailable",
    "message": "The journal cannot be read or written: database or disk is full",
    "status": "not ready",
}


class HealthRoutes(Routes):
    """`/healthz` and `/readyz`, for process managers and load balancers."""

    tag = "Health"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._probing: asyncio.Task[str | None] | None = None  # shared by the requests of a moment
        self._probed_at = 0.0

    @Operation("GET", "/healthz", Media(Health, {"status": "ok"}), public=True)
    async def healthz(self, request: Request) -> Response:
        """Is the process alive?

        Does not use the storage.
        """
        return Response(b'{"status": "ok"}', media_type="application/json")

    @Operation(
        "GET", "/readyz", {200: Media(Health, {"status": "ready"}), 503: Media(NotReady, _NOT_READY)}, public=True
    )
    async def readyz(self, request: Request) -> Response:
        """Is the process ready for requests?

        Reads and writes the journal.
        """
        problem = await self._problem() if self.api.options.ready() else "The server is shutting down."
        if problem is None:
            return Response(b'{"status": "ready"}', media_type="application/json")
        body: NotReady = {"code": "service_unavailable", "message": problem, "status": "not ready"}
        return Response(encode(body), 503, {"Retry-After": "1"}, "application/json")

    async def _problem(self) -> str | None:
        """Why this process is not ready; None where it is."""
        now = asyncio.get_running_loop().time()
        if self._probing is None or (self._probing.done() and now - self._probed_at > _PROBE_SECONDS):
            self._probing, self._probed_at = asyncio.create_task(self._probe(), name="readyz"), now
        done, _ = await asyncio.wait({self._probing}, timeout=_READY_SECONDS)
        return self._probing.result() if done else f"The journal has not answered within {_READY_SECONDS:g} s."

    async def _probe(self) -> str | None:
        """Why the journal cannot be read or written; None where it can."""
        journal = self.api.run_service.environment.journal
        try:
            await journal.read("readyz")
            await journal.probe()
        except StoreError as error:
            logger.log(error.level, "the journal does not answer: %s", error)
            return f"The journal cannot be read or written: {error.reason}"
        except Exception:  # for any reason: this process is not ready
            logger.exception("the journal does not answer")
            return "The journal does not answer."
        return None
