"""Batches: many runs asked for at once, as JSON Lines, and their results as JSON Lines."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from typing import IO
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from headrace.api.auth import Api, as_uuid, named_user
from headrace.api.dify.message_requests import line_reader
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.errors import of_status
from headrace.api.http.json import encode
from headrace.api.http.request_body import Body
from headrace.api.http.routing import OperationList
from headrace.api.native import batch_docs as operations
from headrace.api.native.services import Polling
from headrace.api.openapi import add_get
from headrace.apps.catalog import Served
from headrace.batches import Spool, read_lines
from headrace.errors import InvalidParam, LoadError, NotFound, RequestError
from headrace.ports import App, Batch
from headrace.rate_limits import caller
from headrace.times import times, whole_seconds
from headrace.values import Value

_JSON = "application/json"
_JSONL = "application/jsonl"
_TYPES = frozenset({_JSONL, "application/x-ndjson", "text/plain"})
_CONCURRENCY, _MOST_CONCURRENCY = 10, 1000
_MOST_RPM = 100_000
_PAGE, _LARGEST_PAGE = 20, 100
_PIECE = 64 * 1024  # bytes of results that are sent at once


class BatchRoutes:
    """`/workflows/{workflow_id}/batch` and `/batches...`. Another app's are not found."""

    def __init__(self, api: Api, parts: Polling, largest: int = 50 * 1024 * 1024, most: int = 100_000) -> None:
        """`largest`: bytes of a batch's body; `most`: lines in it."""
        self.api = api
        self._once = parts.idempotency.once
        self._batch_runner = parts.batch_runner
        self._largest = largest
        self._most = most

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/workflows/{workflow_id}/batch", self.begin, methods=["POST"], **operations.BEGIN)
        add_get(router, "/batches", self.listed, operations.LIST)
        add_get(router, "/batches/{batch_id}", self.detail, operations.DETAIL)
        router.add_api_route("/batches/{batch_id}/results", self.results, methods=["GET"], **operations.RESULTS)
        router.add_api_route("/batches/{batch_id}/stop", self.stop, methods=["POST"], **operations.STOP)

    # ------------------------------------------------------------------------------------------------------- begin

    async def begin(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if declared not in _TYPES:
            raise of_status(415, 'Send JSON Lines, one {"inputs": {...}} a line, as application/jsonl.')
        with tempfile.TemporaryFile() as body:
            digest = await self._take_in(request, body)

            async def make(batch: str | None) -> Response:
                return await self._begin(request, served, body, batch)

            return await self._once(request, served, digest, make)

    async def _take_in(self, request: Request, file: IO[bytes]) -> bytes:
        """Writes a request's body to a file; returns its digest."""
        digest = hashlib.sha256()
        body = Body(request, self._largest, of_status(413))
        try:
            async for piece in body:
                file.write(piece)
                digest.update(piece)
        except RequestError:
            await body.drain()
            raise
        return digest.digest()

    async def _begin(self, request: Request, served: Served, body: IO[bytes], name: str | None) -> Response:
        batch_runner, query = self._batch_runner, request.query_params
        if name is not None and (known := await batch_runner.batches.find_batch(name)) is not None:
            return _accepted(known)
        user = named_user(query.get("user")) or ANONYMOUS
        concurrency = _number(query, "concurrency", _MOST_CONCURRENCY) or _CONCURRENCY
        rpm = _number(query, "rpm", _MOST_RPM)
        served = await self._version(served, request.path_params["workflow_id"])
        end_user = await self.api.end_user(served.app, user)
        accept = line_reader(served, end_user, self.api.chats, partial(self.api.resolve, app=served.app.id))
        with tempfile.TemporaryFile() as file:
            lines = Spool(file)
            body.seek(0)
            async with aclosing(read_lines(body, accept)) as read:
                async for line in read:
                    if len(lines) == self._most:
                        raise of_status(413, f"A batch may have {self._most} lines at most.")
                    lines.append(line)
            if not lines:
                raise InvalidParam('The body has no lines. Send JSON Lines, one {"inputs": {...}} a line.')
            now = self.api.run_service.world.clock()
            app, version = served.app.id, served.version.id
            batch = Batch(name or str(uuid4()), app, version, user, len(lines), now, concurrency, rpm, key=caller())
            return _accepted(await batch_runner.add(batch, lines))

    async def _version(self, served: Served, workflow: str) -> Served:
        """What a workflow's id means: the app's current version, or the version of that id."""
        name = as_uuid(workflow, NotFound(f"Workflow not found with id: {workflow[:50]}"))
        if name == served.app.id:
            return served
        try:
            return await self.api.apps.version(served.app, name)
        except LoadError as error:
            raise _not_loadable(error) from error

    # -------------------------------------------------------------------------------------------------------- look

    async def listed(self, request: Request) -> Response:
        app = (await self.api.authenticate(request)).app
        limit = _number(request.query_params, "limit", _LARGEST_PAGE) or _PAGE
        known = await self._batch_runner.batches.batches(app.id)
        start = 0
        if cursor := request.query_params.get("cursor"):
            start = 1 + next((place for place, batch in enumerate(known) if batch.id == cursor), -2)
            if start < 0:
                raise InvalidParam("cursor: Input should be the next_cursor of the page before")
        page = known[start : start + limit]
        more = len(known) > start + limit
        told = {"data": [await self._wire(batch) for batch in page], "next_cursor": page[-1].id if more else None}
        return _answer(told)

    async def detail(self, request: Request) -> Response:
        batch = await self._batch(request, (await self.api.authenticate(request)).app)
        return _answer(await self._wire(batch))

    async def results(self, request: Request) -> Response:
        batch = await self._batch(request, (await self.api.authenticate(request)).app)
        only = request.query_params.get("only", "")
        if only not in ("", "ended"):
            raise InvalidParam("only: Input should be 'ended'")
        try:
            await self.api.apps.flow(batch.app, batch.version)  # while there still is a status to tell it with
        except LoadError as error:
            raise _not_loadable(error) from error
        return StreamingResponse(self._told(batch, ended=only == "ended"), media_type=_JSONL)

    async def _told(self, batch: Batch, *, ended: bool) -> AsyncGenerator[bytes]:
        piece = bytearray()
        async with aclosing(self._batch_runner.lines.results(batch)) as results:
            async for result in results:
                if result.over or not ended:
                    piece += encode(result.wire()) + b"\n"
                if len(piece) >= _PIECE:
                    yield bytes(piece)
                    piece.clear()
        if piece:
            yield bytes(piece)

    # -------------------------------------------------------------------------------------------------------- stop

    async def stop(self, request: Request) -> Response:
        batch = await self._batch(request, (await self.api.authenticate(request)).app)
        return _answer(await self._wire(await self._batch_runner.stop(batch)))

    async def _batch(self, request: Request, app: App) -> Batch:
        unknown = NotFound("Batch not found")
        batch = await self._batch_runner.batches.find_batch(as_uuid(request.path_params["batch_id"], unknown))
        if batch is None or batch.app != app.id:
            raise unknown
        return batch

    async def _wire(self, batch: Batch) -> dict[str, Value]:
        progress = await self._batch_runner.lines.progress(batch)
        return {
            "id": batch.id,
            "workflow_id": batch.version,
            "app_id": batch.app,
            "status": batch.status,
            "total": batch.total,
            "queued": progress.queued,
            "running": progress.running,
            "paused": progress.paused,
            "succeeded": progress.succeeded,
            "partial_succeeded": progress.partial_succeeded,
            "failed": progress.failed,
            "stopped": progress.stopped,
            "concurrency": batch.concurrency,
            "rpm": batch.rpm,
            "user": batch.user,
            **times(created_at=batch.created_at, ended_at=batch.ended_at),
        }


def _accepted(batch: Batch) -> Response:
    told = {"batch_id": batch.id, "status": batch.status, "total": batch.total}
    told |= {"created_at": whole_seconds(batch.created_at)}
    return _answer(told, 202)


def _number(query: Mapping[str, str], name: str, most: int) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:18]) <= most:
        raise InvalidParam(f"{name}: Input should be an integer from 1 to {most}, not {text[:50]!r}")
    return int(text)


def _answer(value: Mapping[str, Value], status: int = 200) -> Response:
    return Response(encode(value), status, media_type=_JSON)


def _not_loadable(error: LoadError) -> RequestError:
    message = f"The version that this batch is of cannot be loaded any more: {error}"
    return RequestError(message, "version_not_loadable", 409)
