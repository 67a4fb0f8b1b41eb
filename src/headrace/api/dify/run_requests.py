"""What dialects share about runs: to take one in, and to tell one as a stream."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from starlette.requests import Request

from headrace.api.auth import Api
from headrace.api.dify.run_events import RunEvents
from headrace.api.dify.stream_position import StreamPosition
from headrace.api.dify.upload_rules import Uploads
from headrace.api.http.errors import app_unavailable, interrupted, no_agents
from headrace.api.http.json import encode
from headrace.api.middleware.request_context import TRACE
from headrace.apps.catalog import Served
from headrace.conversations.messages import BASIC
from headrace.errors import InvalidParam
from headrace.kernel.events import Record, RunPaused
from headrace.node import Unknown
from headrace.nodes.start import Start
from headrace.runs.submission import Submission
from headrace.values import Value

MODES = ("blocking", "streaming")
_IDS = re.compile(rb'(?i)(?:^|,)\s*text/event-stream\s*(?:;[^,]*)?;\s*ids="?true"?\s*(?:[;,]|$)')


def streaming(asked: Mapping[str, Value]) -> bool:
    """Whether the answer is to be streamed. InvalidParam where `response_mode` is neither of the two."""
    mode = asked.get("response_mode")
    if mode is not None and mode not in MODES:
        raise InvalidParam("response_mode: Input should be 'blocking' or 'streaming'")
    return mode == "streaming"


def payload(asked: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[Mapping[str, Value]]]:
    """(inputs, files) of a request to run. InvalidParam where one is of the wrong form."""
    inputs, files = asked.get("inputs"), asked.get("files")
    if "inputs" not in asked:
        raise InvalidParam("inputs: Field required")
    if not isinstance(inputs, dict):
        raise InvalidParam("inputs: Input should be a valid dictionary")
    mappings: Any = [] if files is None else files
    if not isinstance(mappings, list) or any(not isinstance(each, dict) for each in cast("list[Value]", mappings)):
        raise InvalidParam("files: Input should be a valid list of dictionaries")
    return cast("dict[str, Value]", inputs), cast("list[dict[str, Value]]", mappings)


async def accepted(
    api: Api,
    served: Served,
    user: str,
    inputs: Mapping[str, Value],
    files: Sequence[Mapping[str, Value]] = (),
    callback: str | None = None,
) -> Submission:
    """A run asked for, its inputs and files checked, the latter against the app's limits of uploads. InvalidParam,
    NotFound or app_unavailable where it cannot be."""
    flow, end_user = served.flow, await api.end_user(served.app, user)
    uploads = Uploads(flow)
    found = [await api.resolve(each, served.app.id) for each in uploads.taken(files)]
    uploads.check(found)
    start = flow.nodes[flow.graph.root]
    if not isinstance(start, Start):
        raise app_unavailable()
    agent = next((each for each in flow.nodes.values() if isinstance(each, Unknown)), None)
    if agent is not None and served.app.mode in BASIC:
        raise no_agents(agent.kind)
    checked = await start.accept(inputs, partial(api.resolve, app=served.app.id))
    return Submission(served, user, checked, found, end_user, callback=callback, trace=TRACE.get())


async def stop(api: Api, served: Served, task: str, user: str) -> None:
    """Stops whatever run a task is of. An unknown task is no error, as in Dify: it may have ended long ago. Nor is
    another end user's in an app without a workflow of its own: there, as in Dify, nothing comes of it."""
    run = await api.run_service.runs.find_task(task)
    summary = await api.run_service.runs.find_run(run) if run else None
    if run is None or summary is None or summary.app != served.app.id:
        return
    if served.app.mode not in BASIC or summary.session == user:
        await api.run_service.stop(run, user)


async def tell(
    frames: RunEvents, records: AsyncIterator[Record], task: str, close_from: int | None = 0, *, ids: bool
) -> AsyncGenerator[bytes]:
    """The events of a stream, as Dify sends them; with `ids` also the place that each leads to. A pause ends it if its
    number is `close_from` or above. An error in mid-stream is told as an event, because the answer's status is out
    already."""
    try:
        async for record in records:
            for frame in frames.feed(record):
                if ids and frame.event != "error":  # an error has no id: it is told again to a reader that comes back
                    yield b"data: %b\nid: %b\n\n" % (frames.encode(frame), str(frame.position).encode())
                else:
                    yield b"data: %b\n\n" % frames.encode(frame)
            if isinstance(record.event, RunPaused) and close_from is not None and (record.seq or 0) >= close_from:
                return
    except Exception as error:
        told = interrupted(frames.run, error)
        envelope = {"status": told.status, "code": told.code, "message": told.message}
        yield b"data: %b\n\n" % encode({"event": "error", "workflow_run_id": frames.run, "task_id": task, **envelope})
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


def last_event_id(request: Request) -> StreamPosition | None:
    """Where a stream is to go on: after the id that the reader states, or from the start for 0; None where it states
    nothing."""
    stated = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    return StreamPosition.parse(stated) if stated else None


def wants_ids(request: Request) -> bool:
    """Whether a stream's events are to carry ids, which Dify's do not: only a client that asks for them is sent any
    (docs/decisions/0014). It asks by `Accept: text/event-stream; ids=true`, or by coming back with Last-Event-ID."""
    for name, value in request.scope["headers"]:
        if name == b"last-event-id" or (name == b"accept" and _IDS.search(value)):
            return True
    return False
