"""Batches: many runs requested at once, as JSON Lines, and their results as JSON Lines."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import IO
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from headrace.api.auth import LONGEST_USER, Api, as_uuid, named_user
from headrace.api.dify.message_requests import line_reader
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.errors import of_status
from headrace.api.http.params import choice, integer, text
from headrace.api.http.request_body import Body
from headrace.api.http.responses import encode, json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.cursor import CURSOR, PAGE_LIMIT, bad_cursor
from headrace.api.native.idempotency import KEY_ERRORS, KEY_PARAMETER
from headrace.api.native.schemas import batches
from headrace.api.native.schemas.batches import AcceptedBatch, BatchDetail, BatchPage, batch_detail
from headrace.api.native.schemas.common import NO_WORKFLOW
from headrace.api.native.services import NativeServices
from headrace.apps.catalog import Release
from headrace.batches import Spool, read_lines
from headrace.errors import InvalidParam, LoadError, NotFound, RequestError
from headrace.ports import App, Batch
from headrace.rate_limits import caller
from headrace.times import whole_seconds

_JSONL = "application/jsonl"
_TYPES = frozenset({_JSONL, "application/x-ndjson", "text/plain"})
_EMPTY = 'The body has no lines. Send JSON Lines, one {"inputs": {...}} a line.'
_USER = replace(
    text("user", "Your name for the end user of the runs"), schema={"type": "string", "maxLength": LONGEST_USER}
)
_CONCURRENCY = integer("concurrency", "Maximum number of its runs at a time", 10, 1000)
_RPM = integer("rpm", "Maximum number of its runs that begin a minute, evenly spaced", None, 100_000)
_ONLY = choice("only", "Lines that have ended, or that have failed", ("ended", "failed"), None)
_START = integer("start", "Index of the first line", 0, 100_000, 0)
_LIMIT = integer("limit", "Maximum number of lines; by default all", None, 100_000)
_CURSOR = replace(text("cursor", CURSOR.description), error=bad_cursor())  # a batch's id
_BATCH = "/batches/{batch_id}"
_PIECE = 64 * 1024  # bytes of results that are sent at once


_not_found = partial(NotFound, "Batch not found")
_wrong_type = partial(of_status, 415, 'Send JSON Lines, one {"inputs": {...}} a line, as application/jsonl.')


def _too_many(maximum: int) -> RequestError:
    return of_status(413, f"A batch may have {maximum} lines at most.")


def _not_loadable(error: object = "version 2: there is no `app` section") -> RequestError:
    message = f"The version of this batch can no longer be loaded: {error}"
    return RequestError(message, "version_not_loadable", 409)


class BatchRoutes(Routes):
    """`/workflows/{workflow_id}/batch` and `/batches...`. Another app's are not found."""

    tag = "Batches"

    def __init__(
        self, api: Api, services: NativeServices, largest: int = 50 * 1024 * 1024, most: int = 100_000
    ) -> None:
        """`largest`: bytes of a batch's body; `most`: lines in it."""
        super().__init__(api)
        self._once = services.idempotency.once
        self._batch_runner = services.batch_runner
        self._largest = largest
        self._most = most

    # ------------------------------------------------------------------------------------------------------- begin

    @Operation(
        "POST",
        "/workflows/{workflow_id}/batch",
        {202: batches.ACCEPTED},
        parameters=(_USER, _CONCURRENCY, _RPM, KEY_PARAMETER),
        body=batches.LINES,
        errors=[InvalidParam(_EMPTY), NO_WORKFLOW, *KEY_ERRORS, _not_loadable(), _too_many(100_000), _wrong_type()],
    )
    async def begin_batch(self, request: Request) -> Response:
        """Run a workflow, or a chat, for many inputs.

        Takes JSON Lines, each `{"inputs": {...}}`, up to 100,000 of them or 50 MB, and begins a run for each, in order.
        `workflow_id` is an app's id (its published version) or a version's. A line that cannot become a run (it is not
        a JSON object, or has invalid inputs) counts as failed, and the results say why; the others run all the same.
        For a chat app each line is a message, with a `query` and optionally a `conversation_id`: lines of one
        conversation are answered one after the other. A batch continues after a crash of the server: no line is run to
        its end twice.
        """
        release = await self.api.authenticate(request)
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in _TYPES:
            raise _wrong_type()
        with tempfile.TemporaryFile() as body:
            digest = await self._receive(request, body)

            async def handle(batch: str | None) -> Response:
                return await self._begin(request, release, body, batch)

            return await self._once(request, release, digest, handle)

    async def _receive(self, request: Request, file: IO[bytes]) -> bytes:
        """Writes a request's body to a file; returns its digest."""
        digest = hashlib.sha256()
        body = Body(request, self._largest)
        try:
            async for piece in body:
                file.write(piece)
                digest.update(piece)
        except RequestError:
            await body.drain()
            raise
        return digest.digest()

    async def _begin(self, request: Request, release: Release, body: IO[bytes], id_: str | None) -> Response:
        batch_runner = self._batch_runner
        if id_ is not None and (batch := await batch_runner.batches.find_batch(id_)) is not None:
            return _accepted(batch)
        user = named_user(_USER.of(request)) or ANONYMOUS
        concurrency, rpm = _CONCURRENCY.of(request), _RPM.of(request)
        release = await self._version(release, request.path_params["workflow_id"])
        end_user = await self.api.apps.end_user(release.app, user)
        accept = line_reader(release, end_user, self.api.chats, partial(self.api.resolve, app=release.app.id))
        with tempfile.TemporaryFile() as file:
            lines = Spool(file)
            body.seek(0)
            async with aclosing(read_lines(body, accept)) as new_lines:
                async for line in new_lines:
                    if len(lines) == self._most:
                        raise _too_many(self._most)
                    lines.append(line)
            if not lines:
                raise InvalidParam(_EMPTY)
            now = self.api.run_service.environment.clock()
            app, version = release.app.id, release.version.id
            batch = Batch(id_ or str(uuid4()), app, version, user, len(lines), now, concurrency, rpm, key=caller())
            return _accepted(await batch_runner.add(batch, lines))

    async def _version(self, release: Release, workflow: str) -> Release:
        """The app's current version, or the version with that id."""
        id_ = as_uuid(workflow, NotFound(f"Workflow not found with id: {workflow[:50]}"))
        if id_ == release.app.id:
            return release
        try:
            return await self.api.apps.version(release.app, id_)
        except LoadError as error:
            raise _not_loadable(error) from error

    # --------------------------------------------------------------------------------------------------------- get

    @Operation("GET", "/batches", batches.BATCHES, parameters=(PAGE_LIMIT, _CURSOR))
    async def list_batches(self, request: Request) -> Response:
        """List the app's batches.

        Newest first.
        """
        app = (await self.api.authenticate(request)).app
        limit, cursor = PAGE_LIMIT.of(request), _CURSOR.of(request)
        batches_of_app = await self._batch_runner.batches.batches(app.id)
        start = 0
        if cursor:
            start = 1 + next((index for index, batch in enumerate(batches_of_app) if batch.id == cursor), -2)
            if start < 0:
                raise bad_cursor()
        page = batches_of_app[start : start + limit]
        more = len(batches_of_app) > start + limit
        body: BatchPage = {
            "data": [await self._body(batch) for batch in page],
            "next_cursor": page[-1].id if more else None,
        }
        return json_response(body)

    @Operation("GET", _BATCH, batches.BATCH, errors=[_not_found()])
    async def get_batch(self, request: Request) -> Response:
        """Get a batch.

        `status` is `running`, `stopped` or `ended`; `ended_at` is set once the last run has ended. The counts of lines
        by status add up to `total`; `stopped` includes lines that never began because the batch was stopped.
        """
        batch = await self._batch(request, (await self.api.authenticate(request)).app)
        return json_response(await self._body(batch))

    @Operation(
        "GET",
        f"{_BATCH}/results",
        batches.RESULTS,
        parameters=(_ONLY, _START, _LIMIT),
        errors=[_not_found(), _not_loadable()],
    )
    async def get_batch_results(self, request: Request) -> Response:
        """Get the results of a batch.

        JSON Lines, one for each line of the batch, in its order. A line that has not ended has the status `queued`,
        `running` or `paused`, and no outputs; `only=ended` leaves these out. Lines that are messages also have
        `answer`, `conversation_id` and `message_id`. To read them in parts, give a `limit`, and as the next `start` the
        last `index` and one.
        """
        batch = await self._batch(request, (await self.api.authenticate(request)).app)
        only, start, limit = _ONLY.of(request), _START.of(request), _LIMIT.of(request)
        try:
            await self.api.apps.flow(batch.app, batch.version)  # while the status can still be an error
        except LoadError as error:
            raise _not_loadable(error) from error
        return StreamingResponse(self._encoded(batch, only, start, limit), media_type=_JSONL)

    async def _encoded(self, batch: Batch, only: str | None, start: int, limit: int | None) -> AsyncGenerator[bytes]:
        piece = bytearray()
        count = 0
        async with aclosing(self._batch_runner.lines.results(batch, start=start)) as results:
            async for result in results:
                if only is None or (result.over and only == "ended") or result.status == only:
                    piece += encode(result.wire()) + b"\n"
                    count += 1
                if count == limit:
                    break
                if len(piece) >= _PIECE:
                    yield bytes(piece)
                    piece.clear()
        if piece:
            yield bytes(piece)

    # -------------------------------------------------------------------------------------------------------- stop

    @Operation("POST", f"{_BATCH}/stop", batches.STOPPED, errors=[_not_found()])
    async def stop_batch(self, request: Request) -> Response:
        """Stop a batch.

        Its runs are stopped, and waiting lines never begin. Nothing happens to a batch that has ended.
        """
        batch = await self._batch(request, (await self.api.authenticate(request)).app)
        return json_response(await self._body(await self._batch_runner.stop(batch)))

    async def _batch(self, request: Request, app: App) -> Batch:
        unknown = _not_found()
        batch = await self._batch_runner.batches.find_batch(as_uuid(request.path_params["batch_id"], unknown))
        if batch is None or batch.app != app.id:
            raise unknown
        return batch

    async def _body(self, batch: Batch) -> BatchDetail:
        return batch_detail(batch, await self._batch_runner.lines.progress(batch))


def _accepted(batch: Batch) -> Response:
    body: AcceptedBatch = {
        "batch_id": batch.id,
        "status": batch.status,
        "total": batch.total,
        "created_at": whole_seconds(batch.created_at),
    }
    return json_response(body, 202)
