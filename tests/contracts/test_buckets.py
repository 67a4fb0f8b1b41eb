"""Token buckets and slots: what can be taken, by however many at once."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import StoreError
from headrace.kernel.events import RunEnded, RunPaused, RunResumed, RunStarted
from headrace.ports import Bucket, Slot, Storage, Taken
from headrace.stores.sql import SqlStorage
from tests.contracts.examples import numbered, queued

NOW = 1_000_000.0
THREE = Bucket("three", 3, 0.5)


async def test_a_bucket_is_full_at_first_and_empties(store: Storage) -> None:
    results = [(await store.buckets.take([THREE], NOW))[0] for _ in range(4)]
    assert results == [Taken(True, 2, 0), Taken(True, 1, 0), Taken(True, 0, 0), Taken(False, 0, 2)]


async def test_it_fills_again_with_time_and_no_further_than_its_capacity(store: Storage) -> None:
    for _ in range(3):
        await store.buckets.take([THREE], NOW)
    assert await store.buckets.take([THREE], NOW + 1) == [Taken(False, 0.5, 1)]
    assert await store.buckets.take([THREE], NOW + 2) == [Taken(True, 0, 0)]
    assert await store.buckets.take([THREE], NOW + 9999) == [Taken(True, 2, 0)]


async def test_of_several_all_are_taken_or_none(store: Storage) -> None:
    one = Bucket("one", 1, 0.001)
    assert [result.taken for result in await store.buckets.take([THREE, one], NOW)] == [True, True]
    results = await store.buckets.take([THREE, one], NOW)
    assert [result.taken for result in results] == [True, False], "the results of both: this one would have had some"
    assert results[1].wait == pytest.approx(1000)
    assert await store.buckets.take([THREE], NOW) == [Taken(True, 1, 0)], "nothing was taken by the refused one"


async def test_callers_at_once_get_as_many_as_there_are(store: Storage) -> None:
    hundred = Bucket("hundred", 100, 0.0001)
    results = await asyncio.gather(*(store.buckets.take([hundred], NOW) for _ in range(250)))
    assert sum(result[0].taken for result in results) == 100


async def test_a_plan_that_shrinks_or_grows_holds_at_once(store: Storage) -> None:
    big = Bucket("b", 1000, 10)
    await store.buckets.take([big], NOW)
    assert await store.buckets.take([Bucket("b", 2, 0.1)], NOW) == [Taken(True, 1, 0)]
    assert await store.buckets.take([big], NOW + 1) == [Taken(True, 10, 0)], "what it grew to is filled at the new rate"


async def test_clocks_that_differ_a_little_give_nothing_away(store: Storage) -> None:
    for _ in range(3):
        await store.buckets.take([THREE], NOW)
    for _ in range(10):
        assert not (await store.buckets.take([THREE], NOW + 1.9))[0].taken
        result = (await store.buckets.take([THREE], NOW - 30))[0]
        assert not result.taken
        assert result.wait == pytest.approx(2, abs=0.01) or result.wait == pytest.approx(32)


async def test_a_clock_set_back_by_far_does_not_stop_a_bucket(store: Storage) -> None:
    for _ in range(3):
        await store.buckets.take([THREE], NOW)
    back = NOW - 86400
    for _ in range(2):
        await store.buckets.take([THREE], back)
    # whether refusals are written down is the store's business: it fills from when one was let pass, or from now
    later = (await store.buckets.take([THREE], back + 100_000))[0]
    assert later.taken


@pytest.mark.parametrize("bucket", [Bucket("x\0y", 5, 1), Bucket("\ud800", 5, 1), Bucket("名" * 500, 5, 1)])
async def test_any_name_will_do(store: Storage, bucket: Bucket) -> None:
    assert await store.buckets.take([bucket], NOW) == [Taken(True, 4, 0)]
    assert await store.buckets.take([bucket], NOW) == [Taken(True, 3, 0)]


async def test_huge_and_tiny_buckets(store: Storage) -> None:
    huge, tiny = Bucket("huge", 1e9, 1e9 / 60), Bucket("tiny", 1, 1 / 86400)
    assert (await store.buckets.take([huge], NOW))[0].left == pytest.approx(1e9 - 1)
    assert (await store.buckets.take([tiny], NOW))[0].taken
    assert (await store.buckets.take([tiny], NOW))[0].wait == pytest.approx(86400)


# ------------------------------------------------------------------------------------------------------------ slots

TWO = Slot("two", 2)


async def _runs(store: Storage, *runs: str) -> list[bool]:
    return [all(result.taken for result in await store.buckets.admit(run, [], [TWO], NOW)) for run in runs]


async def _begin(store: Storage, run: str) -> None:
    await store.journal.append(numbered(run, [queued(run, "a1"), RunStarted()]))


async def test_runs_hold_their_places_until_they_end(store: Storage) -> None:
    assert await _runs(store, "r1", "r2", "r3") == [True, True, False]
    for run in ("r1", "r2"):
        await _begin(store, run)
    assert await _runs(store, "r3") == [False]
    await store.journal.append(numbered("r1", [RunEnded("failed")], after=2))
    assert await _runs(store, "r3", "r4") == [True, False]


async def test_a_paused_run_leaves_its_place_to_others(store: Storage) -> None:
    for run in ("r1", "r2"):
        await _runs(store, run)
        await _begin(store, run)
    await store.journal.append(numbered("r1", [RunPaused([])], after=2))
    assert await _runs(store, "r3", "r4") == [True, False]
    await _begin(store, "r3")
    await store.journal.append(numbered("r1", [RunResumed()], after=3))
    assert await _runs(store, "r4") == [False]
    await store.journal.append(numbered("r2", [RunEnded("succeeded")], after=2))
    assert await _runs(store, "r4") == [False], "three were running, one of them ended: there is room for two"


async def test_a_run_that_never_came_to_be_gives_its_place_back(store: Storage) -> None:
    assert await _runs(store, "r1", "r2") == [True, True]
    await _begin(store, "r2")
    late = await store.buckets.admit("r3", [], [TWO], NOW + 61)
    assert late == [Taken(True, 0, 0)], "the place of r1, of which nothing was heard"
    await _begin(store, "r3")
    assert not (await store.buckets.admit("r4", [], [TWO], NOW + 3600))[0].taken


async def test_a_run_that_is_there_takes_nothing(store: Storage) -> None:
    await _begin(store, "r1")
    for _ in range(9):
        assert await store.buckets.admit("r1", [THREE], [TWO], NOW, known=True) == []
    assert await store.buckets.admit("r2", [THREE], [TWO], NOW, known=True) == [Taken(True, 2, 0), Taken(True, 1, 0)]


async def test_tokens_are_not_taken_where_there_is_no_place_and_the_other_way_round(store: Storage) -> None:
    assert await _runs(store, "r1", "r2") == [True, True]
    results = await store.buckets.admit("r3", [THREE], [TWO], NOW)
    assert [result.taken for result in results] == [True, False]
    assert (await store.buckets.take([THREE], NOW))[0].left == 2
    for _ in range(2):
        await store.buckets.take([THREE], NOW)
    await store.journal.append(numbered("r1", [queued("r1", "a1"), RunEnded("succeeded")]))
    assert [result.taken for result in await store.buckets.admit("r3", [THREE], [TWO], NOW)] == [False, True]
    assert await _runs(store, "r3", "r4") == [True, False]


async def test_many_runs_at_once_get_as_many_places_as_there_are(store: Storage) -> None:
    ten = Slot("ten", 10)
    results = await asyncio.gather(*(store.buckets.admit(f"r{n}", [], [ten], NOW) for n in range(50)))
    assert sum(result[0].taken for result in results) == 10


async def test_a_limit_that_shrinks_lets_those_go_on_that_run(store: Storage) -> None:
    for n in range(5):
        await store.buckets.admit(f"r{n}", [], [Slot("s", 10)], NOW)
        await _begin(store, f"r{n}")
    assert await store.buckets.admit("more", [], [Slot("s", 2)], NOW) == [Taken(False, 0, 0)]


async def test_places_of_ended_runs_do_not_pile_up(url: str) -> None:
    store = await SqlStorage.open(url)
    wide = Slot("wide", 1_000_000_000)
    for start in range(0, 3000, 500):
        runs = [f"r{start + n}" for n in range(500)]
        await asyncio.gather(*(store.buckets.admit(run, [], [wide], NOW) for run in runs))
        for run in runs:
            written = store.journal.append(numbered(run, [queued(run, "a1"), RunEnded("succeeded")]))
        await written
    rows = await store.database.run(  # pyright: ignore[reportPrivateUsage]
        lambda connection: connection.exec_driver_sql("SELECT count(*) FROM slots").scalar_one()
    )
    assert rows <= 1500
    await store.aclose()


# --------------------------------------------------------------------------------------------------- two processes


async def test_two_processes_share_one_bucket_and_one_slot(url: str) -> None:
    stores = [await SqlStorage.open(url) for _ in range(2)]
    bucket, slot = Bucket("shared", 100, 0.0001), Slot("shared", 7)

    async def asks(store: SqlStorage, name: str) -> tuple[int, int]:
        taken = admitted = 0
        for n in range(10):  # in waves, so that both write in turns
            some = await asyncio.gather(*(store.buckets.take([bucket], NOW) for _ in range(10)))
            taken += sum(result[0].taken for result in some)
            admitted += (await store.buckets.admit(f"{name}{n}", [], [slot], NOW))[0].taken
        return taken, admitted

    results = await asyncio.gather(*(asks(store, name) for store, name in zip(stores, "ab", strict=True)))
    assert sum(taken for taken, _ in results) == 100
    assert sum(admitted for _, admitted in results) == 7
    for store in stores:
        await store.aclose()


async def test_what_was_taken_is_still_taken_after_a_restart(url: str) -> None:
    for left in (2, 1, 0):
        store = await SqlStorage.open(url)
        assert await store.buckets.take([THREE], NOW) == [Taken(True, left, 0)]
        await store.aclose()


async def test_a_closed_store_says_so(url: str) -> None:
    store = await SqlStorage.open(url)
    await store.aclose()
    for _ in range(2):
        with pytest.raises(StoreError, match="closed"):
            await store.buckets.take([THREE], NOW)
