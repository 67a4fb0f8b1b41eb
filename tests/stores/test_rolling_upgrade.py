"""Processes of two versions work on one database while those of the older one are replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from starlette.requests import Request

from headrace import main
from headrace.api.http.errors import request_error
from headrace.errors import NewerSchema, StoreError
from headrace.kernel.events import RunEnded, RunStarted
from headrace.ports import RunFilter
from headrace.settings import Settings
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.schema import REVISIONS
from headrace.stores.sql.snapshot import database_status, snapshot
from tests.contracts.examples import numbered, queued, whole
from tests.postgresql import Server
from tests.stores import next_version

Become = Callable[..., AbstractContextManager[None]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/headrace.db"
    server: Server = request.getfixturevalue("postgresql_server")
    return server.new_database()


@pytest.fixture
def become_next(tmp_path: Path) -> Become:
    """Makes this process one of the next version, until the block is left."""

    @contextmanager
    def become(readable_by: str = REVISIONS[-1]) -> Generator[None]:
        with pytest.MonkeyPatch.context() as patch:
            next_version.become(tmp_path / "migrations", patch.setattr, readable_by)
            yield

    return become


def _revision(url: str) -> str | None:
    return database_status(url, count=False).revision


async def test_old_and_new_processes_work_on_one_database(url: str, become_next: Become) -> None:
    old = await SqlStorage.open(url)
    await old.leases.heartbeat()
    await old.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    with become_next():
        # the migration fails if it runs twice
        new, *others = await asyncio.gather(*(SqlStorage.open(url) for _ in range(3)))
    assert _revision(url) == next_version.REVISION
    await new.leases.heartbeat()
    await new.journal.append(numbered("r2", [queued("r2"), RunStarted()]))
    await old.journal.append(numbered("r3", [queued("r3"), RunStarted()]))
    await old.journal.append(numbered("r1", [RunEnded("succeeded")], after=2))
    assert await new.leases.orphaned() == ["r2"]
    await old.aclose()
    assert await new.leases.orphaned() == ["r2", "r3"]
    assert await new.leases.acquire(["r3"])

    again = await SqlStorage.open(url)  # a process of the old version that is started meanwhile
    assert _revision(url) == next_version.REVISION
    await again.journal.append(whole("r4"))
    total, runs = await again.runs.list_runs(RunFilter("app"))
    assert (total, {run.run: run.status for run in runs}) == (
        4,
        {"r1": "succeeded", "r2": "running", "r3": "running", "r4": "succeeded"},
    )
    assert await again.journal.read("r2") == await new.journal.read("r2")
    for store in (again, new, *others):
        await store.aclose()
    assert database_status(url).pending == []


async def test_a_migration_that_old_versions_cannot_work_with_keeps_them_out(url: str, become_next: Become) -> None:
    await (await SqlStorage.open(url)).aclose()
    with become_next(readable_by=next_version.REVISION):
        await (await SqlStorage.open(url)).aclose()
    with pytest.raises(StoreError) as refused:
        await SqlStorage.open(url)
    assert not refused.value.transient
    assert str(refused.value).endswith(
        "is of a newer version of Headrace (schema 9998, which needs a version that knows 9998; "
        f"this one knows {REVISIONS[-1]})."
    )


async def test_a_process_that_such_a_migration_excludes_writes_nothing_more(
    url: str, become_next: Become, caplog: pytest.LogCaptureFixture
) -> None:
    old = await SqlStorage.open(url)
    await old.leases.heartbeat()
    await old.journal.append(numbered("r1", [queued("r1"), RunStarted()]))
    await old.database.check_schema()
    with become_next(readable_by=next_version.REVISION):
        new = await SqlStorage.open(url)
    for _ in range(2):
        await old.database.check_schema()
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: old.journal.append(numbered("r1", [RunEnded("succeeded")], after=2)),
        lambda: old.journal.read("r1"),
        lambda: old.leases.acquire(["r1"]),
        old.leases.heartbeat,
    ]
    for attempt in attempts:
        with pytest.raises(NewerSchema, match="is of a newer version of Headrace"):
            await attempt()
    with pytest.raises(StoreError):  # it is not ready
        await old.journal.probe()
    assert [record.event for record in await new.journal.read("r1")] == [queued("r1"), RunStarted()]
    assert sum("nothing is read or written any more" in message for message in caplog.messages) == 1
    await old.aclose()
    await new.aclose()


async def test_a_service_notices_such_a_migration(
    tmp_path: Path, become_next: Become, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "SCHEMA_SECONDS", 0.01)
    url = f"sqlite:///{tmp_path}/headrace.db"
    async with main.service(Settings(data=tmp_path), worker=False) as old:
        await old.storage.journal.probe()
        with become_next(readable_by=next_version.REVISION):
            await (await SqlStorage.open(url)).aclose()

        async def read_on() -> None:
            while True:
                await old.storage.journal.read("r1")

        async with asyncio.timeout(60):
            with pytest.raises(NewerSchema) as refused:
                await read_on()
    request = Request({"type": "http", "method": "GET", "path": "/v1/info", "headers": []})
    assert request_error(request, refused.value).status == 503


async def test_a_failed_migration_changes_nothing(url: str, become_next: Become, tmp_path: Path) -> None:
    store = await SqlStorage.open(url)
    with become_next():
        migration = tmp_path / "migrations" / "versions" / "9998_next.py"
        migration.write_text(migration.read_text() + "    op.drop_table('nowhere')\n")
        with pytest.raises(StoreError, match="nowhere"):
            await SqlStorage.open(url)
    assert _revision(url) == REVISIONS[-1]
    await store.journal.append(whole("r1"))
    await store.aclose()


async def test_an_old_version_backs_up_what_it_can_work_with(tmp_path: Path, become_next: Become) -> None:
    with become_next():
        await (await SqlStorage.open(f"sqlite:///{tmp_path}/new.db")).aclose()
    snapshot(f"sqlite:///{tmp_path}/new.db", tmp_path / "copy.db")
    assert _revision(f"sqlite:///{tmp_path}/copy.db") == next_version.REVISION
