"""What every store of first answers promises."""

from __future__ import annotations

import asyncio

import pytest

from headrace.ports import IdempotencyRecord, IdempotencyStore, Storage

DAY = 86_400.0


@pytest.fixture
def store(storage: Storage) -> IdempotencyStore:
    return storage.idempotency


async def find(store: IdempotencyStore, app: str, key: str) -> IdempotencyRecord | None:
    """What is there, which only a claim returns; the claim is released again."""
    record = await store.claim(app, key, "looking", 0.0, 0.0)
    if record is None:
        await store.release(app, key)
    return record


async def test_the_first_to_claim_is_told_so_and_the_others_what_it_left(store: IdempotencyStore) -> None:
    assert await find(store, "a1", "k") is None
    assert await store.claim("a1", "k", "digest", 100.0, 0.0) is None
    waiting = IdempotencyRecord("a1", "k", "digest", 100.0)
    assert await store.claim("a1", "k", "other", 101.0, 1.0) == waiting
    assert await find(store, "a1", "k") == waiting
    await store.complete("a1", "k", 202, b'{"a": "\xe5\x95\x86"}\0')
    record = IdempotencyRecord("a1", "k", "digest", 100.0, 202, b'{"a": "\xe5\x95\x86"}\0')
    assert await store.claim("a1", "k", "digest", 102.0, 2.0) == record
    assert await find(store, "a1", "k") == record


async def test_of_twenty_who_claim_at_once_one_is_the_first(store: IdempotencyStore) -> None:
    claimed = await asyncio.gather(*(store.claim("a1", "k", "d", 100.0 + n, 0.0) for n in range(20)))
    assert claimed.count(None) == 1
    assert {record.created_at for record in claimed if record} == {100.0 + claimed.index(None)}


async def test_an_answer_once_kept_stays(store: IdempotencyStore) -> None:
    await store.claim("a1", "k", "d", 100.0, 0.0)
    await store.complete("a1", "k", 202, b"first")
    await store.complete("a1", "k", 200, b"second")
    await store.release("a1", "k")
    assert await find(store, "a1", "k") == IdempotencyRecord("a1", "k", "d", 100.0, 202, b"first")


async def test_after_a_release_the_next_is_the_first_again(store: IdempotencyStore) -> None:
    await store.claim("a1", "k", "d", 100.0, 0.0)
    await store.release("a1", "k")
    assert await find(store, "a1", "k") is None
    assert await store.claim("a1", "k", "other", 101.0, 0.0) is None
    assert await find(store, "a1", "k") == IdempotencyRecord("a1", "k", "other", 101.0)


async def test_what_nobody_claimed_is_not_kept(store: IdempotencyStore) -> None:
    await store.complete("a1", "k", 200, b"x")
    await store.release("a1", "k")
    assert await find(store, "a1", "k") is None


async def test_an_expired_answer_does_not_count(store: IdempotencyStore) -> None:
    await store.claim("a1", "k", "d", 100.0, 0.0)
    await store.complete("a1", "k", 202, b"old")
    assert await store.claim("a1", "k", "e", 100.0 + DAY, 100.0) is not None, "made at that moment, not before"
    assert await store.claim("a1", "k", "e", 101.0 + DAY, 101.0) is None
    assert await find(store, "a1", "k") == IdempotencyRecord("a1", "k", "e", 101.0 + DAY)


async def test_long_expired_answers_are_forgotten_but_no_others(store: IdempotencyStore) -> None:
    for n in range(5):
        await store.claim("a1", f"k{n}", "d", n * DAY, (n - 1) * DAY)
    await store.claim("a2", "k", "d", 5 * DAY, 4 * DAY)
    records = [await find(store, "a1", f"k{n}") for n in range(5)]
    assert [record is not None for record in records] == [False, False, False, True, True]


async def test_each_app_and_each_key_has_its_own(store: IdempotencyStore) -> None:
    names = [("a1", "k"), ("a1", "K"), ("a2", "k"), ("a1", "k "), ("a1", ""), ("a1", "~" * 255), ("a1", "' OR 1=1 --")]
    for app, key in names:
        assert await store.claim(app, key, f"{app}{key}", 100.0, 0.0) is None
    for app, key in names:
        record = await find(store, app, key)
        assert record is not None
        assert (record.app, record.key, record.digest) == (app, key, f"{app}{key}")
