"""`headrace doctor`, with real parts and with broken ones."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from headrace.adapters.installation import fingerprint
from headrace.doctor import Finding, Status, _clock, examine
from headrace.main import service
from headrace.settings import Settings
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.diagnosis import _shares_sessions, diagnose
from tests.cli.conftest import Invoke
from tests.mail.smtp import mail_server
from tests.postgresql import Server, execute
from tests.s3 import S3Server
from tests.temporal_server import Server as TemporalServer

SECRET = "ab" * 32


async def findings(settings: Settings, *parts: str) -> dict[str, Finding]:
    return {finding.part: finding async for finding in examine(settings, parts)}


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_new_installation_is_well(tmp_path: Path, invoke: Invoke) -> None:
    done = invoke("doctor", "--data", tmp_path / "data")
    assert done.exit_code == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line.split(":")[0].split(maxsplit=1)[1] for line in lines] == [
        "data folder",
        "database",
        "schema",
        "secret",
        "files",
        "sandbox",
        "plugins",
    ]
    assert lines[1] == "ok       database: SQLite, for processes on this machine"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) in (["files"], [])


def test_what_fails_is_said_on_one_line_and_by_the_exit_code(tmp_path: Path, invoke: Invoke, unused_port: int) -> None:
    (tmp_path / "file").touch()
    environ = {
        "HEADRACE_DATABASE_URL": f"postgresql://u:hunter2@127.0.0.1:{unused_port}/db",
        "HEADRACE_SMTP_URL": f"smtp://127.0.0.1:{unused_port}",
        "HEADRACE_SANDBOX_URL": f"http://127.0.0.1:{unused_port}",
        "HEADRACE_PLUGIN_PYTHON": str(tmp_path / "no-python"),
    }
    done = invoke("doctor", "--data", tmp_path / "file" / "data", "--json", **environ)
    assert done.exit_code == 1
    assert "hunter2" not in done.stdout + done.stderr
    by_part = {item["part"]: item for item in json.loads(done.stdout)}
    assert {part: item["status"] for part, item in by_part.items()} == {
        "data folder": "failed",
        "database": "failed",
        "knowledge": "failed",
        "secret": "failed",
        "files": "failed",
        "wire": "failed",
        "sandbox": "failed",
        "plugins": "failed",
        "mail": "failed",
    }
    assert all(item["message"] and item["advice"] for item in by_part.values()), by_part
    assert all(item["message"].isprintable() for item in by_part.values()), by_part
    # nothing is known about what is in a database that is away
    assert by_part["secret"]["advice"] == by_part["knowledge"]["advice"] == by_part["database"]["advice"]


@pytest.mark.parametrize("command", [("doctor",), ("db", "info"), ("db", "backup", "x.tar")])
def test_a_url_that_is_not_valid_is_one_line(command: tuple[str, ...], tmp_path: Path, invoke: Invoke) -> None:
    done = invoke(*command, "--data", tmp_path, HEADRACE_DATABASE_URL="postgresql://u:hunter2@host:port/db")
    assert done.exit_code == 1
    said = done.stdout + done.stderr
    assert "The database's URL is not valid: write it as sqlite:///PATH or" in said
    assert "hunter2" not in said


async def test_postgresql(tmp_path: Path, postgresql_server: Server, s3: S3Server) -> None:
    url = postgresql_server.new_database()
    settings = Settings(data=tmp_path, database_url=url, files_url=s3.new_bucket())
    by_part = await findings(settings, "database", "files")
    assert by_part["database"].message.startswith("PostgreSQL 1")
    assert by_part["schema"].message == "the first process that serves creates it"
    assert by_part["clock"].status == Status.OK
    assert by_part["durability"] == Finding(
        "durability",
        Status.WARNING,
        "fsync is off",
        "Set it to on: what is acknowledged may be lost when the server fails.",
    )
    assert "pooler" not in by_part
    assert by_part["files"].status == Status.OK
    name = url.partition("?")[0].rpartition("/")[2]
    execute(url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    await (await SqlStorage.open(url)).aclose()
    by_part = await findings(Settings(data=tmp_path, database_url=url), "database", "files")
    assert by_part["isolation"].status == Status.FAILED
    assert by_part["schema"].message.endswith("is the newest")
    assert by_part["files"].status == Status.WARNING  # on this machine, while there may be others


def test_sessions_that_a_pooler_shares(postgresql_server: Server) -> None:
    engine = create_engine(postgresql_server.url().replace("postgresql:", "postgresql+psycopg:"))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as one, engine.connect() as other:
        assert _shares_sessions(one, one) is True  # as two clients of a pooler that have the same session
        assert _shares_sessions(one, other.execution_options(isolation_level="AUTOCOMMIT")) is False
    engine.dispose()


@pytest.mark.parametrize(
    ("ahead", "status"),
    [(0.0, Status.OK), (1.9, Status.OK), (-2.5, Status.WARNING), (59.0, Status.WARNING), (-61.0, Status.FAILED)],
)
def test_clocks(ahead: float, status: Status) -> None:
    assert _clock(ahead).status == status


async def test_the_clock_of_a_server_on_this_machine(postgresql_url: str) -> None:
    assert abs(diagnose(postgresql_url).clock_ahead) < 60


@pytest.mark.parametrize("shared", [False, True])
async def test_the_secret(shared: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgresql_url") if shared else f"sqlite:///{tmp_path}/headrace.db"

    async def secret(**more: str) -> Finding:
        return (await findings(Settings(data=tmp_path, database_url=url, **more), "secret"))["secret"]  # type: ignore[arg-type]

    storage = await SqlStorage.open(url)
    assert (await secret()).status == Status.OK
    await storage.installation.fact("secret", fingerprint(bytes.fromhex(SECRET)))
    lost = await secret()
    assert (lost.status, "adopt-secret" in lost.advice) == (Status.FAILED, True)
    assert await secret(secret=SECRET) == Finding("secret", Status.OK, "configured")
    assert (await secret(secret="cd" * 32)).status == Status.FAILED
    assert (await secret(secret="short")).status == Status.FAILED
    if shared:
        await storage.installation.change_facts({"shared_secret": SECRET})
        assert await secret() == Finding("secret", Status.OK, "in the database")
    (tmp_path / "secret").write_text(SECRET)
    assert await secret() == Finding("secret", Status.OK, f"in {tmp_path}/secret")
    (tmp_path / "secret").write_text("cd" * 32)
    assert (await secret()).message == f"the one in {tmp_path}/secret is not the database's"
    await storage.aclose()


async def test_files_on_a_service_that_is_away(tmp_path: Path, s3: S3Server) -> None:
    settings = Settings(data=tmp_path, files_url=s3.new_bucket())
    s3.stop()
    try:
        failed = (await findings(settings, "files"))["files"]
    finally:
        s3.start()
    assert (failed.status, failed.advice.startswith("Check HEADRACE_FILES_URL")) == (Status.FAILED, True)


def test_why_a_bucket_cannot_be_used(tmp_path: Path, invoke: Invoke, s3: S3Server) -> None:
    done = invoke("doctor", "--data", tmp_path, HEADRACE_FILES_URL="s3://no-such-bucket/prefix")
    assert "failed   files: there is no such bucket. Check HEADRACE_FILES_URL" in done.stdout


async def test_the_mail_server(tmp_path: Path) -> None:
    async with mail_server() as server:
        url = f"smtp://127.0.0.1:{server.port}"
        half = (await findings(Settings(data=tmp_path, smtp_url=url), "mail"))["mail"]
        assert (half.status, half.message) == (Status.WARNING, "not set: HEADRACE_SMTP_FROM, HEADRACE_PUBLIC_URL")
        settings = Settings(data=tmp_path, smtp_url=url, smtp_from="a@b.example", public_url="https://a.example")
        finding = (await findings(settings, "mail"))["mail"]
        assert finding == Finding("mail", Status.OK, "the server accepts a connection")
        assert server.messages == []


async def test_a_database_of_another_version(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    await (await SqlStorage.open(settings.database)).aclose()
    engine = create_engine(settings.database)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    assert (await findings(settings, "database"))["schema"].status == Status.WARNING
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert (await findings(settings, "database"))["schema"].message.startswith("9999, of a newer version that this one")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE installation SET value = '9998' WHERE name = 'readable_by'")
    engine.dispose()
    newer = (await findings(settings, "database"))["database"]
    assert (newer.status, "newer version" in newer.message) == (Status.FAILED, True)


async def test_temporal_is_checked_if_it_is_set(
    tmp_path: Path, temporal_server: TemporalServer, unused_port: int
) -> None:
    queue = temporal_server.options().task_queue
    known = Settings(data=tmp_path, temporal_address=temporal_server.address, temporal_task_queue=queue)
    assert await findings(known, "temporal") == {
        "temporal": Finding("temporal", Status.OK, f"{temporal_server.address}, 0 runs wait")
    }
    away = Settings(data=tmp_path, temporal_address=f"127.0.0.1:{unused_port}")
    finding = (await findings(away, "temporal"))["temporal"]
    assert (finding.status, finding.advice) == (Status.FAILED, "See docs/temporal.md.")
    assert finding.message.startswith(f"Temporal at 127.0.0.1:{unused_port} does not answer")


async def test_knowledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_port: int) -> None:
    settings = Settings(data=tmp_path, demo_model=True)
    assert await findings(settings, "knowledge") == {}
    async with service(settings, {}, work=False) as running:
        assert running.knowledge is not None
        assert await findings(settings, "knowledge") == {}
        bases = running.knowledge.service
        manuals = await bases.create("default", "key", "Manuals", {})
        document = await bases.add_document(manuals, "key", b"one", "a.md", "text/plain", {"technique": "high_quality"})
        finding = (await findings(settings, "knowledge"))["knowledge"]
        message = "knowledge bases: 1, documents: 1, being indexed: 1"
        assert finding == Finding("knowledge", Status.OK, message)
        await bases.store.documents.change_document(document.id, {"status": "error", "error": "the model is gone"})
        finding = (await findings(settings, "knowledge"))["knowledge"]
        assert finding.status == Status.WARNING
        assert finding.message == "Manuals: documents in error: 1 of 1: the model is gone"
        assert "headrace knowledge resume" in finding.advice
        await bases.delete_document(document)
        await bases.store.datasets.change_dataset(manuals.id, {"embedding_provider": "openai", "embedding_model": "e"})
    without_demo = Settings(data=tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    finding = (await findings(without_demo, "knowledge"))["knowledge"]
    assert finding.status == Status.FAILED
    assert finding.message.startswith("Manuals: the embedding model openai/e cannot be called: provider_not_initialize")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{unused_port}/v1")
    finding = (await findings(without_demo, "knowledge"))["knowledge"]
    assert finding.status == Status.FAILED
    assert "sk-secret" not in finding.message


async def test_knowledge_on_postgresql(tmp_path: Path, postgresql_server: Server) -> None:
    settings = Settings(data=tmp_path, demo_model=True, database_url=postgresql_server.new_database())
    assert await findings(settings, "knowledge") == {}
    async with service(settings, {}, work=False) as running:
        assert running.knowledge is not None
        bases = running.knowledge.service
        manuals = await bases.create("default", "key", "Manuals", {"technique": "economy"})
        await bases.add_document(manuals, "key", b"one", "a.md", "text/plain", {})
        finding = (await findings(settings, "knowledge"))["knowledge"]
        assert finding.message == "knowledge bases: 1, documents: 1, being indexed: 1"
