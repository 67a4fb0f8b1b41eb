"""How a run stands: what pollers are told of it, folded from its records.

A run that is polled while it goes on is watched: its records are folded as the bus brings them, and its answer is kept
as bytes until something changes. A poll then costs neither a read of the journal nor an encoding, and whoever waits
for the end (`?wait=30`) is woken by the record that ends the run.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TypeVar, cast
from uuid import UUID, uuid5

from starlette.responses import Response

from headrace.api.dify.chat_responses import AnswerText
from headrace.api.dify.run_responses import seconds
from headrace.api.http.json import encode
from headrace.api.native.schemas.runs import ErrorNode, RunDetail, RunUsage
from headrace.conversations.messages import MESSAGES
from headrace.errors import HeadraceError
from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.kernel.path import is_top_level
from headrace.kernel.secrets import Mask
from headrace.kernel.usage import count_of, price_of, sum_of
from headrace.node import Flow
from headrace.runs.feed import RecordFeed
from headrace.runs.service import RunService
from headrace.times import milliseconds, whole_seconds
from headrace.values import Value

logger = logging.getLogger(__name__)

_E = TypeVar("_E", RunQueued, RunEnded)

_CHECK_SECONDS = 30.0  # a watch that hears nothing looks into the journal: the bus may have lost something
_IDLE_SECONDS = 60.0  # a run that nobody asked for so long is not watched any more
_MOST = 20_000  # runs watched at once; the one asked for longest ago gives way


class UsageTotal:
    """Tokens and money of a run or a node, summed. There is no price where currencies are mixed."""

    __slots__ = ("_currencies", "_price", "completion", "prompt", "tokens")

    def __init__(self) -> None:
        self.tokens = self.prompt = self.completion = 0
        self._price = Decimal(0)
        self._currencies: set[str] = set()

    def add(self, usage: Mapping[str, Value]) -> None:
        """`usage` as `resources.Usage.wire` has it; what is missing counts as nothing."""
        self.tokens = sum_of(self.tokens, count_of(usage, "total_tokens"))
        self.prompt = sum_of(self.prompt, count_of(usage, "prompt_tokens"))
        self.completion = sum_of(self.completion, count_of(usage, "completion_tokens"))
        self._price += price_of(usage)
        if usage.get("currency"):
            self._currencies.add(str(usage["currency"]))

    def body(self) -> RunUsage:
        mixed = len(self._currencies) > 1
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.tokens,
            "total_price": None if mixed else format(self._price, "f"),
            "currency": None if mixed else next(iter(self._currencies), "USD"),
        }


class RunStatus:
    """A run as its records, from the first, have left it. Secrets are masked."""

    def __init__(self, run: RunId, flow: Flow) -> None:
        self.run = run
        self.seq = 0
        self.queued: RunQueued | None = None
        self.queued_at = 0.0
        self.started_at: float | None = None
        self.paused = False
        self.ended: RunEnded | None = None
        self.ended_at: float | None = None
        self._graph = flow.graph
        self._mask = Mask(flow.secrets)
        self._steps = 0
        self._exceptions = 0
        self._usage = UsageTotal()
        self._failed: NodeFailed | None = None
        self._said = AnswerText(flow) if flow.mode in MESSAGES else None
        self._changed = 0  # the last record that the answer tells of
        self._response: Response | None = None

    def apply(self, record: Record) -> None:
        """Takes a record in; one without a number, or that was there before, changes nothing."""
        if record.seq is None or record.seq <= self.seq:
            return
        self.seq = record.seq
        event = record.event
        if self._said is not None and self._said.feed(self._mask.record(record) if self._mask else record):
            self._changed, self._response = self.seq, None
        match event:
            case NodeSucceeded(path):
                if not event.usage or self._graph.is_container(path):  # a container's is the sum of those inside
                    return
                self._usage.add(event.usage)
            case NodeStarted(path) | NodeFailed(path) | NodeRetried(path) if not is_top_level(path):
                return  # what is inside containers counts for them
            case NodeStarted():
                self._steps += 1
            case NodeFailed():
                self._exceptions += 1
                if event.strategy is None:
                    self._failed = self._failed or event
            case NodeRetried():
                self._steps += 1
                self._exceptions += 1
            case RunQueued():
                self.queued, self.queued_at = self._masked(event), record.at
            case RunStarted():
                self.started_at = record.at
            case RunPaused():
                self.paused = True
            case RunResumed() | StopRequested():
                self.paused = False
            case RunEnded():
                self.ended, self.ended_at, self.paused = self._masked(event), record.at, False
            case _:
                return
        self._changed, self._response = self.seq, None

    def _masked(self, event: _E) -> _E:
        return cast("_E", self._mask.event(event)) if self._mask else event

    @property
    def status(self) -> str:
        if self.ended is not None:
            return self.ended.status
        return "paused" if self.paused else "queued" if self.started_at is None else "running"

    @property
    def tag(self) -> str:
        """The ETag of the answer."""
        return f'"{self._changed}"'

    def response(self) -> Response:
        """What GET /workflow-runs/{id} answers. It may be sent any number of times, and is not to be changed."""
        if self._response is None:
            self._response = Response(encode(self._body()), headers={"ETag": self.tag}, media_type="application/json")
        return self._response

    def _body(self) -> RunDetail:
        queued, ended = self.queued, self.ended
        assert queued is not None  # a run's first record
        since = self.queued_at if self.started_at is None else self.started_at
        body: RunDetail = {
            "id": self.run,
            "workflow_id": queued.version,
            "app_id": queued.app,
            "task_id": queued.task,
            "status": self.status,
            "inputs": queued.inputs,
            "outputs": ended.outputs if ended else None,
            "error": ended.error if ended else None,
            "error_node": self._error_node() if ended and ended.status == "failed" else None,
            "usage": self._usage.body(),
            "total_tokens": self._usage.tokens,
            "total_steps": ended.steps if ended else self._steps,
            "exceptions_count": ended.exceptions if ended else self._exceptions,
            "created_at": whole_seconds(self.queued_at),
            "started_at": whole_seconds(self.started_at),
            "finished_at": whole_seconds(self.ended_at),
            "created_at_ms": milliseconds(self.queued_at),
            "started_at_ms": milliseconds(self.started_at),
            "finished_at_ms": milliseconds(self.ended_at),
            "elapsed_time": None if self.ended_at is None else seconds(since, self.ended_at),
            "user": queued.user,
            "source": queued.source,
            "retry_of": queued.retry_of,
            "callback_url": queued.callback,
        }
        if self._said is not None:
            body["query"] = queued.system.get("query")
            body["answer"] = (ended.outputs.get("answer") if ended else None) or str(self._said)
            body["conversation_id"] = queued.conversation
            body["message_id"] = self.run
        return body

    def _error_node(self) -> ErrorNode | None:
        """The node whose failure ended the run; None where it was a limit of the whole run."""
        if self._failed is None or (spec := self._graph.nodes.get(self._failed.path)) is None:
            return None
        return {
            "id": str(uuid5(UUID(self.run), self._failed.path)),
            "node_id": spec.id,
            "title": spec.title,
            "type": spec.type,
            "error_type": self._failed.kind,
        }


class _WatchedRun:
    """A run that is polled: its status is kept up to date until it has ended, or nobody asks any more."""

    def __init__(self, run_service: RunService, run: RunId) -> None:
        self.run = run
        self.asked_at = 0.0
        self.waiting = 0  # callers that wait for an answer
        self.over = asyncio.Event()  # the run has ended, or cannot be watched any more
        self.known: asyncio.Future[RunStatus | None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None]
        self._run_service = run_service

    async def follow(self) -> None:
        try:
            async with self._run_service.world.bus.subscribe(self.run) as live:
                await self._follow(live)
        except HeadraceError as error:  # the journal or the workflow cannot be read
            if not self.known.done():
                self.known.set_exception(error)
            else:
                logger.warning("run %s is not watched any more: %s", self.run, error)
        finally:
            if not self.known.done():
                self.known.cancel()
            self.over.set()

    async def _follow(self, live: AsyncIterator[Sequence[Record]]) -> None:
        records: Sequence[Record] = await self._run_service.world.journal.read(self.run)
        if not records:
            self.known.set_result(None)
            return
        queued = records[0].event
        assert isinstance(queued, RunQueued)
        flow = await self._run_service.apps.flow(queued.app, queued.version)
        status = RunStatus(self.run, flow)
        feed = RecordFeed(self._run_service.world.journal, self.run, live, records, _CHECK_SECONDS)
        clock = asyncio.get_running_loop().time
        while not status.ended:
            for record in await feed.next():
                status.apply(record)
            if not self.known.done():
                self.known.set_result(status)
            elif not self.waiting and clock() - self.asked_at > _IDLE_SECONDS:
                return


class RunWatcher:
    """The runs that are polled just now."""

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service
        self._watches: dict[RunId, _WatchedRun] = {}

    async def find(self, run: RunId, app: str, wait: float = 0) -> RunStatus | None:
        """How a run stands, once it has ended or `wait` seconds are over; None for an unknown one, and another app's.
        StoreError where the journal cannot be read, NotFound or LoadError where the run's workflow is gone."""
        watch = self._watch(run)
        watch.waiting += 1
        try:
            status = await asyncio.shield(watch.known)
            if status is None or status.queued is None or status.queued.app != app:
                return None
            if status.ended is None and wait > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await watch.over.wait()
            return status
        finally:
            watch.waiting -= 1

    def _watch(self, run: RunId) -> _WatchedRun:
        """The watch of a run; the ones asked for last stand last."""
        watch = self._watches.pop(run, None)
        if watch is None:
            watch = _WatchedRun(self._run_service, run)
            watch.task = asyncio.create_task(watch.follow(), name=f"watch {run}")
            watch.task.add_done_callback(lambda _: self._forget(watch))
            for oldest in list(itertools.islice(self._watches.values(), max(0, len(self._watches) - _MOST + 1))):
                if not oldest.waiting:
                    oldest.task.cancel()
        self._watches[run] = watch
        watch.asked_at = asyncio.get_running_loop().time()
        return watch

    def _forget(self, watch: _WatchedRun) -> None:
        if self._watches.get(watch.run) is watch:
            del self._watches[watch.run]
