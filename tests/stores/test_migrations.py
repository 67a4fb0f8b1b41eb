"""A database is created, migrated or refused when it is opened."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

import headrace.stores.sql
from headrace.errors import SequenceConflict, StoreError
from headrace.kernel.events import RunEnded, RunResumed
from headrace.ports import AuditEntry, Conversation, IdempotencyRecord, Key, RunFilter
from headrace.stores.sql import SqlStorage, migrations
from headrace.stores.sql.database import connect
from headrace.stores.sql.schema import REVISIONS, metadata
from tests.contracts.examples import numbered, queued, whole

MIGRATIONS = Path(headrace.stores.sql.__file__).parent / "migrations"
DATABASES = Path(__file__).parents[1] / "data" / "databases"  # NNNN.sql: one that a version with that schema has made


@pytest.fixture(autouse=True)
def created(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases are created, not copied as in other tests."""
    monkeypatch.setattr(headrace.stores.sql, "connect", connect)


def _schema(file: Path) -> list[tuple[str, ...]]:
    """Tables with their columns, and indexes with theirs, as SQLite sees them."""
    connection = sqlite3.connect(file)
    described: list[tuple[str, ...]] = []
    for kind, name, table in connection.execute("SELECT type, name, tbl_name FROM sqlite_master").fetchall():
        pragma = "table_info" if kind == "table" else "index_info"
        columns = connection.execute(f"PRAGMA {pragma}('{name}')").fetchall()
        described.extend((kind, name, table, *map(str, column)) for column in columns)
    connection.close()
    return sorted(described)


def _is_own(name: str | None, *_: object) -> bool:
    return not (name or "").startswith("dataset_text_index")


def _migrated(file: Path) -> None:
    engine = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        migrations.upgrade(connection)
        # SQLite's full-text index consists of tables of its own
        context = MigrationContext.configure(connection, opts={"include_name": _is_own})
        differences = compare_metadata(context, metadata)
    assert differences == []


def test_every_migration_is_listed_in_order() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    steps = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(reversed([step.revision for step in steps])) == REVISIONS


async def test_a_new_database_is_what_the_migrations_make(tmp_path: Path) -> None:
    _migrated(tmp_path / "migrated.db")
    await (await SqlStorage.open(f"sqlite:///{tmp_path}/new.db")).aclose()
    assert _schema(tmp_path / "new.db") == _schema(tmp_path / "migrated.db")


