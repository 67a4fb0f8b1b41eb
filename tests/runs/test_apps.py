"""Apps, versions and keys."""

from __future__ import annotations

import pytest

from headrace.apps.catalog import Apps, Release
from headrace.errors import LoadError, NotFound, Unauthorized
from headrace.stores.memory import memory_storage
from tests.runs.service import ECHO, GATED, run_service


async def test_serving_a_file_again_keeps_its_app_its_version_and_its_key():
    store = memory_storage()
    apps = run_service(store).apps
    first = await apps.publish("a.yml", ECHO)
    key = await apps.working_key(first.app)
    again = run_service(store).apps  # after a restart
    second = await again.publish("a.yml", ECHO)
    assert (second.app.id, second.version.id) == (first.app.id, first.version.id)
    assert await again.working_key(second.app) == key
    assert len(await store.catalog.versions(first.app.id)) == 1


async def test_a_changed_file_is_a_new_version_and_the_old_one_can_still_be_called():
    apps = run_service(memory_storage()).apps
    first = await apps.publish("a.yml", ECHO)
    second = await apps.publish("a.yml", ECHO.replace("echo", "parrot"))
    assert second.app.id == first.app.id
    assert (second.version.number, second.app.name) == (2, "parrot")
    assert (await apps.current(first.app.id)).version.id == second.version.id
    assert (await apps.version(second.app, first.version.id)).flow.name == "echo"
    third = await apps.publish("a.yml", ECHO)  # back again: the first version, not a third
    assert third.version.id == first.version.id


async def test_a_file_that_cannot_be_loaded_changes_nothing():
    apps = run_service(memory_storage()).apps
    first = await apps.publish("a.yml", ECHO)
    with pytest.raises(LoadError):
        await apps.publish("a.yml", "nonsense: [")
    assert (await apps.current(first.app.id)).version.id == first.version.id


async def test_two_files_of_one_content_are_two_apps():
    apps = run_service(memory_storage()).apps
    first, second = await apps.publish("a.yml", ECHO), await apps.publish("b.yml", ECHO)
    assert first.app.id != second.app.id
    with pytest.raises(NotFound):
        await apps.version(first.app, second.version.id)


async def app_of(apps: Apps, authorization: str) -> Release:
    return await apps.app_for(await apps.access.principal(authorization))


async def test_a_key_opens_its_app_and_no_other():
    apps = run_service(memory_storage()).apps
    first, second = await apps.publish("a.yml", ECHO), await apps.publish("b.yml", GATED)
    key = await apps.working_key(second.app)
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert (await app_of(apps, f"{scheme} {key}")).app.id == second.app.id
    assert first.app.id != second.app.id


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "Authorization header must be provided and start with 'Bearer'"),
        ("", "Authorization header must be provided and start with 'Bearer'"),
        ("app-xyz", "Authorization header must be provided and start with 'Bearer'"),
        ("Basic abc", "Authorization scheme must be 'Bearer'"),
        ("Bearer app-nope", "Access token is invalid"),
    ],
)
async def test_what_opens_nothing(header: str | None, message: str):
    apps = run_service(memory_storage()).apps
    with pytest.raises(Unauthorized) as refused:
        await apps.access.principal(header)
    assert (refused.value.message, refused.value.status) == (message, 401)


async def test_a_revoked_key_opens_nothing_and_another_one_is_shown():
    apps = run_service(memory_storage()).apps
    release = await apps.publish("a.yml", ECHO)
    key = await apps.working_key(release.app)
    principal = await apps.access.principal(f"Bearer {key}")
    [stored] = await apps.catalog.keys()
    assert principal.id == stored.id
    assert await apps.access.revoke(stored, "cli")
    with pytest.raises(Unauthorized):
        await apps.access.principal(f"Bearer {key}")
    other = await apps.working_key(release.app)
    assert other != key
    assert (await app_of(apps, f"Bearer {other}")).app.id == release.app.id
    assert await apps.working_key(release.app) == other, "and it stays"
    assert not await apps.access.revoke(stored, "cli"), "it is revoked already"


async def test_only_the_hash_of_a_key_is_stored():
    store = memory_storage()
    apps = run_service(store).apps
    key = await apps.working_key((await apps.publish("a.yml", ECHO)).app)
    assert key not in repr(await store.catalog.keys())
