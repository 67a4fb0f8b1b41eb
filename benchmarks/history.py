"""A database with the runs of months, written by the store itself."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from headrace.kernel.events import (
    Event,
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunQueued,
    RunStarted,
)
from headrace.stores.sql import SqlStorage

_DAYS = 30
_AT_ONCE = 2000  # runs in flight
_USERS = 200
_FAILED = 0.03  # of all runs


async def fill(database: Path, app: str, runs: int) -> None:
    """Adds `runs` ended runs of an app in its current version, evenly over the last month."""
    store = await SqlStorage.open(f"sqlite:///{database}")
    try:
        app_record = await store.catalog.app(app)
        if app_record is None:
            raise LookupError(f"{database} has no app {app}")
        chance = random.Random(runs)
        now = time.time()
        for start in range(0, runs, _AT_ONCE):
            numbers = range(start, min(runs, start + _AT_ONCE))
            ends = [now - _DAYS * 86_400 * (runs - number) / runs for number in numbers]
            rows = (
                store.journal.append(list(_records(number, app_record.id, app_record.version, at, chance)))
                for number, at in zip(numbers, ends, strict=True)
            )
            await asyncio.gather(*rows)
    finally:
        await store.aclose()


def _records(number: int, app: str, version: str, at: float, chance: random.Random) -> Iterator[Record]:
    run = str(UUID(int=chance.getrandbits(128), version=4))
    seconds = chance.lognormvariate(0, 1)
    for seq, event in enumerate(_events(number, app, version, run, chance), 1):
        yield Record(run, seq, at - seconds / seq, event)


def _events(number: int, app: str, version: str, run: str, chance: random.Random) -> Iterator[Event]:
    query = f"order {number} of {chance.choice(('oolong', 'jasmine', 'sencha'))}, {chance.randrange(50, 500)} g"
    user = f"user-{chance.randrange(_USERS)}"
    yield RunQueued(app, version, f"task-{run}", user, {"query": query}, {})
    yield RunStarted()
    yield NodeStarted("start")
    yield NodeSucceeded("start", {"query": query})
    tokens = chance.randrange(100, 3000)
    if chance.random() < _FAILED:
        yield NodeFailed("end", "ValueError: the shelf is empty", "ValueError")
        yield RunEnded("failed", error="ValueError: the shelf is empty", tokens=tokens, steps=2, node="end")
    else:
        yield RunEnded("succeeded", {"query": query, "text": query.upper() * 5}, tokens=tokens, steps=2)
