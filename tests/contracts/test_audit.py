"""What every catalog promises of what was done to keys: it is written down with the deed, or neither is done."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from headrace.ports import AuditEntry, Catalog, Key, Storage

OLD = Key("k1", None, "d" * 64, "ws-12345", 6.0, workspace="team", name="nightly")
NEW = replace(OLD, id="k2", digest="e" * 64, prefix="ws-67890", created_at=20.0)


@pytest.fixture
def store(storage: Storage) -> Catalog:
    return storage.catalog


def _entry(id_: str, action: str, at: float, key: str = "k1", workspace: str = "team") -> AuditEntry:
    return AuditEntry(id_, workspace, at, action, "cli", key, {"apps": ["a1"], "name": "商品", "expires_at": None})


CREATED, ROTATED, REVOKED = _entry("e1", "created", 6.0), _entry("e2", "rotated", 20.0), _entry("e3", "revoked", 30.0)


async def test_what_is_done_to_a_key_is_told_newest_first(store: Catalog) -> None:
    assert await store.audit("team") == []
    await store.add_key(OLD, CREATED)
    assert await store.replace_key("k1", NEW, 25.0, ROTATED)
    assert await store.revoke_key("k1", 30.0, REVOKED)
    assert await store.audit("team") == [REVOKED, ROTATED, CREATED]
    assert await store.audit("default") == []
    assert await store.audit("team", limit=1) == [REVOKED]
    assert await store.audit("team", older=(30.0, "e3"), limit=9) == [ROTATED, CREATED]


async def test_entries_of_one_moment_have_an_order_too(store: Catalog) -> None:
    for n in range(4):
        await store.add_key(replace(OLD, id=f"k{n}", digest=f"{n:064}"), _entry(f"e{n}", "created", 6.0, f"k{n}"))
    first = await store.audit("team", limit=2)
    rest = await store.audit("team", older=(first[-1].at, first[-1].id), limit=2)
    assert [entry.id for entry in [*first, *rest]] == ["e3", "e2", "e1", "e0"]


async def test_what_is_not_done_is_not_told(store: Catalog) -> None:
    await store.add_key(OLD)
    await store.add_key(replace(OLD, id="k7"), _entry("e7", "created", 7.0, "k7"))  # there is one with that digest
    assert await store.find_key("k7") is None
    assert not await store.revoke_key("no such", 8.0, _entry("e8", "revoked", 8.0, "no such"))
    assert not await store.replace_key("no such", NEW, 9.0, _entry("e9", "rotated", 9.0))
    assert await store.revoke_key("k1", 10.0)
    assert not await store.revoke_key("k1", 11.0, _entry("e10", "revoked", 11.0))
    assert not await store.replace_key("k1", NEW, 12.0, _entry("e11", "rotated", 12.0)), "it is revoked"
    assert await store.find_key("k2") is None
    assert await store.audit("team") == []


async def test_a_rotated_key_ends_when_it_is_told_to_or_would_have_anyway(store: Catalog) -> None:
    await store.add_key(OLD)
    assert await store.key_of(OLD.digest) == OLD
    assert await store.replace_key("k1", NEW, 25.0, ROTATED)
    assert await store.key_of(OLD.digest) == replace(OLD, expires_at=25.0, replaced_by="k2")
    assert await store.key_of(NEW.digest) == NEW
    await store.add_key(replace(OLD, id="k5", digest="a" * 64, expires_at=23.0))
    assert await store.replace_key("k5", replace(NEW, id="k6", digest="b" * 64), 25.0, _entry("e5", "rotated", 20.0))
    ends = await store.find_key("k5")
    assert ends is not None
    assert ends.expires_at == 23.0
    await store.add_key(replace(OLD, id="k8", digest="c" * 64, expires_at=23.0))
    late = _entry("e6", "rotated", 23.0)
    assert not await store.replace_key("k8", replace(NEW, id="k9", digest="9" * 64), 25.0, late), "it has expired"


async def test_of_two_that_rotate_a_key_at_once_one_does(store: Catalog) -> None:
    await store.add_key(OLD)
    done = await asyncio.gather(
        *(
            store.replace_key("k1", replace(NEW, id=f"n{n}", digest=f"{n:064}"), 25.0, _entry(f"e{n}", "rotated", 20.0))
            for n in range(8)
        )
    )
    assert sorted(done) == [False] * 7 + [True]
    assert len(await store.audit("team")) == 1
    assert len(await store.keys_of_workspace("team")) == 2
