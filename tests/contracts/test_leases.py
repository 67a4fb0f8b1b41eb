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

import pytest

from headrace.errors import StoreError
from headrace.kernel.events import NodeStarted, RunEnded, RunPaused, RunResumed, RunStarted, StopRequested
from headrace.ports import CALLBACK, Journal
from headrace.stores.sql import SqlStore, leases

from .examples import numbered, queued, whole

Two = tuple[SqlStore, SqlStore]


# ---------------------------------------------------------------------------------------------- what every store does


async def test_unfinished_runs_are_adrift_oldest_first(store: Journal) -> None:
    assert await store.alive() is False
    await store.append(numbered("second", [queued("second")], at=2000))
    await store.append(numbered("first", [queued("first"), RunStarted()], at=1000))
    await store.append(numbered("paused", [queued("paused"), RunStarted(), RunPaused()]))
    await store.append(whole("done"))
    assert await store.adrift() == ["first", "second"]
    await store.append(numbered("first", [RunEnded("stopped")], after=2))
    assert await store.adrift() == ["second"]


@pytest.mark.parametrize("working", [True, False])
async def test_a_run_of_its_own_can_be_taken_up_again_and_again(store: Journal, working: bool) -> None:
    if working:
        await store.alive()
    await store.append(numbered("r1", [queued("r1"), RunStarted()]))
    assert await store.take_up("r1") is True
    assert await store.take_up("r1") is True
    await store.hand_back()
    assert await store.adrift() == ["r1"]
    assert await store.take_up("r1") is True


async def test_an_unknown_run_cannot_be_taken_up(store: Journal) -> None:
    await store.alive()
    assert await store.take_up("nobody") is False
    assert await store.take_up("\0\ud800' OR 1=1 --") is False


# ------------------------------------------------------------------------------------------ two workers, one database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "headrace.db"


@pytest.fixture
async def two(file: Path) -> AsyncIterator[Two]:
    mine, other = [await SqlStore.open(f"sqlite:///{file}") for _ in range(2)]
    await mine.alive()
    await other.alive()
    yield mine, other
    await mine.aclose()
    await other.aclose()


async def test_the_runs_of_one_are_not_adrift_for_the_other(two: Two) -> None:
    mine, other = two
    await mine.append(numbered("r1", [queued("r1")]))
    await mine.append(numbered("r2", [queued("r2"), RunStarted(), NodeStarted("n")]))
    assert await mine.adrift() == ["r1", "r2"]
    assert await other.adrift() == []
    assert await other.take_up("r1") is False
    assert await other.take_up("r2") is False
    assert await other.unfinished() == ["r1", "r2"], "they are unfinished all the same"


async def test_a_run_of_a_process_that_does_none_is_anybodys(two: Two, file: Path) -> None:
    idle = await SqlStore.open(f"sqlite:///{file}")
    await idle.append(numbered("r1", [queued("r1")]))
    for store in two:
        assert await store.adrift() == ["r1"]
    await two[1].append(numbered("r1", [RunStarted()], after=1))
    assert await two[0].adrift() == []
    assert await two[1].adrift() == ["r1"], "whoever begins with it has it"
    await idle.aclose()


async def test_of_many_who_would_take_a_run_up_one_gets_it(two: Two, file: Path) -> None:
    idle = await SqlStore.open(f"sqlite:///{file}")
    names = [f"r{n}" for n in range(20)]
    for name in names:
        await idle.append(numbered(name, [queued(name), RunStarted()]))
    told = await asyncio.gather(*(store.take_up(name) for name in names for store in two))
    assert [told[n : n + 2].count(True) for n in range(0, 40, 2)] == [1] * 20
    taken = [await store.adrift() for store in two]
    assert sorted([*taken[0], *taken[1]]) == sorted(names)
    await idle.aclose()


async def test_a_paused_run_is_whose_who_resumes_it(two: Two) -> None:
    mine, other = two
    for run in ("resumed", "stopped"):
        await mine.append(numbered(run, [queued(run), RunStarted(), RunPaused()]))
    await other.append(numbered("resumed", [RunResumed()], after=3))
    assert (await mine.adrift(), await other.adrift()) == ([], ["resumed"])
    await other.append(numbered("stopped", [StopRequested("ada")], after=3))
    assert sorted(await other.adrift()) == ["resumed", "stopped"], "what is to be stopped anybody may end"


