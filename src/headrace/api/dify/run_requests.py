"""Runs that requests of any dialect start, and their events as streams."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.dify.chat_events import ChatEvents
from headrace.api.dify.chat_responses import BlockingMessage
from headrace.api.dify.run_events import START, RunEvents, StreamPosition
from headrace.api.dify.run_responses import BlockingResponse
from headrace.api.dify.schemas.runs import RunFields
from headrace.api.dify.upload_rules import Uploads
from headrace.api.http.errors import app_unavailable, interrupted
from headrace.api.http.responses import EventStream, encode
from headrace.api.middleware.request_context import TRACE
from headrace.apps.catalog import Served
from headrace.conversations.messages import BASIC, MESSAGES
from headrace.kernel.events import Record, RunId, RunPaused
from headrace.node import Flow
from headrace.nodes.start import Start
from headrace.runs.submission import Submission
from headrace.values import File

_IDS = re.compile(rb'(?i)(?:^|,)\s*text/event-stream\s*(?:;[^,]*)?;\s*ids="?true"?\s*(?:[;,]|$)')


async def run_submission(
    api: Api, served: Served, user: str, fields: RunFields, callback: str | None = None
) -> Submission:
    """A run with valid inputs and files; the files are within the app's limits of uploads. InvalidParam, NotFound, or
    app_unavailable where the app cannot run."""
    flow, end_user = served.flow, await api.apps.end_user(served.app, user)
    files: Sequence[File] = ()
    if mappings := fields.get("files"):
        uploads = Uploads(flow)
        files = [await api.resolve(file, served.app.id) for file in uploads.accepted(mappings)]
        uploads.check(files)
    start = flow.nodes[flow.graph.root]
    if not isinstance(start, Start):
        raise app_unavailable()
    inputs = await start.accept(fields["inputs"], partial(api.resolve, app=served.app.id))
    return Submission(served, user, inputs, files, end_user, callback=callback, trace=TRACE.get())


async def run_response(api: Api, request: Request, submission: Submission, *, streamed: bool) -> Response:
    """Starts a run, and responds with its events, or at its end. It continues if the client disconnects meanwhile."""
    if streamed:
        return await run_stream(api, request, submission)
    flow, body = submission.served.flow, None
    async with api.run_service.open(submission) as started:
        blocking = BlockingMessage if flow.mode in MESSAGES else BlockingResponse
        response = blocking(started.run, started.task, flow)
        async for record in started.records:  # to the end: closing an unfinished iterator is expensive
            body = response.feed(record) or body
    if response.error is not None:
        raise response.error
    if body is None:
        raise RuntimeError(f"run {started.run} could not be followed to its end")
    return Response(body, media_type="application/json; charset=utf-8")


def events_for(run: RunId, flow: Flow, after: StreamPosition = START) -> RunEvents:
    """The events of a run, in the dialect of its app."""
    return (ChatEvents if flow.mode in MESSAGES else RunEvents)(run, flow, after)


async def run_stream(api: Api, request: Request, submission: Submission, run: RunId | None = None) -> EventStream:
    """Starts a run, with this id if one is given, and responds with its events."""
    async with AsyncExitStack() as stack:
        started = await stack.enter_async_context(api.run_service.open(submission, run))
        events = events_for(started.run, started.flow)
        stream = stream_events(events, started.records, started.task, ids=wants_ids(request))
        return EventStream(stream, api.options.ping_seconds, stack.pop_all())


async def stop_task(api: Api, served: Served, task: str, user: str) -> None:
    """Stops the run of a task. As in Dify, an unknown task is not an error, since its run may have ended long ago; nor
    is another end user's in an app without a workflow of its own, where nothing happens."""
    run = await api.run_service.runs.find_task(task)
    summary = await api.run_service.runs.find_run(run) if run else None
    if run is None or summary is None or summary.app != served.app.id:
        return
    if served.app.mode not in BASIC or summary.session == user:
        await api.run_service.stop(run, user)


async def stream_events(
    events: RunEvents, records: AsyncIterator[Record], task: str, close_from: int | None = 0, *, ids: bool
) -> AsyncGenerator[bytes]:
    """A run's events as Dify sends them; with `ids` also their positions. A pause ends the stream if its number is
    `close_from` or above. An error in the middle becomes an event, since the status is already sent."""
    try:
        async for record in records:
            for event in events.feed(record):
                if ids and event.event != "error":  # without an id, a reader that resumes gets the error again
                    yield b"data: %b\nid: %b\n\n" % (events.encode(event), str(event.position).encode())
                else:
                    yield b"data: %b\n\n" % events.encode(event)
            if isinstance(record.event, RunPaused) and close_from is not None and (record.seq or 0) >= close_from:
                return
    except Exception as cause:
        error = interrupted(events.run, cause)
        body = {"status": error.status, "code": error.code, "message": error.message}
        yield b"data: %b\n\n" % encode({"event": "error", "workflow_run_id": events.run, "task_id": task, **body})
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


def last_event_id(request: Request) -> StreamPosition | None:
    """The position after which a stream continues, as the request has it; None where it has none."""
    text = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    return StreamPosition.parse(text) if text else None


def wants_ids(request: Request) -> bool:
    """Whether a stream's events have ids. Dify's have none, so only a client that requests them gets them
    (docs/decisions/0014): by `Accept: text/event-stream; ids=true`, or by resuming with Last-Event-ID."""
    for name, value in request.scope["headers"]:
        if name == b"last-event-id" or (name == b"accept" and _IDS.search(value)):
            return True
    return False