async def test_a_database_before_the_first_migration_is_migrated(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    old = sqlite3.connect(file)
    old.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    old.close()
    store = await SqlStorage.open(f"sqlite:///{file}")
    await store.journal.append(whole("r1"))
    assert await store.journal.read("r1") == whole("r1")
    await store.aclose()


def _of_old(version: str, file: Path) -> None:
    old = sqlite3.connect(file)
    old.executescript((DATABASES / f"{version}.sql").read_text())
    assert old.execute("SELECT version_num FROM alembic_version").fetchone() == (version,)
    old.close()


OLDER = sorted(file.stem for file in DATABASES.glob("*.sql"))


@pytest.mark.parametrize("version", OLDER)
async def test_a_database_of_an_older_version_keeps_all_it_had(version: str, tmp_path: Path) -> None:
    _of_old(version, tmp_path / "old.db")
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/old.db")
    app = await store.catalog.app("a1")
    assert app is not None
    assert (app.name, app.settings) == ("Product 商品", {"icon": "🤖"})
    assert [version.id for version in await store.catalog.versions("a1")] == ["a1-v1"]
    assert app.workspace == "default"
    assert await store.catalog.key_of("d" * 64) == Key("k1", "a1", "d" * 64, "app-1234", 7.0)
    assert await store.catalog.audit("default") == []
    assert await store.catalog.find_file("f1") is not None
    total, runs = await store.runs.list_runs(RunFilter("a1", source="service-api"))
    assert (total, [(run.run, run.status) for run in runs]) == (
        3,
        [("paused", "paused"), ("open", "running"), ("ended", "succeeded")],
    )
    assert [len(await store.journal.read(run)) for run in ("ended", "open", "paused")] == [5, 3, 3]
    assert await store.journal.unfinished() == ["open"]
    assert await store.leases.orphaned() == ["open"]
    assert dict(await store.runs.count_runs("service-api")) == {"paused": 1, "running": 1, "succeeded": 1}
    if version > "0001":
        assert [(due.run, due.url) for due in await store.callbacks.due_callbacks(1e12)] == [
            ("line", "http://example.com/hook")
        ]
        assert await store.idempotency.claim("a1", "kept", "other", 10.0, 0.0) == IdempotencyRecord(
            "a1", "kept", "digest", 9.0, 202, b'{"a": 1}'
        )
        assert [batch.id for batch in await store.batches.batches("a1")] == ["b1"]
        assert [line.error for line in await store.batches.batch_lines("b1")] == [None, "line 2: no JSON"]
        assert dict(await store.runs.count_runs("batch:b1")) == {"failed": 1}
    else:
        assert await store.callbacks.due_callbacks(1e12) == []
    talked, _ = await store.conversations.conversations("a1", "end-ada")
    assert await store.conversations.find_message("ended") is None
    if version > "0002":
        assert [(conversation.id, conversation.inputs) for conversation in talked] == [("c0", {"name": "礁溪"})]
        assert [variable.value for variable in await store.conversations.conversation_variables("c0")] == ["good"]
        assert [exchange.answer for exchange in (await store.conversations.messages("c0"))[0]] == ["Hi!"]
        assert [feedback.id for feedback in await store.conversations.feedbacks("a1")] == ["fb1"]
        assert [annotation.hits for annotation in (await store.conversations.annotations("a1"))[1]] == [2]
        assert await store.conversations.annotation_reply("a1") == {"score_threshold": 0.9}
    else:
        assert talked == []
    await store.aclose()


@pytest.mark.parametrize("version", OLDER)
async def test_a_database_of_an_older_version_goes_on(version: str, tmp_path: Path) -> None:
    _of_old(version, tmp_path / "old.db")
    # two at once: one migrates, the other waits for it
    store, other = await asyncio.gather(*(SqlStorage.open(f"sqlite:///{tmp_path}/old.db") for _ in range(2)))
    await store.journal.append(numbered("open", [RunEnded("stopped")], after=3))
    await other.journal.append(numbered("paused", [RunResumed(), RunEnded("succeeded")], after=3))
    assert await store.journal.unfinished() == []
    request = replace(queued("new", "a1"), callback="http://example.com/hook", source="batch:b2")
    await store.journal.append(numbered("new", [request, RunEnded("succeeded")]))
    assert "new" in [callback.run for callback in await other.callbacks.due_callbacks(1e12)]
    assert dict(await other.runs.count_runs("batch:b2")) == {"succeeded": 1}
    await store.conversations.add_conversation(Conversation("c1", "a1", "end-ada", "New", {}, "", 10.0, 10.0), [])
    said = replace(queued("m1", "a1"), system={"query": "Hi?", "dialogue_count": 1}, conversation="c1")
    await store.journal.append(numbered("m1", [said, RunEnded("succeeded", {"answer": "Hi!"})]))
    assert [exchange.answer for exchange in (await other.conversations.messages("c1"))[0]] == ["Hi!"]
    entry = AuditEntry("e1", "team", 30.0, "created", "cli", "k2", {})
    await store.catalog.add_key(Key("k2", None, "e" * 64, "ws-12345", 30.0, workspace="team"), entry)
    assert [key.id for key in await other.catalog.keys()] == ["k1", "k2"]
    assert await other.catalog.audit("team") == [entry]
    await store.aclose()
    await other.aclose()
    _migrated(tmp_path / "migrated.db")
    assert _schema(tmp_path / "old.db") == _schema(tmp_path / "migrated.db")


async def test_messages_that_two_processes_had_given_one_number_stay_in_order(tmp_path: Path) -> None:
    _of_old("0005", tmp_path / "old.db")
    old = sqlite3.connect(tmp_path / "old.db")
    row = (
        "INSERT INTO exchanges SELECT ?, app, ?, end_user, inputs, query, files, ?, ?, status, answer, answer_files,"
        " error FROM exchanges WHERE id = 'm0'"
    )
    placed = [("b", 1, 2000.0), ("a", 1, 2000.0), ("m2", 2, 3000.0), ("none", 0, 1.0), ("zero", 0, 2.0)]
    old.executemany(row, [(run, "c0", number, at) for run, number, at in placed] + [("free", None, 0, 1.0)])
    old.commit()
    old.close()
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/old.db")
    messages = [
        (message.id, message.number, message.retry_of) for message in (await store.conversations.messages("c0"))[0]
    ]
    assert messages == [
        ("m2", 2, None),
        ("b", 1, "m0"),
        ("a", 1, "m0"),
        ("m0", 1, None),
        ("zero", 0, None),
        ("none", 0, None),
    ]
    said = replace(queued("late", "a1"), system={"query": "?", "dialogue_count": 2}, conversation="c0")
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("late", [said]))
    await store.aclose()