async def test_what_is_handed_back_is_anybodys_but_not_what_is_kept(two: Two) -> None:
    mine, other = two
    for run in ("kept", "waits", "begun"):
        await mine.append(numbered(run, [queued(run)]))
    await mine.append(numbered("begun", [RunStarted()], after=1))
    await mine.hand_back({"kept": 1}.keys())
    assert await other.adrift() == ["waits", "begun"]
    # the first one had it at hand and takes it up again: then it is its own again
    await mine.append(numbered("begun", [RunResumed(recovered=True)], after=2))
    assert await other.adrift() == ["waits"]
    assert await other.take_up("begun") is False


async def test_more_can_be_handed_back_than_one_statement_takes(two: Two) -> None:
    mine, other = two
    names = [f"r{n:04}" for n in range(1100)]
    await asyncio.gather(*(mine.append(numbered(name, [queued(name)])) for name in names))
    await mine.hand_back(names[:5])
    assert sorted(await other.adrift()) == names[5:]


async def test_whoever_closes_leaves_its_runs_to_others_at_once(two: Two) -> None:
    mine, other = two
    await mine.append(numbered("r1", [queued("r1"), RunStarted()]))
    await mine.aclose()
    assert await other.adrift() == ["r1"]
    assert await other.take_up("r1") is True


async def test_what_the_other_writes_to_a_run_is_seen(two: Two) -> None:
    mine, other = two
    names = [f"r{n}" for n in range(1100)]  # more than one statement takes
    await asyncio.gather(*(mine.append(numbered(name, [queued(name), RunStarted()])) for name in names))
    await mine.alive()  # hears of the other
    assert await mine.heads(names) == dict.fromkeys(names, 2)
    await other.append(numbered("r7", [StopRequested("ada"), RunEnded("stopped")], after=2))
    assert await mine.heads({"r7": 1, "nobody": 2}.keys()) == {"r7": 4}
    assert await mine.heads([]) == {}


async def test_where_nobody_else_works_no_run_is_looked_at(store: Journal) -> None:
    await store.alive()
    await store.append(numbered("r1", [queued("r1"), RunStarted()]))
    assert await store.heads(["r1"]) == {}


_DIES = """
import asyncio, os, signal, sys
from headrace.kernel.events import RunStarted
from headrace.stores.sql import SqlStore
from tests.contracts.examples import numbered, queued

async def main():
    store = await SqlStore.open(sys.argv[1])
    await store.alive()
    await store.append(numbered("r1", [queued("r1"), RunStarted()]))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def _killed(file: Path) -> subprocess.Popen[bytes]:
    """A process that has ended, and whose parent has not asked for it yet."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", _DIES, f"sqlite:///{file}"], cwd=root)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


async def test_a_killed_process_of_this_host_is_dead_at_once(two: Two, file: Path) -> None:
    with await asyncio.to_thread(_killed, file):
        assert await two[0].adrift() == [], "nobody has looked yet"
        assert await two[0].alive() is True
        assert await two[0].adrift() == ["r1"]
        assert await two[1].alive() is False, "it has been found already"
        assert await two[1].take_up("r1") is True
        assert await two[0].adrift() == []


async def test_a_process_that_is_no_more_is_dead_at_once(two: Two, file: Path) -> None:
    mine, other = two
    await mine.append(numbered("r1", [queued("r1")]))
    _edit(file, "pid = ?", 99_999_999)
    assert await other.alive() is True
    assert await other.adrift() == ["r1"]


def _edit(file: Path, change: str, *values: object) -> None:
    """Changes the row of the worker that owns r1."""
    connection = sqlite3.connect(file)
    changed = connection.execute(f"UPDATE workers SET {change} WHERE id = (SELECT owner FROM runs)", values)
    assert changed.rowcount == 1
    connection.commit()
    connection.close()


async def test_another_process_with_the_same_id_is_not_taken_for_it(two: Two, file: Path) -> None:
    mine, other = two
    await mine.append(numbered("r1", [queued("r1"), RunStarted()]))
    _edit(file, "began = '1'")
    assert await other.alive() is True
    assert await other.adrift() == ["r1"]


