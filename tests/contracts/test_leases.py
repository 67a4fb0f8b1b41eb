"""Which worker goes on with which run."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from time import time

import pytest
from sqlalchemy import Double, literal, select, update

from headrace.dispatch import LOOK_SECONDS
from headrace.errors import StoreError
from headrace.kernel.events import NodeStarted, RunEnded, RunPaused, RunResumed, RunStarted, StopRequested
from headrace.ports import CALLBACK, Storage
from headrace.stores.sql import SqlStorage, leases
from headrace.stores.sql.schema import workers

from .examples import numbered, queued, whole

Two = tuple[SqlStorage, SqlStorage]


# ---------------------------------------------------------------------------------------------- what every store does


async def test_unfinished_runs_are_adrift_oldest_first(store: Storage) -> None:
    assert await store.leases.heartbeat() is False
    await store.journal.append(numbered("second", [queued("second")], at=2000))
    await store.journal.append(numbered("first", [queued("first"), RunStarted()], at=1000))
    await store.journal.append(numbered("paused", [queued("paused"), RunStarted(), RunPaused()]))
    await store.journal.append(whole("done"))
    assert await store.leases.orphaned() == ["first", "second"]
    await store.journal.append(numbered("first", [RunEnded("stopped")], after=2))
    assert await store.leases.orphaned() == ["second"]


@pytest.mark.parametrize("working", [True, False])
async def test_a_run_of_its_own_can_be_taken_up_again_and_again(store: Storage, working: bool) -> None:
    if working:
        await store.leases.heartbeat()
    await store.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    assert await store.leases.acquire(["r1"]) == {"r1"}
    assert await store.leases.acquire(["r1"]) == {"r1"}
    await store.leases.release()
    assert await store.leases.orphaned() == ["r1"]
    assert await store.leases.acquire(["r1"]) == {"r1"}


async def test_an_unknown_run_cannot_be_taken_up(store: Storage) -> None:
    await store.leases.heartbeat()
    assert await store.leases.acquire(["nobody"]) == set()
    assert await store.leases.acquire(["\0\ud800' OR 1=1 --"]) == set()


# ------------------------------------------------------------------------------------------ two workers, one database


@pytest.fixture
async def two(url: str) -> AsyncIterator[Two]:
    mine, other = [await SqlStorage.open(url) for _ in range(2)]
    await mine.leases.heartbeat()
    await other.leases.heartbeat()
    yield mine, other
    await mine.aclose()
    await other.aclose()


async def test_the_runs_of_one_are_not_adrift_for_the_other(two: Two) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1")]))
    await mine.journal.append(numbered("r2", [queued("r2"), RunStarted(), NodeStarted("n")]))
    assert await mine.leases.orphaned() == ["r1", "r2"]
    assert await other.leases.orphaned() == []
    assert await other.leases.acquire(["r1"]) == set()
    assert await other.leases.acquire(["r2"]) == set()
    assert await other.journal.unfinished() == ["r1", "r2"], "they are unfinished all the same"


async def test_a_run_of_a_process_that_does_none_is_anybodys(two: Two, url: str) -> None:
    idle = await SqlStorage.open(url)
    await idle.journal.append(numbered("r1", [queued("r1")]))
    for store in two:
        assert await store.leases.orphaned() == ["r1"]
    await two[1].journal.append(numbered("r1", [RunStarted()], after=1))
    assert await two[0].leases.orphaned() == []
    assert await two[1].leases.orphaned() == ["r1"], "the first one to begin has it"
    await idle.aclose()


async def test_of_many_who_would_take_a_run_up_one_gets_it(two: Two, url: str) -> None:
    idle = await SqlStorage.open(url)
    names = [f"r{n}" for n in range(20)]
    for name in names:
        await idle.journal.append(numbered(name, [queued(name), RunStarted()]))
    parts = [names[:12], names[::-1], names[12:]]
    acquired = await asyncio.gather(*(store.leases.acquire(part) for part in parts for store in two))
    owned = [set[str]().union(*acquired[n::2]) for n in range(2)]
    assert (owned[0] | owned[1], owned[0] & owned[1]) == ({*names}, set())
    taken = [await store.leases.orphaned() for store in two]
    assert sorted([*taken[0], *taken[1]]) == sorted(names)
    await idle.aclose()


async def test_a_paused_run_is_whose_who_resumes_it(two: Two) -> None:
    mine, other = two
    for run in ("resumed", "stopped"):
        await mine.journal.append(numbered(run, [queued(run), RunStarted(), RunPaused()]))
    await other.journal.append(numbered("resumed", [RunResumed()], after=3))
    assert (await mine.leases.orphaned(), await other.leases.orphaned()) == ([], ["resumed"])
    await other.journal.append(numbered("stopped", [StopRequested("ada")], after=3))
    assert sorted(await other.leases.orphaned()) == ["resumed", "stopped"], "what is to be stopped anybody may end"


async def test_what_is_handed_back_is_anybodys_but_not_what_is_kept(two: Two) -> None:
    mine, other = two
    for at, run in enumerate(("kept", "waits", "begun")):
        await mine.journal.append(numbered(run, [queued(run)], at=at))
    await mine.journal.append(numbered("begun", [RunStarted()], after=1))
    await mine.leases.release({"kept": 1}.keys())
    assert await other.leases.orphaned() == ["waits", "begun"]
    # the first one had it at hand and takes it up again: then it is its own again
    await mine.journal.append(numbered("begun", [RunResumed(recovered=True)], after=2))
    assert await other.leases.orphaned() == ["waits"]
    assert await other.leases.acquire(["begun"]) == set()


async def test_more_can_be_handed_back_than_one_statement_takes(two: Two) -> None:
    mine, other = two
    names = [f"r{n:04}" for n in range(1100)]
    await asyncio.gather(*(mine.journal.append(numbered(name, [queued(name)])) for name in names))
    await mine.leases.release(names[:5])
    assert sorted(await other.leases.orphaned()) == names[5:]


async def test_whoever_closes_leaves_its_runs_to_others_at_once(two: Two) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    await mine.aclose()
    assert await other.leases.orphaned() == ["r1"]
    assert await other.leases.acquire(["r1"]) == {"r1"}


async def test_one_run_can_be_given_up(two: Two) -> None:
    mine, other = two
    await mine.leases.heartbeat()
    for name in ("r1", "r2"):
        await mine.journal.append(numbered(name, [queued(name), RunStarted()]))
    await other.leases.disown("r1")
    assert await other.leases.orphaned() == [], "it is another's"
    await mine.leases.disown("r1")
    await mine.leases.disown("nobody")
    assert await other.leases.orphaned() == ["r1"]
    assert await other.leases.acquire(["r1"])
    await mine.journal.append(numbered("r2", [RunEnded("succeeded")], after=2))
    assert await other.leases.orphaned() == ["r1"]


async def test_what_the_other_writes_to_a_run_is_seen(two: Two) -> None:
    mine, other = two
    names = [f"r{n}" for n in range(1100)]  # more than one statement takes
    await asyncio.gather(*(mine.journal.append(numbered(name, [queued(name), RunStarted()])) for name in names))
    await mine.leases.heartbeat()  # hears of the other
    assert mine.leases.shared
    assert await mine.journal.last_sequences(names) == dict.fromkeys(names, 2)
    await other.journal.append(numbered("r7", [StopRequested("ada"), RunEnded("stopped")], after=2))
    assert await mine.journal.last_sequences({"r7": 1, "nobody": 2}.keys()) == {"r7": 4}
    assert await mine.journal.last_sequences([]) == {}


async def test_a_worker_alone_knows_that_it_is(store: Storage) -> None:
    await store.leases.heartbeat()
    assert not store.leases.shared


_DIES = """
import asyncio, os, signal, sys
from headrace.kernel.events import RunStarted
from headrace.stores.sql import SqlStorage
from tests.contracts.examples import numbered, queued

