"""Dispatches again what an engine outside the database has lost.

An append to the journal and the start in the engine are two steps: a process may die between them, an engine may lose
its data, and an operator may end what it does. So one process looks at the unfinished runs to which nothing is added,
and has each of them restored, less and less often while it stays silent: most of them wait for a worker, or for a model
that takes its time, and the engine knows them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from headrace.background import Periodic
from headrace.kernel.events import RunId
from headrace.ports import Claims, ReadyRun
from headrace.runs.service import RunService

_CLAIM = "redispatch"
_EVERY = 5.0  # seconds between looks
_FACTOR = 3  # of the time until a silent run is restored again
_LONGEST = 900.0  # of these times, in seconds
_AT_ONCE = 100  # runs restored in one look


@dataclass(slots=True)
class _Silent:
    """A run whose last record is `seq`."""

    seq: int
    due: float
    pause: float


class Redispatcher:
    """`restore` starts a run unless the engine has it already. A run is silent when nothing was added to it for
    `patience` seconds. `run` continues until it is cancelled."""

    def __init__(
        self,
        run_service: RunService,
        claims: Claims,
        restore: Callable[[ReadyRun], Awaitable[None]],
        patience: float = 10.0,
    ) -> None:
        self._run_service = run_service
        self._claims = claims
        self._restore = restore
        self._patience = patience
        self._silent: dict[RunId, _Silent] = {}
        self._looking = Periodic("looking for runs that were lost", self.look, min(_EVERY, patience))

    async def run(self) -> None:
        await self._looking.run()

    async def look(self) -> None:
        if not await self._claims.claim([_CLAIM]):
            self._silent.clear()
            return
        journal, now = self._run_service.environment.journal, monotonic()
        last = await journal.last_sequences(await journal.unfinished())
        self._silent = {run: self._known(run, seq, now) for run, seq in last.items()}
        due = [run for run, silent in self._silent.items() if silent.due <= now]
        for run in due[:_AT_ONCE]:
            work = await self._run_service.ready_again(run)
            if work is not None:
                await self._restore(work)
            silent = self._silent[run]
            silent.pause = min(silent.pause * _FACTOR, _LONGEST)
            silent.due = now + silent.pause

    def _known(self, run: RunId, seq: int, now: float) -> _Silent:
        since = self._silent.get(run)
        return since if since is not None and since.seq == seq else _Silent(seq, now + self._patience, self._patience)
