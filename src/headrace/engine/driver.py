"""The driver of one run.

It is the only one to number the run's events, so parallel branches need no lock; a second driver, or anyone who appends
a command, is noticed by the journal's SequenceConflict.

The disk is waited for only where something leaves the process: before a node that may touch the world starts, and
before a follower is told. Instant nodes run ahead of the journal, in line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from headrace.engine.attempts import HOPELESS, MOST_RECOVERIES, Outcome, attempt, event_of, finish_now, fruitless
from headrace.engine.environment import World
from headrace.engine.outbox import Outbox
from headrace.engine.stream_buffer import FLUSH_SECONDS, Texts
from headrace.errors import NodeError, SequenceConflict, StoreError
from headrace.kernel.containers import Level
from headrace.kernel.events import (
    THOUGHT,
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
from headrace.kernel.path import NodeId, Path
from headrace.kernel.plan import Start, ended, plan, still_due
from headrace.kernel.secrets import Mask
from headrace.kernel.state import State
from headrace.node import Config, Context, Flow, Node
from headrace.values import TOO_DEEP, Value

logger = logging.getLogger(__name__)

TURN = 200  # steps taken in line (instant nodes, rounds, skips) before other runs get a turn
GRACE_SECONDS = 5.0  # for nodes to let go once they are cancelled


class Driver:
    """Runs one run to its end, or as far as it can go. `drive` may be called once."""

    def __init__(self, run: RunId, flow: Flow, world: World, conversation: Mapping[str, Value] | None = None) -> None:
        self.run = run
        self.flow = flow
        self.world = world
        self.state = State(flow.graph)
        self.state.variables["env"] = flow.environment
        self._conversation = conversation or {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._fresh: list[Record] = []  # applied, not yet handed to the journal
        self._outbox = Outbox(world.journal, world.bus, self._wake.set)
        self._texts = Texts(Mask(flow.secrets))
        self._flush_timer: asyncio.TimerHandle | None = None
        self._expired = False

    # ------------------------------------------------------------------------------------------------ the main loop

    async def drive(self, records: Sequence[Record] | None = None) -> State:
        """Goes on from the run's records (read from the journal unless given) until it ends, pauses, or is somebody
        else's. Raises what the journal raises when it cannot write."""
        records = await self.world.journal.read(self.run) if records is None else records
        for record in records:
            self.state.apply(record)
        resumed = bool(self.state.interrupted) and records[-1].event == RunResumed()  # and so told already
        if self.state.running and not resumed and not self.state.paused:
            hopeless = fruitless(records) >= MOST_RECOVERIES
            self._note(ended(self.state, "failed", HOPELESS) if hopeless else RunResumed(recovered=True))
        since = self.state.started_at or self.world.clock()
        remaining = max(0.0, self.world.limits.max_seconds - (self.world.clock() - since))
        expiry = asyncio.get_running_loop().call_later(remaining, self._expire)
        try:
            while not self._over():
                self._wake.clear()
                turn_ended = self._advance()
                if self._over():
                    break
                if turn_ended:
                    await self._outbox.room()
                else:
                    await self._wake.wait()
            self._write()
            await self._outbox.durable()
        finally:
            expiry.cancel()
            if self._flush_timer:
                self._flush_timer.cancel()
            self._outbox.close()
            await self._cancel()
        match self._outbox.broken:
            case None:
                return self.state
            case SequenceConflict():
                return await self._overtaken()
            case ValueError() as error:
                return await self._refused(str(error))
            case StoreError(transient=False) as error:
                return await self._refused(f"What the run put out cannot be stored: {error.reason}")
            case error:
                raise error

    def stop(self, by: str) -> None:
        """Asks the run to stop; the nodes that are running are cancelled."""
        if not self.state.ended and not self.state.stop:
            self._note(StopRequested(by))
            self._wake.set()

    def overtaken(self) -> None:
        """Tells that somebody else has written to the run, which the driver sees otherwise once it writes: a node that
        takes long need not end for that."""
        self._outbox.give_up(SequenceConflict(self.run, self.state.seq))

    def _over(self) -> bool:
        if self.state.ended or self._outbox.broken is not None:
            return True
        return self.state.paused is not None and not self._tasks and self.state.stop is None

    def _advance(self) -> bool:
        """Takes every step that can be taken now. True if it stopped only to let others have a turn."""
        limits = self.world.limits
        if self._expired and not self.state.ended:
            self._finish("failed", f"Maximum execution time exceeded: {limits.max_seconds:g} seconds")
        taken = 0
        while taken < TURN and self._outbox.broken is None and (steps := plan(self.state)):
            moved = False
            for step in steps:
                if taken >= TURN:
                    break
                if not still_due(self.state, step):
                    continue
                if not isinstance(step, Start):
                    self._note(self._completed(step))
                    taken += 1
                    moved = True
                    continue
                if step.path in self._tasks:
                    continue
                if self.state.steps >= limits.max_steps:
                    over = f"Maximum execution steps exceeded: {self.state.steps + 1} > {limits.max_steps}"
                    self._finish("failed", over)
                    break
                taken += 1
                moved = self._start(step) or moved
            if not moved:
                break
        self._write()
        return taken >= TURN

    async def _overtaken(self) -> State:
        """Somebody else wrote to this run. A command (stop) is obeyed from the journal; a new owner is left alone."""
        records = await self.world.journal.read(self.run)
        lost = self._outbox.first_unsafe() or self.state.seq + 1
        theirs = next((r.event for r in records if r.seq is not None and r.seq >= lost), None)
        again = Driver(self.run, self.flow, self.world, self._conversation)
        if isinstance(theirs, StopRequested):
            return await again.drive(records)
        if records:  # else its beginning could not be written, and its caller knows
            logger.info("run %s is driven elsewhere now", self.run)
        for record in records:
            again.state.apply(record)
        return again.state

    async def _refused(self, error: str) -> State:
        """A node put out what cannot be written down: tried again it would be the same, so the run ends there."""
        logger.error("run %s cannot go on: %s", self.run, error)
        records = await self.world.journal.read(self.run)
        for bare in (False, True):
            again = Driver(self.run, self.flow, self.world, self._conversation)
            for record in records:
                again.state.apply(record)
            if again.state.ended:
                break
            # it may be what it put out or used until then that cannot be written
            again._note(RunEnded("failed", error=error) if bare else ended(again.state, "failed", error))
            again._write()
            await again._outbox.durable()
            if not isinstance(again._outbox.broken, StoreError | ValueError):
                break
        if again._outbox.broken is not None:
            raise again._outbox.broken
        return again.state

    def _expire(self) -> None:
        self._expired = True
        self._wake.set()

    async def _cancel(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            _, stubborn = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
            for task in stubborn:
                logger.error("run %s: a node did not let go within %g s: %s", self.run, GRACE_SECONDS, task.get_name())

    def _completed(self, step: Event) -> Event:
        """A step of the plan with what the plan does not know."""
        if isinstance(step, RunStarted):
            return RunStarted(self._conversation)
        if isinstance(step, RunEnded) and self._texts:
            self._note()  # what was streamed just now was said, too
            return ended(self.state, step.status, step.error)
        return step

    def _finish(self, status: str, error: str) -> None:
        """Ends the run before its time."""
        self._note(self._completed(ended(self.state, status, error)))

    # ------------------------------------------------------------------------------------------------ writing down

    def _note(self, *events: Event) -> None:
        """Numbers events and takes them in; `_write` hands them to the journal, after any streamed text."""
        now = self.world.clock()
        for event in (*self._texts.take(), *events) if self._texts else events:
            record = Record(self.run, self.state.seq + 1, now, event)
            try:
                self.state.apply(record)
            except RecursionError:
                return self._outbox.give_up(ValueError(TOO_DEEP))
            self._fresh.append(record)

    def _write(self) -> None:
        if self._fresh:
            records, self._fresh = self._fresh, []
            self._outbox.write(records)

    def _flush(self) -> None:
        self._flush_timer = None
        if not self.state.ended and self._outbox.broken is None:
            self._note()
            self._write()

    # ------------------------------------------------------------------------------------------------ running nodes

    def _start(self, step: Start) -> bool:
        """Starts a node; True if it has ended already (an instant one)."""
        node = self.flow.nodes[self.state.locate(step.path)[1]]
        if not step.again:
            self._note(NodeStarted(step.path))
        if node.instant:
            self._end(step.path, finish_now(attempt(node, self._context(step.path), step.path)))
            return True
        self._write()
        self._tasks[step.path] = asyncio.create_task(self._run(step.path, node), name=f"{self.run}/{step.path}")
        return False

    async def _run(self, path: Path, node: Node[Config]) -> None:
        """Runs a node, attempt after attempt, and takes down how it ended."""
        try:
            # the start is on disk before the world is touched; the run may have been stopped meanwhile
            if not await self._outbox.durable() or self.state.ended:
                return
            level, id_ = self.state.locate(path)
            retry = level.graph.nodes[id_].retry
            outcome = await attempt(node, self._context(path), path)
            while (
                isinstance(outcome, NodeError)
                and retry
                and self._wanted(level)
                and self.state.running[path].failures < retry.limit
            ):
                failed = self.state.running[path].failures + 1
                self._end_texts(path)
                self._note(NodeRetried(path, failed, str(outcome), outcome.kind, outcome.inputs, outcome.process))
                self._write()
                await asyncio.sleep(retry.interval)
                if not self._wanted(level):
                    break
                outcome = await attempt(node, self._context(path), path)
            if not self.state.ended and self._outbox.broken is None:
                self._end(path, outcome)
        finally:
            self._tasks.pop(path, None)
            self._wake.set()

    def _wanted(self, level: Level) -> bool:
        """Whether another attempt is of any use: the run, or the round, may have come to its end meanwhile."""
        return not (level.dead or self.state.failure or self.state.ended or self._outbox.broken)

    def _context(self, path: Path) -> Context:
        queued = self.state.queued
        assert queued is not None
        running = self.state.running[path]
        level, id_ = self.state.locate(path)
        return Context(
            run=self.run,
            app=queued.app,
            user=queued.user,
            spec=level.graph.nodes[id_],
            variables=level.variables,
            inputs=queued.inputs,
            resources=self.world.resources,
            limits=self.world.limits,
            emit=self._emitter(path, level, id_) if level.graph.told else _unheard,
            key=f"{self.run}/{path}/{running.failures}",
            new_id=self.world.new_id,
            types=self.flow.types,
        )

    def _end(self, path: Path, outcome: Outcome) -> None:
        """Takes down how a node ended."""
        self._end_texts(path)
        self._note(event_of(outcome, path, self.state))

    # ------------------------------------------------------------------------------------------------ streamed text

    def _emitter(self, path: Path, level: Level, id_: NodeId) -> Callable[[str, str], None]:
        told, thinks = level.graph.told, id_ in level.graph.thinking

        def emit(name: str, text: str) -> None:
            if ((id_, name) in told or (thinks and name == THOUGHT)) and not self.state.ended:
                self._tell(self._texts.grow(path, name, text))

        return emit

    def _tell(self, delta: Delta | None) -> None:
        """Tells followers at once, and the journal soon."""
        if delta is None:
            return
        self._outbox.tell(Record(self.run, None, self.world.clock(), delta))
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _end_texts(self, path: Path) -> None:
        """An attempt is over: what it streamed is noted, and the next one begins anew."""
        if self._texts:
            for delta in self._texts.end(path):
                self._tell(delta)
            self._note()
            self._texts.forget(path)


def _unheard(name: str, text: str) -> None:
    """Nothing that this node streams is ever told."""