async def test_nobody_is_taken_for_dead_because_the_database_was_away(
    two: Two, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = two
    now = 1000.0
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    await mine.append(numbered("r1", [queued("r1"), RunStarted()]))
    _edit(file, "host = 'elsewhere'")
    assert await other.alive() is False
    holder = sqlite3.connect(file, isolation_level=None)
    monkeypatch.setattr("headrace.stores.sql.database.BUSY_SECONDS", 0.05)
    other._database.engine.dispose()
    holder.execute("BEGIN IMMEDIATE")
    other._writer._connection = None  # a new one, which does not wait for long
    with pytest.raises(StoreError):
        await other.alive()
    now += 4 * leases.LEASE_SECONDS
    holder.execute("ROLLBACK")
    holder.close()
    assert await other.alive() is False
    assert await other.adrift() == []
    now += leases.LEASE_SECONDS + 0.1
    assert await other.alive() is True, "it has not shown itself since"


@pytest.mark.parametrize("names", [["a"], [f"claim {n}" for n in range(1200)]], ids=["one", "many"])
async def test_of_two_who_claim_one_gets_it_until_it_lets_go(two: Two, names: list[str]) -> None:
    mine, other = two
    got = await asyncio.gather(mine.claim(names), other.claim(names))
    assert sorted(got[0] | got[1]) == sorted(names)
    assert not got[0] & got[1]
    first, second = (mine, other) if names[0] in got[0] else (other, mine)
    assert await second.claim(names[:1]) == set()
    assert await first.claim(names[:1]) == set(names[:1]), "it has it already"
    await second.release(names[:1])
    assert await second.claim(names[:1]) == set(), "it was not its own to release"
    await first.release(names[:1])
    assert await second.claim(names[:1]) == set(names[:1])


async def test_what_one_that_is_gone_has_claimed_is_anybodys(two: Two) -> None:
    mine, other = two
    await mine.claim(["a", "b"])
    assert await other.claim(["a"]) == set()
    await mine.leave()
    assert await other.claim(["a", "b"]) == {"a", "b"}


async def test_a_callback_that_is_claimed_is_due_nowhere(two: Two) -> None:
    mine, other = two
    await mine.append(numbered("r1", [replace(queued("r1"), callback="http://x/"), RunStarted(), RunEnded("stopped")]))
    [due] = await other.due_callbacks(1e12)
    await mine.claim([f"{CALLBACK}{due.id}"])
    assert await other.due_callbacks(1e12) == await mine.due_callbacks(1e12) == []
    await mine.leave()
    assert await other.due_callbacks(1e12) == [due]


async def test_one_elsewhere_is_dead_after_a_while_of_silence(
    two: Two, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = two
    now = 1000.0
    monkeypatch.setattr(leases, "monotonic", lambda: now)
    await mine.append(numbered("r1", [queued("r1"), RunStarted()]))
    # its clock is a day behind, and its process id is of nobody here
    _edit(file, "host = 'elsewhere', pid = 99999999, seen_at = seen_at - 86400")
    assert await other.alive() is False
    now += leases.LEASE_SECONDS
    assert await other.alive() is False
    assert await other.adrift() == []
    _edit(file, "seen_at = seen_at + 3")  # it has shown itself
    now += 1
    assert await other.alive() is False
    now += leases.LEASE_SECONDS
    assert await other.alive() is False
    now += 0.1
    assert await other.alive() is True
    assert await other.adrift() == ["r1"]

    # it was not dead: it has what it has begun since, and what nobody has taken up meanwhile
    assert await mine.adrift() == ["r1"]
    await mine.alive()
    assert await other.adrift() == []
    assert await other.take_up("r1") is False


async def test_one_whose_host_nobody_knows_is_heard_of_by_its_row_alone(
    two: Two, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = two
    await mine.append(numbered("r1", [queued("r1")]))
    _edit(file, "host = NULL, pid = 99999999, began = NULL")
    monkeypatch.setattr(leases, "_host", lambda: None)
    assert await other.alive() is False
    assert await other.adrift() == []