async def main():
    store = await SqlStorage.open(sys.argv[1])
    await store.leases.heartbeat()
    await store.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def _killed(url: str) -> subprocess.Popen[bytes]:
    """A process that has ended, and whose parent has not waited for it yet."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", _DIES, url], cwd=root)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


async def test_a_killed_process_of_this_host_is_dead_at_once(two: Two, url: str) -> None:
    with await asyncio.to_thread(_killed, url):
        assert await two[0].leases.orphaned() == [], "nobody has looked yet"
        assert await two[0].leases.heartbeat() is True
        assert await two[0].leases.orphaned() == ["r1"]
        assert await two[1].leases.heartbeat() is False, "it has been found already"
        assert await two[1].leases.acquire(["r1"]) == {"r1"}
        assert await two[0].leases.orphaned() == []


async def test_a_process_that_is_no_more_is_dead_at_once(two: Two, url: str) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1")]))
    _edit(mine, "pid = 99999999")
    assert await other.leases.heartbeat() is True
    assert await other.leases.orphaned() == ["r1"]


def _edit(store: SqlStorage, change: str) -> None:
    """Changes the row of the worker that owns r1."""
    with store.database.engine.connect() as connection:
        changed = connection.exec_driver_sql(f"UPDATE workers SET {change} WHERE id = (SELECT owner FROM runs)")
        assert changed.rowcount == 1


async def test_another_process_with_the_same_id_is_not_taken_for_it(two: Two, url: str) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    _edit(mine, "began = '1'")
    assert await other.leases.heartbeat() is True
    assert await other.leases.orphaned() == ["r1"]


class Clock:
    """The clock of the database."""

    now = 1000.0

    async def look(self, store: SqlStorage, seconds: float = 1.0) -> bool:
        """Whether a worker finds another one dead so many seconds later."""
        self.now += seconds
        return await store.leases.heartbeat()

    async def looks_until_dead(self, store: SqlStorage) -> int:
        """Looks each second."""
        for look in range(1, 60):
            if await self.look(store):
                return look
        raise AssertionError("it has not been found dead")


@pytest.fixture
def clock(two: Two, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leases, "clock", lambda _: literal(clock.now, Double))
    return clock


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_nobody_is_taken_for_dead_because_the_database_was_away(
    two: Two, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    _edit(mine, "host = 'elsewhere'")
    assert await clock.look(other) is False
    holder = sqlite3.connect(tmp_path / "headrace.db", isolation_level=None)
    monkeypatch.setattr("headrace.stores.sql.database.BUSY_SECONDS", 0.05)
    other.database.engine.dispose()
    holder.execute("BEGIN IMMEDIATE")
    other.writer._connection = None  # a new one, which does not wait for long
    with pytest.raises(StoreError):
        await clock.look(other, leases.RENEW_SECONDS)
    holder.execute("ROLLBACK")
    holder.close()
    assert await clock.look(other, 4 * leases.LEASE_SECONDS) is False
    assert await other.leases.orphaned() == []
    assert await clock.looks_until_dead(other) == 16, "it has not shown itself since"


@pytest.mark.parametrize("jump", [60, 3600, -3600])
async def test_nobody_is_dead_for_one_lease_after_the_database_or_its_clock_was_away(
    two: Two, clock: Clock, jump: float
) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1")]))
    await mine.leases.heartbeat()
    _edit(mine, "host = 'elsewhere'")
    for _ in range(10):
        assert await clock.look(other) is False
    assert await clock.look(other, jump) is False
    assert await clock.looks_until_dead(other) == 16


async def test_what_no_living_worker_has_begun_is_undriven_that_of_dead_ones_first(two: Two, url: str) -> None:
    mine, other = two
    idle = await SqlStorage.open(url)
    await idle.journal.append(numbered("waits", [queued("waits")], at=1000))
    await other.journal.append(numbered("accepted", [queued("accepted")], at=1001))
    for at, (store, run) in enumerate([(other, "other's"), (mine, "mine"), (other, "other's too")], 1002):
        await store.journal.append(numbered(run, [queued(run)], at=at))
        await store.journal.append(numbered(run, [RunStarted(), NodeStarted("n")], at=at, after=1))
    await other.journal.append(numbered("ended", [queued("ended"), RunStarted(), RunEnded("succeeded")]))
    await other.journal.append(numbered("paused", [queued("paused"), RunStarted(), RunPaused()]))
    assert await mine.leases.undriven(10) == ["waits", "accepted"]
    assert await mine.leases.living_workers() == {mine.leases.worker, other.leases.worker}
    with other.database.engine.connect() as connection:
        dead = update(workers).where(workers.c.id == other.leases.worker).values(pid=99999999)
        connection.execute(dead)
        connection.commit()
    assert await mine.leases.heartbeat() is True
    assert await mine.leases.living_workers() == {mine.leases.worker}
    # what a dead worker has accepted may be in an engine that gives it to others
    assert await mine.leases.undriven(10) == ["accepted", "other's", "other's too", "waits"]
    assert await mine.leases.undriven(2) == ["accepted", "other's"]
    await idle.aclose()


async def test_a_lease_expires_that_is_not_renewed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _ = two
    now = leases.monotonic()
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    await mine.leases.heartbeat()
    assert not mine.leases.expired
    now += leases.LEASE_SECONDS + 0.1
    assert mine.leases.expired
    await mine.leases.heartbeat()
    assert not mine.leases.expired


async def test_a_silent_worker_is_found_dead_when_its_lease_expires(two: Two, clock: Clock) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1")]))
    await mine.leases.heartbeat()
    _edit(mine, "host = 'elsewhere'")
    renewed_at = clock.now
    assert await clock.look(other, 0.0) is False
    assert await clock.look(other, 0.3) is False, "so that it does not look at full seconds"
    while not await clock.look(other, min(LOOK_SECONDS, other.leases.next_expiry)):
        assert clock.now < renewed_at + 60
    assert leases.LEASE_SECONDS < clock.now - renewed_at < leases.LEASE_SECONDS + 0.1


@pytest.mark.parametrize("names", [["a"], [f"claim {n}" for n in range(1200)]], ids=["one", "many"])
async def test_of_two_who_claim_one_gets_it_until_it_lets_go(two: Two, names: list[str]) -> None:
    mine, other = two
    got = await asyncio.gather(mine.claims.claim(names), other.claims.claim(names))
    assert sorted(got[0] | got[1]) == sorted(names)
    assert not got[0] & got[1]
    first, second = (mine, other) if names[0] in got[0] else (other, mine)
    assert await second.claims.claim(names[:1]) == set()
    assert await first.claims.claim(names[:1]) == set(names[:1]), "it has it already"
    await second.claims.release(names[:1])
    assert await second.claims.claim(names[:1]) == set(), "it was not its own to release"
    await first.claims.release(names[:1])
    assert await second.claims.claim(names[:1]) == set(names[:1])


async def test_what_one_that_is_gone_has_claimed_is_anybodys(two: Two) -> None:
    mine, other = two
    await mine.claims.claim(["a", "b"])
    assert await other.claims.claim(["a"]) == set()
    await mine.leases.leave()
    assert await other.claims.claim(["a", "b"]) == {"a", "b"}


async def test_a_callback_that_is_claimed_is_due_nowhere(two: Two) -> None:
    mine, other = two
    await mine.journal.append(
        numbered("r1", [replace(queued("r1"), callback="http://x/"), RunStarted(), RunEnded("stopped")])
    )
    [due] = await other.callbacks.due_callbacks(1e12)
    await mine.claims.claim([f"{CALLBACK}{due.id}"])
    assert await other.callbacks.due_callbacks(1e12) == await mine.callbacks.due_callbacks(1e12) == []
    await mine.leases.leave()
    assert await other.callbacks.due_callbacks(1e12) == [due]


async def test_one_elsewhere_is_dead_after_a_lease_of_silence(two: Two, clock: Clock) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    await mine.leases.heartbeat()
    _edit(mine, "host = 'elsewhere', pid = 99999999")  # a process id of nobody here
    for _ in range(15):
        assert await clock.look(other) is False
    assert await other.leases.orphaned() == []
    await mine.leases.heartbeat()
    _edit(mine, "host = 'elsewhere', pid = 99999999")
    assert await clock.look(other, 0.5) is False
    assert await clock.looks_until_dead(other) == 15, "15.5 s after it has shown itself"
    assert await other.leases.orphaned() == ["r1"]

    # it was not dead: it has what it has begun since, and what nobody has taken up meanwhile
    assert await mine.leases.orphaned() == ["r1"]
    await mine.leases.heartbeat()
    assert await other.leases.orphaned() == []
    assert await other.leases.acquire(["r1"]) == set()


@pytest.mark.parametrize("off", [-3600, 3600])
async def test_a_worker_whose_own_clock_is_an_hour_off_is_dead_no_sooner_or_later(
    two: Two, clock: Clock, off: float
) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1")]))

    def show() -> None:  # as versions did that took their own clock
        _edit(mine, f"host = 'elsewhere', seen_at = {clock.now + off}")

    show()
    assert await clock.look(other) is False
    for _ in range(20):
        show()
        assert await clock.look(other) is False
    assert leases.LEASE_SECONDS < 1 + await clock.looks_until_dead(other) <= leases.LEASE_SECONDS + 2


async def test_a_worker_shows_the_time_of_the_database(two: Two, clock: Clock) -> None:
    mine, _ = two

    async def seen_at() -> float:
        rows = await mine.database.rows(select(workers.c.seen_at).where(workers.c.id == mine.leases.worker))
        return rows[0]["seen_at"]

    await clock.look(mine)
    assert await seen_at() == 1001
    await clock.look(mine)
    assert await seen_at() == 1001, "it is not renewed at each look"
    await clock.look(mine, 2)
    assert await seen_at() == 1004


async def test_the_clock_of_a_database_counts_seconds(two: Two) -> None:
    before = time()
    now = await two[0].database.run(lambda connection: connection.scalar(select(leases.clock(connection))))
    assert now is not None
    assert before - 1 <= now <= time() + 1


async def test_one_whose_host_nobody_knows_is_heard_of_by_its_row_alone(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = two
    await mine.journal.append(numbered("r1", [queued("r1")]))
    _edit(mine, "host = NULL, pid = 99999999, began = NULL")
    monkeypatch.setattr(leases, "_host", lambda: None)
    assert await other.leases.heartbeat() is False
    assert await other.leases.orphaned() == []
