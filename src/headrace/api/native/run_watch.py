"""The status of a run for clients that poll it, folded from its records.

A run that is polled while it continues is watched: its records are folded as the bus delivers them, and the response
is kept as bytes until something changes. A poll then costs neither a read of the journal nor an encoding, and a client
that waits for the end (`?wait=30`) is woken by the record that ends the run.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TypeVar, cast
from uuid import UUID, uuid5

from starlette.responses import Response

from headrace.api.dify.chat_responses import AnswerText
from headrace.api.http.responses import encode
from headrace.api.native.schemas.runs import ErrorNode, RunDetail
from headrace.conversations.messages import MESSAGES
from headrace.errors import HeadraceError
from headrace.kernel.events import (
    Event,
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunQueued,
)
from headrace.kernel.graph import is_top_level
from headrace.kernel.secrets import SecretMask
from headrace.kernel.summary import FAILED, RUN_EVENTS, RunSummary
from headrace.node import Flow
from headrace.runs.reader import RecordFeed
from headrace.runs.service import RunService
from headrace.times import milliseconds, whole_seconds

logger = logging.getLogger(__name__)

_E = TypeVar("_E", RunQueued, RunEnded | None)

_CHECK_SECONDS = 30.0  # without a record, after which a watch reads the journal: the bus may have lost one
_IDLE_SECONDS = 60.0  # without a poll, after which a run is no longer watched
_MOST = 20_000  # runs watched at a time; beyond that the one polled longest ago is dropped


class RunStatus:
    """A run's status, folded from its records. Secrets are masked."""

    def __init__(self, run: RunId, flow: Flow) -> None:
        self.run = run
        self.summary = RunSummary(flow.graph)
        self._graph = flow.graph
        self._mask = SecretMask(flow.secrets)
        self._answer = AnswerText(flow) if flow.mode in MESSAGES else None
        self._last_change = 0  # the last record that changed the response
        self._response: Response | None = None

    def apply(self, record: Record) -> None:
        """Adds a record; one without a number, or that was added before, changes nothing."""
        if record.seq is None or record.seq <= self.summary.seq:
            return
        self.summary.apply(record)
        text = self._answer is not None and self._answer.feed(self._mask.record(record) if self._mask else record)
        if text or self._shows(record.event):
            self._last_change, self._response = record.seq, None

    def _shows(self, event: Event) -> bool:
        """Whether an event changes the response: of the nodes inside containers only their usage does."""
        match event:
            case NodeSucceeded(path):
                return bool(event.usage) and not self._graph.is_container(path)
            case NodeStarted(path) | NodeFailed(path) | NodeRetried(path):
                return is_top_level(path)
            case _:
                return type(event) in RUN_EVENTS

    def _masked(self, event: _E) -> _E:
        return cast("_E", self._mask.event(event)) if self._mask and event is not None else event

    @property
    def tag(self) -> str:
        """The ETag of the response."""
        return f'"{self._last_change}"'

    def response(self) -> Response:
        """The response to GET /workflow-runs/{id}. It may be sent any number of times, and must not be changed."""
        if self._response is None:
            self._response = Response(encode(self.detail()), headers={"ETag": self.tag}, media_type="application/json")
        return self._response

    def detail(self) -> RunDetail:
        """The response's body."""
        summary, request, end = self.summary, self._masked(self.summary.request), self._masked(self.summary.ended)
        body: RunDetail = {
            "id": self.run,
            "workflow_id": request.version,
            "app_id": request.app,
            "task_id": request.task,
            "status": summary.status,
            "inputs": request.inputs,
            "outputs": end.outputs if end else None,
            "error": end.error if end else None,
            "error_node": self._error_node() if summary.status == FAILED else None,
            "usage": summary.usage.body(),
            "total_tokens": summary.usage.tokens,
            "total_steps": summary.steps,
            "exceptions_count": summary.exceptions,
            "created_at": whole_seconds(summary.queued_at),
            "started_at": whole_seconds(summary.started_at),
            "finished_at": whole_seconds(summary.ended_at),
            "created_at_ms": milliseconds(summary.queued_at),
            "started_at_ms": milliseconds(summary.started_at),
            "finished_at_ms": milliseconds(summary.ended_at),
            "elapsed_time": summary.elapsed_so_far,
            "user": request.user,
            "source": request.source,
            "retry_of": request.retry_of,
            "callback_url": request.callback,
        }
        if self._answer is not None:
            body["query"] = request.system.get("query")
            body["answer"] = (end.outputs.get("answer") if end else None) or str(self._answer)
            body["conversation_id"] = request.conversation
            body["message_id"] = self.run
        return body

    def _error_node(self) -> ErrorNode | None:
        """The node whose failure ended the run; None where it was a limit of the whole run."""
        failure = self.summary.failure
        if failure is None:
            return None
        spec = self._graph.nodes[failure.path]
        return {
            "id": str(uuid5(UUID(self.run), failure.path)),
            "node_id": spec.id,
            "title": spec.title,
            "type": spec.type,
            "error_type": failure.kind,
        }