def test_opening_at_the_newest_schema_does_not_import_alembic(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from headrace.stores.sql import SqlStorage\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        await (await SqlStorage.open(sys.argv[1])).aclose()\n"
        "asyncio.run(main())\n"
        "print([name for name in ('alembic', 'sqlalchemy.orm') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{tmp_path}/new.db"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    await (await SqlStorage.open(f"sqlite:///{file}")).aclose()
    newer = sqlite3.connect(file)
    newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.execute("DELETE FROM installation")
    newer.commit()
    newer.close()
    before = _schema(file)
    with pytest.raises(StoreError, match=r"newer version of Headrace \(schema 9999"):
        await SqlStorage.open(f"sqlite:///{file}")
    assert _schema(file) == before


async def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE runs (id INTEGER)")
    other.close()
    with pytest.raises(StoreError, match="tables that Headrace did not make: runs"):
        await SqlStorage.open(f"sqlite:///{file}")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nonsense:hunter2", "The database's URL is not valid"),
        ("", "The database's URL is not valid"),
        ("postgresql://u:hunter2@host:port/d", "The database's URL is not valid"),
        ("sqlite://", "SQLite needs a file"),
        ("sqlite:///:memory:", "SQLite needs a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "SQLite needs a file"),
        ("oracle://u@h/d", "SQLite or PostgreSQL, not in oracle"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused(url: str, what: str) -> None:
    with pytest.raises(StoreError, match=what) as refused:
        await SqlStorage.open(url)
    assert "hunter2" not in str(refused.value)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is a letter, and no database at all. " * 100)
    with pytest.raises(StoreError, match="cannot be opened: file is not a database"):
        await SqlStorage.open(f"sqlite:///{tmp_path}/text.db")
    with pytest.raises(StoreError, match="cannot be created"):
        await SqlStorage.open(f"sqlite:///{tmp_path}/text.db/inside.db")


async def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    await (await SqlStorage.open(f"sqlite:///{tmp_path}/deep/er/headrace.db")).aclose()
    assert (tmp_path / "deep/er/headrace.db").exists()


async def test_many_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    stores = await asyncio.gather(*(SqlStorage.open(f"sqlite:///{tmp_path}/new.db") for _ in range(6)))
    for n, store in enumerate(stores):
        await store.journal.append(whole(f"r{n}"))
    assert [len(await stores[0].journal.read(f"r{n}")) for n in range(6)] == [5] * 6
    for store in stores:
        await store.aclose()
