"""The driver of one run.

Only the driver numbers the events of its run, so parallel branches need no lock. If another driver has taken over, or a
command was appended elsewhere, its next append fails with a SequenceConflict.

The driver waits for the journal only before something leaves the process: before a node with side effects starts, and
before a record is published. Instant nodes run inline, ahead of the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from headrace.engine.attempts import (
    Outcome,
    attempt,
    attempt_instant,
    cancel_nodes,
    context_of,
    event_of,
    first_event,
    remaining_seconds,
)
from headrace.engine.environment import EngineEnvironment
from headrace.engine.outbox import FLUSH_SECONDS, Outbox, StreamBuffer
from headrace.engine.steps import run_step
from headrace.errors import NewerRecord, NewerSchema, NodeError, SequenceConflict, StoreError
from headrace.kernel.containers import GraphInstance
from headrace.kernel.events import (
    REASONING,
    Delta,
    Event,
    NodeRetried,
    NodeStarted,
    Record,
    RunEnded,
    RunId,
    RunResumed,
    RunStarted,
    StopRequested,
)
from headrace.kernel.forms import FormOutcome
from headrace.kernel.graph import Graph, NodeId, Path
from headrace.kernel.plan import Start, is_current, plan, run_ended
from headrace.kernel.state import State
from headrace.node import Config, Context, Flow, Node
from headrace.values import TOO_DEEP, Value

logger = logging.getLogger(__name__)

STEPS_PER_SLICE = 200  # instant nodes, rounds and skips, before other runs may proceed


class Driver:
    """Runs one run to its end, or as far as it can go. `drive` may be called once."""

    def __init__(
        self, run: RunId, flow: Flow, environment: EngineEnvironment, conversation: Mapping[str, Value] | None = None
    ) -> None:
        self.run = run
        self.flow = flow
        self.environment = environment
        self.state = State(flow.graph)
        self.state.variables["env"] = flow.environment
        self._conversation = conversation or {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._unwritten: list[Record] = []  # applied, but not yet in the outbox
        self.outbox = Outbox(environment.journal, environment.bus, self._wake.set)
        self._streams = StreamBuffer(flow.mask)
        self._flush_timer: asyncio.TimerHandle | None = None
        self._expired = False

    # ------------------------------------------------------------------------------------------------ the main loop

    async def drive(self, records: Sequence[Record] | None = None) -> State:
        """Continues from the run's records (read from the journal unless given) until the run ends, pauses, or belongs
        to another process. Raises the error of the journal if it cannot append."""
        records = await self.environment.journal.read(self.run) if records is None else records
        for record in records:
            self.state.apply(record)
        if (first := first_event(self.state, records)) is not None:
            self.record(first)
        remaining = remaining_seconds(records, self.environment.limits, self.environment.clock())
        expiry = asyncio.get_running_loop().call_later(remaining, self._expire)
        try:
            while True:
                self._wake.clear()
                slice_ended = self._take_steps()
                self.write()
                if self._is_done():
                    if not await self.outbox.durable() or self._is_done():  # a command may have come meanwhile
                        break
                elif slice_ended:
                    await self.outbox.yield_or_wait()
                else:
                    await self._wake.wait()
        finally:
            expiry.cancel()
            if self._flush_timer:
                self._flush_timer.cancel()
            self.outbox.close()
            if self._tasks:
                await cancel_nodes(self.run, list(self._tasks.values()))
        match self.outbox.failure:
            case None:
                return self.state
            case SequenceConflict():
                return await self._continue_after_conflict()
            case ValueError() as error:
                return await self._end_unstorable(str(error))
            case StoreError(transient=False) as error if not isinstance(error, NewerRecord | NewerSchema):
                return await self._end_unstorable(f"The outputs of the run cannot be stored: {error.reason}")
            case error:
                raise error

    def finish_at_once(self, queued: Record) -> Sequence[Record] | None:
        """All records of a new run to its end or pause, none of which is appended. None if it needs more than a slice,
        or a value cannot be stored. For flows that are `instant` only."""
        self.state.apply(queued)
        self._take_steps()
        return (queued, *self._unwritten) if self._is_done() and self.outbox.failure is None else None

    def stop(self, by: str) -> None:
        """Stops the run; running nodes are cancelled."""
        if not self.state.ended and not self.state.stop:
            self.record(StopRequested(by))
            self._wake.set()

    async def settle(self, outcome: FormOutcome) -> bool:
        """Records what has come of a form. False if the form does not wait, or the run is not driven here any more."""
        form = self.state.forms.get(outcome.path)
        waits = form is not None and form.outcome is None and not self.state.stop
        if waits and self.outbox.failure is None:
            self.record(*([RunResumed()] if self.state.paused else []), outcome)
            self.write()
            self._wake.set()
        return await self.outbox.durable() and waits

    def lose_ownership(self) -> None:
        """Another process has written to the run. The driver would notice at its next append, which may be far off."""
        self.outbox.fail(SequenceConflict(self.run, self.state.seq))

    def _is_done(self) -> bool:
        is_over = self.state.ended is not None or self.outbox.failure is not None
        return is_over or (self.state.paused is not None and not self._tasks and self.state.stop is None)

    def _take_steps(self) -> bool:
        """Takes the steps that can be taken now. True if it stopped only to let other runs proceed."""
        limits = self.environment.limits
        if self._expired and not self.state.ended:
            self._end_run("failed", f"Maximum execution time exceeded: {limits.max_seconds:g} seconds")
        step_count = 0
        while step_count < STEPS_PER_SLICE and self.outbox.failure is None and (steps := plan(self.state)):
            progress = False
            for step in steps:
                if step_count >= STEPS_PER_SLICE:
                    break
                if not is_current(self.state, step):
                    continue
                if not isinstance(step, Start):
                    self.record(self._complete(step))
                    step_count += 1
                    progress = True
                    continue
                if step.path in self._tasks:
                    continue
                if self.state.steps >= limits.max_steps:
                    error = f"Maximum execution steps exceeded: {self.state.steps + 1} > {limits.max_steps}"
                    self._end_run("failed", error)
                    break
                step_count += 1
                progress = self._start_node(step) or progress
            if not progress:
                break
        return step_count >= STEPS_PER_SLICE

    async def _continue_after_conflict(self) -> State:
        """Another process has written to this run. A command (stop) is followed; to a new owner the run is left."""
        records = await self.environment.journal.read(self.run)
        first_lost = self.outbox.first_unconfirmed() or self.state.seq + 1
        conflicting = next((r.event for r in records if r.seq is not None and r.seq >= first_lost), None)
        other = Driver(self.run, self.flow, self.environment, self._conversation)
        if isinstance(conflicting, StopRequested):
            return await other.drive(records)
        if records:  # else its first record could not be appended, and its caller has the error
            logger.info("run %s is driven elsewhere now", self.run)
        for record in records:
            other.state.apply(record)
        return other.state

    async def _end_unstorable(self, error: str) -> State:
        """A node has returned what cannot be stored. Another attempt would not help, so the run ends as failed."""
        logger.error("run %s cannot continue: %s", self.run, error)
        records = await self.environment.journal.read(self.run)
        for bare in (False, True):
            other = Driver(self.run, self.flow, self.environment, self._conversation)
            for record in records:
                other.state.apply(record)
            if other.state.ended:
                break
            # its outputs or usage so far may be what cannot be stored
            other.record(RunEnded("failed", error=error) if bare else run_ended(other.state, "failed", error))
            other.write()
            await other.outbox.durable()
            if not isinstance(other.outbox.failure, StoreError | ValueError):
                break
        if other.outbox.failure is not None:
            raise other.outbox.failure
        return other.state

    def _expire(self) -> None:
        self._expired = True
        self._wake.set()

    def _complete(self, step: Event) -> Event:
        """A planned event with the data that the plan does not have."""
        if isinstance(step, RunStarted):
            return RunStarted(self._conversation)
        if isinstance(step, RunEnded) and self._streams.outputs:
            self.record()  # the text streamed just now is part of the response
            return run_ended(self.state, step.status, step.error)
        return step

    def _end_run(self, status: str, error: str) -> None:
        """Ends the run, though steps may be left."""
        self.record(self._complete(run_ended(self.state, status, error)))

    # --------------------------------------------------------------------------------------------------- recording

    def record(self, *events: Event) -> None:
        """Numbers and applies events, after any streamed text; `_write` appends them to the journal."""
        now, state = self.environment.clock(), self.state
        for event in (*self._streams.drain(), *events) if self._streams.outputs else events:
            record = Record(self.run, state.seq + 1, now, event)
            try:
                state.apply(record)
            except RecursionError:
                return self.outbox.fail(ValueError(TOO_DEEP))
            self._unwritten.append(record)

    def write(self) -> None:
        if self._unwritten:
            records, self._unwritten = self._unwritten, []
            self.outbox.append(records)

    def _flush(self) -> None:
        self._flush_timer = None
        if not self.state.ended and self.outbox.failure is None:
            self.record()
            self.write()

    # ------------------------------------------------------------------------------------------------ running nodes

    def _start_node(self, step: Start) -> bool:
        """Starts a node; True if it has already ended (an instant one)."""
        path = step.path
        instance, id_ = self.state.node_at(path)
        node = self.flow.nodes[id_]
        if not step.restarted:
            self.record(NodeStarted(path))
        if node.instant:
            self._end_node(path, attempt_instant(node, self._context(path, instance, id_), path))
            return True
        self.write()
        self._tasks[path] = asyncio.create_task(self._run_node(path, node), name=f"{self.run}/{path}")
        return False

    async def _run_node(self, path: Path, node: Node[Config]) -> None:
        """Runs a node, attempt after attempt, and records how it ended."""
        try:
            # its start is durable before it has side effects; the run may have been stopped meanwhile
            if not await self.outbox.durable() or self.state.ended:
                return
            instance, id_ = self.state.node_at(path)
            retry = instance.graph.nodes[id_].retry
            outcome = await attempt(node, self._context(path, instance, id_), path)
            while (
                isinstance(outcome, NodeError)
                and retry
                and self._may_retry(instance)
                and self.state.running[path].failures < retry.limit
            ):
                failures = self.state.running[path].failures + 1
                if self._streams.outputs:
                    self.journal_streams(path, ended=True)
                self.record(NodeRetried(path, failures, str(outcome), outcome.kind, outcome.inputs, outcome.process))
                self.write()
                await asyncio.sleep(retry.interval)
                if not self._may_retry(instance):
                    break
                outcome = await attempt(node, self._context(path, instance, id_), path)
            if not self.state.ended and self.outbox.failure is None:
                self._end_node(path, outcome)
        finally:
            self._tasks.pop(path, None)
            self._wake.set()

    def _may_retry(self, instance: GraphInstance) -> bool:
        """Whether another attempt makes sense: the run or the round may have ended meanwhile."""
        return not (instance.cancelled or self.state.failure or self.state.ended or self.outbox.failure)

    def _context(self, path: Path, instance: GraphInstance, id_: NodeId) -> Context:
        emit = partial(self._emit, path, instance.graph, id_)
        step = partial(run_step, self, path)
        return context_of(self.state, path, instance, id_, self.flow, self.environment, emit, step)

    def _end_node(self, path: Path, outcome: Outcome) -> None:
        """Records how a node ended."""
        if self._streams.outputs:
            self.journal_streams(path, ended=True)
        self.record(event_of(outcome, path, self.state))

    # ------------------------------------------------------------------------------------------------ streamed text

    def _emit(self, path: Path, graph: Graph, node: NodeId, name: str, text: str) -> None:
        """Streams text of a node, if it is part of a response."""
        is_streamed = node in graph.reasoning_nodes if name == REASONING else (node, name) in graph.streamed_selectors
        if is_streamed and not self.state.ended:
            self._publish_live(self._streams.append(path, name, text, self.state.running[path].texts))

    def _publish_live(self, delta: Delta | None) -> None:
        """Publishes text at once, and journals it soon."""
        if delta is None:
            return
        self.outbox.publish_live(Record(self.run, None, self.environment.clock(), delta))
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def journal_streams(self, path: Path, *, ended: bool = False) -> None:
        """A step, or the attempt, has ended: the rest of its text is published, and all of it journaled."""
        if self.flow.mask is not None:
            for key in [key for key in self._streams.outputs if key[0] == path]:
                self._publish_live(self._streams.append(*key, "", last=True))
        self.record()
        if ended:
            self._streams.reset(path)