class _WatchedRun:
    """A run that is polled: its status is kept up to date until it has ended, or is no longer polled."""

    def __init__(self, run_service: RunService, run: RunId) -> None:
        self.run = run
        self.polled_at = 0.0
        self.waiting = 0  # callers that wait for the status
        self.done = asyncio.Event()  # the run has ended, or can no longer be watched
        self.status: asyncio.Future[RunStatus | None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None]
        self._run_service = run_service

    async def follow(self) -> None:
        try:
            async with self._run_service.environment.bus.subscribe(self.run) as live:
                await self._follow(live)
        except HeadraceError as error:  # the journal or the workflow cannot be read
            if not self.status.done():
                self.status.set_exception(error)
            else:
                logger.warning("run %s is no longer watched: %s", self.run, error)
        finally:
            if not self.status.done():
                self.status.cancel()
            self.done.set()

    async def _follow(self, live: AsyncIterator[Sequence[Record]]) -> None:
        records: Sequence[Record] = await self._run_service.environment.journal.read(self.run)
        if not records:
            self.status.set_result(None)
            return
        request = records[0].event
        assert isinstance(request, RunQueued)
        flow = await self._run_service.apps.flow(request.app, request.version)
        status = RunStatus(self.run, flow)
        feed = RecordFeed(self._run_service.environment.journal, self.run, live, records, _CHECK_SECONDS)
        clock = asyncio.get_running_loop().time
        while not status.summary.ended:
            for record in await feed.next():
                status.apply(record)
            if not self.status.done():
                self.status.set_result(status)
            elif not self.waiting and clock() - self.polled_at > _IDLE_SECONDS:
                return


class RunWatcher:
    """The runs that are being polled."""

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service
        self._watches: dict[RunId, _WatchedRun] = {}

    async def find(self, run: RunId, app: str, wait: float = 0) -> RunStatus | None:
        """A run's status, once it has ended or `wait` seconds have passed; None for an unknown one, and another app's.
        StoreError where the journal cannot be read, NotFound or LoadError where the run's workflow cannot be loaded."""
        watch = self._watch(run)
        watch.waiting += 1
        try:
            status = await asyncio.shield(watch.status)
            if status is None or status.summary.request.app != app:
                return None
            if status.summary.ended is None and wait > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await watch.done.wait()
            return status
        finally:
            watch.waiting -= 1

    def _watch(self, run: RunId) -> _WatchedRun:
        """The watch of a run; `_watches` is in the order of the last poll."""
        watch = self._watches.pop(run, None)
        if watch is None:
            watch = _WatchedRun(self._run_service, run)
            watch.task = asyncio.create_task(watch.follow(), name=f"watch {run}")
            watch.task.add_done_callback(lambda _: self._forget(watch))
            for oldest in list(itertools.islice(self._watches.values(), max(0, len(self._watches) - _MOST + 1))):
                if not oldest.waiting:
                    oldest.task.cancel()
        self._watches[run] = watch
        watch.polled_at = asyncio.get_running_loop().time()
        return watch

    def _forget(self, watch: _WatchedRun) -> None:
        if self._watches.get(watch.run) is watch:
            del self._watches[watch.run]
