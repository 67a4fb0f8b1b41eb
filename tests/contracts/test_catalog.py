"""What every catalog promises."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from headrace.ports import App, Catalog, Key, Storage, StoredFile, Version
from headrace.stores.sql import SqlStorage

from .examples import PICTURE

APP = App("a1", "Product 商品", "workflow", "/flows/product.yml", "v1", "Says hello.", 5.0, {"icon": "🤖", "n": [1.5]})
KEY = Key("k1", "a1", "d" * 64, "app-1234", 6.0)
TEAM_KEY = Key(
    "k9",
    None,
    "f" * 64,
    "ws-12345",
    6.0,
    None,
    "team",
    "nightly 商品",
    frozenset({"run", "read"}),
    frozenset({"a1", "a2"}),
    99.5,
    "k10",
)


@pytest.fixture
def store(storage: Storage) -> Catalog:
    return storage.catalog


def _version(number: int, app: str = "a1") -> Version:
    return Version(f"{app}-v{number}", app, number, f"{number:064}", "app:\n  name: 商品\n", 10.0 + number)


async def test_an_app_is_found_by_id_and_by_source(store: Catalog) -> None:
    assert await store.apps() == []
    assert await store.app("a1") is None
    await store.save_app(APP)
    assert await store.app("a1") == APP
    assert await store.app_of_source("/flows/product.yml") == APP
    assert await store.app_of_source("/flows/other.yml") is None
    assert await store.app("\ud800") is None


async def test_saving_an_app_again_replaces_it_everywhere(store: Catalog) -> None:
    await store.save_app(APP)
    assert await store.app("a1") == APP
    moved = replace(APP, name="Moved", source="/elsewhere.yml", version="v2", settings={})
    await store.save_app(moved)
    assert await store.app("a1") == moved
    assert await store.apps() == [moved]
    assert await store.app_of_source(APP.source) is None


async def test_a_source_has_one_app_in_a_workspace(store: Catalog) -> None:
    assert await store.add_app(APP) == APP
    assert await store.add_app(replace(APP, id="a2", name="Other")) == APP
    elsewhere = replace(APP, id="a3", workspace="team")
    assert await store.add_app(elsewhere) == elsewhere
    assert await store.apps() == [APP, elsewhere]


async def test_processes_that_publish_a_source_at_once_make_one_app(url: str) -> None:
    processes = [await SqlStorage.open(url) for _ in range(4)]
    for n in range(10):
        apps = [replace(APP, id=f"{n}-{k}", source=f"/{n}.yml") for k in range(len(processes))]
        pairs = zip(processes, apps, strict=True)
        added = await asyncio.gather(*(process.catalog.add_app(app) for process, app in pairs))
        assert len({app.id for app in added}) == 1
    assert len(await processes[0].catalog.apps()) == 10
    for process in processes:
        await process.aclose()


async def test_apps_are_listed_oldest_first(store: Catalog) -> None:
    for name, at in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        await store.save_app(replace(APP, id=name, source=name, created_at=at))
    assert [app.id for app in await store.apps()] == ["a", "b", "c"]


async def test_removing_an_app_takes_its_keys_and_versions_along(store: Catalog) -> None:
    other = replace(APP, id="a2", source="/other.yml")
    for app in (APP, other):
        await store.save_app(app)
        await store.add_version(_version(1, app.id))
        await store.add_key(replace(KEY, id=f"key-{app.id}", app=app.id, digest=app.id * 32))
    assert await store.key_of("a1" * 32) is not None
    assert await store.remove_app("a1")
    assert not await store.remove_app("a1")
    assert await store.app("a1") is None
    assert await store.versions("a1") == []
    assert await store.version("a1-v1") is None
    assert await store.key_of("a1" * 32) is None
    assert await store.apps() == [other]
    assert [version.id for version in await store.versions("a2")] == ["a2-v1"]
    assert [key.id for key in await store.keys()] == ["key-a2"]


async def test_versions_newest_first(store: Catalog) -> None:
    for number in (1, 3, 2):
        await store.add_version(_version(number))
    assert await store.versions("a1") == [_version(3), _version(2), _version(1)]
    assert await store.version("a1-v2") == _version(2)
    assert await store.version("a1-v2") == _version(2)
    assert await store.version("a1-v9") is None
    await store.add_version(replace(_version(2), content="changed"))
    assert await store.version("a1-v2") == _version(2), "a version never changes"


async def test_a_key_is_found_by_its_digest(store: Catalog) -> None:
    assert await store.key_of(KEY.digest) is None
    await store.add_key(KEY)
    assert await store.key_of(KEY.digest) == KEY
    await store.add_key(replace(KEY, id="k2", app="a2"))
    assert await store.key_of(KEY.digest) == KEY, "one with the same digest is left as it is"
    await store.add_key(replace(KEY, id="k3", app="a2", digest="e" * 64, created_at=7.0))
    assert [key.id for key in await store.keys()] == ["k1", "k3"]
    assert [key.id for key in await store.keys("a2")] == ["k3"]
    assert await store.key_of("\ud800") is None


async def test_a_revoked_key_is_known_as_revoked_at_once(store: Catalog) -> None:
    await store.add_key(KEY)
    await store.add_key(replace(KEY, id="k2", digest="e" * 64, prefix="app-5678"))
    assert await store.key_of(KEY.digest) == KEY
    assert await store.revoke_key("k1", 9.0)
    assert await store.key_of(KEY.digest) == replace(KEY, revoked_at=9.0)
    assert not await store.revoke_key("k1", 10.0), "it is revoked already"
    assert not await store.revoke_key("app-5678", 11.0), "only its id names one key"
    assert [key.revoked_at for key in await store.keys()] == [9.0, None]
    assert not await store.revoke_key("no such", 12.0)


async def test_a_key_keeps_all_that_is_said_of_it(store: Catalog) -> None:
    await store.add_key(TEAM_KEY)
    await store.add_key(replace(TEAM_KEY, id="k2", digest="e" * 64, permissions=frozenset({"read"}), apps=None))
    assert await store.find_key("k9") == TEAM_KEY
    assert await store.key_of(TEAM_KEY.digest) == TEAM_KEY
    other = await store.find_key("k2")
    assert other is not None
    assert (other.permissions, other.apps) == (frozenset({"read"}), None)
    assert await store.find_key("no such") is None
    assert await store.find_key("\ud800") is None
    await store.touch_key("k9", 77.0)
    await store.touch_key("no such", 77.0)
    assert await store.find_key("k9") == replace(TEAM_KEY, used_at=77.0)


async def test_a_workspace_s_keys_page_by_page(store: Catalog) -> None:
    for n in range(5):
        at = float(n // 2)  # two of a time: their ids decide
        await store.add_key(replace(TEAM_KEY, id=f"k{n}", digest=f"{n:064}", created_at=at))
    await store.add_key(replace(KEY, id="theirs"))
    page = await store.keys_of_workspace("team", limit=2)
    assert [key.id for key in page] == ["k4", "k3"]
    rest = await store.keys_of_workspace("team", older=(page[-1].created_at, page[-1].id), limit=9)
    assert [key.id for key in rest] == ["k2", "k1", "k0"]
    assert [key.id for key in await store.keys_of_workspace("default")] == ["theirs"]
    assert await store.keys_of_workspace("no such") == []


async def test_workspaces_are_kept_apart(store: Catalog) -> None:
    ours, theirs = replace(APP, workspace="team"), replace(APP, id="a2", workspace="others")
    await store.save_app(ours)
    await store.save_app(theirs)
    assert await store.apps("team") == [ours]
    assert await store.apps("others") == [theirs]
    assert await store.apps("default") == []
    assert len(await store.apps()) == 2
    assert await store.app_of_source(APP.source, "team") == ours
    assert await store.app_of_source(APP.source, "others") == theirs
    assert await store.app_of_source(APP.source) is None


async def test_an_end_user_is_made_once(store: Catalog) -> None:
    users = await asyncio.gather(*(store.end_user("a1", "ada", 5.0) for _ in range(20)))
    assert len({user.id for user in users}) == 1
    ada = await store.end_user("a1", "ada", 9.0)
    assert ada == users[0]
    assert (ada.app, ada.session, ada.created_at) == ("a1", "ada", 5.0)
    assert await store.find_end_user(ada.id) == ada
    assert await store.find_end_user("no such") is None
    others = [await store.end_user("a1", "Ada", 5.0), await store.end_user("a2", "ada", 5.0)]
    assert len({ada.id, *(user.id for user in others)}) == 3


async def test_end_users_may_have_any_name(store: Catalog) -> None:
    names = ["", "🤷", "a\0b", "\ud800", "x" * 100_000, "' OR 1=1 --", "%"]
    users = [await store.end_user("a1", name, 5.0) for name in names]
    assert len({user.id for user in users}) == len(names)
    assert [await store.end_user("a1", name, 6.0) for name in names] == users


async def test_a_stored_file_is_found(store: Catalog) -> None:
    stored = StoredFile("f1", PICTURE, "a1", None, 5.0)
    await store.add_file(stored)
    assert await store.find_file("f1") == stored
    assert await store.find_file("f2") is None
