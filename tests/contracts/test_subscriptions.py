"""What every store of subscriptions promises."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from headrace.ports import Storage, SubscriptionStore, TriggerSubscription


@pytest.fixture
def store(storage: Storage) -> SubscriptionStore:
    return storage.subscriptions


def subscription(id_: str = "s1", name: str = "shop", **more: Any) -> TriggerSubscription:
    return TriggerSubscription(
        id_, more.pop("workspace", "default"), name, "a/b/c", f"hook-{id_}", "https://x.example", 100.5, **more
    )


FULL = subscription(
    credentials="second",
    manual=True,
    active=True,
    parameters={"repository": "é\ud800\0", "events": ["push"], "none": None},
    properties={"secret": "s", "big": 2**70},
    expires_at=4_000_000_000,
    refresh_at=200.25,
    failures=3,
    error="no luck",
    claim="c",
    claimed_until=7.5,
)


async def test_it_is_found_as_it_was_added(store: SubscriptionStore) -> None:
    assert await store.add_subscription(FULL)
    assert await store.find_subscription("s1") == FULL
    assert await store.find_subscription("s\0") is None


async def test_those_of_a_workspace(store: SubscriptionStore) -> None:
    for one in (subscription(), subscription("s2", "aim"), subscription("s3", workspace="acme")):
        assert await store.add_subscription(one)
    assert [one.id for one in await store.subscriptions()] == ["s3", "s2", "s1"]
    assert [one.id for one in await store.subscriptions("default")] == ["s2", "s1"]
    assert await store.subscriptions("no\0ne") == []


async def test_one_of_a_name(store: SubscriptionStore) -> None:
    added = await asyncio.gather(*(store.add_subscription(subscription(f"s{number}")) for number in range(9)))
    assert added.count(True) == 1
    assert await store.add_subscription(subscription("t", workspace="acme"))


async def test_one_of_many_claims_it(store: SubscriptionStore) -> None:
    await store.add_subscription(subscription())
    claimed = await asyncio.gather(*(store.claim_subscription("s1", f"c{number}", 10, 20) for number in range(9)))
    (one,) = [one for one in claimed if one is not None]
    assert (one.claimed_until, await store.find_subscription("s1")) == (20, one)
    assert await store.claim_subscription("s1", "late", 19.5, 30) is None
    assert await store.claim_subscription("s1", "late", 20, 30) is not None
    assert await store.claim_subscription("gone", "c", 10, 20) is None
    assert await store.claim_subscription("s1", "its clock is a bit late", 11, 21) is None
    assert await store.claim_subscription("s1", "the other's clock was far ahead", 9, 19) is not None


async def test_only_the_claim_saves_and_removes(store: SubscriptionStore) -> None:
    await store.add_subscription(subscription())
    claimed = await store.claim_subscription("s1", "c", 10, 20)
    assert claimed is not None
    assert not await store.save_subscription(claimed, "other")
    assert not await store.remove_subscription("s1", "other")
    free = replace(claimed, error="e", claim="", claimed_until=0.0)
    assert await store.save_subscription(free, "c")
    assert not await store.save_subscription(claimed, "c")
    assert await store.find_subscription("s1") == free
    assert await store.claim_subscription("s1", "c", 10, 20) is not None
    assert await store.remove_subscription("s1", "c")
    assert not await store.remove_subscription("s1", "c")
    assert await store.find_subscription("s1") is None


async def test_those_that_are_due(store: SubscriptionStore) -> None:
    for id_, at, claimed_until in (
        ("a", 30.0, 0.0),
        ("b", 20.0, 0.0),
        ("c", None, 0.0),
        ("d", 51.0, 0.0),
        ("e", 5.0, 60.0),
    ):
        await store.add_subscription(subscription(id_, id_, refresh_at=at, claimed_until=claimed_until))
    assert [one.id for one in await store.due_subscriptions(50, 9)] == ["b", "a"]
    assert [one.id for one in await store.due_subscriptions(60, 3)] == ["e", "b", "a"]
