"""`headrace db`: what an operator sees, and what becomes of the data folder."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.ports import StoredFile
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.schema import READABLE_BY, REVISIONS
from headrace.values import File
from tests.cli.conftest import Invoke
from tests.cli.flows import environ
from tests.contracts.examples import numbered, queued, whole
from tests.postgresql import Server

DATABASES = Path(__file__).parents[1] / "data" / "databases"
FLOW = Path(__file__).parents[1] / "data" / "apps" / "simple_passthrough.yml"
FILE = "0d5fa1f0-0000-4000-8000-00000000beef"


def with_store(folder: Path, work: Callable[[SqlStorage], Any]) -> Any:
    url = f"sqlite:///{folder.absolute()}/headrace.db"

    async def run() -> Any:
        store = await SqlStorage.open(url)
        try:
            return await work(store)
        finally:
            await store.aclose()

    return asyncio.run(run())


@pytest.fixture
def data(tmp_path: Path, invoke: Invoke) -> Path:
    """A data folder with an app, a run of long ago, one under way, and a stored file that it has."""
    folder = tmp_path / ".headrace"
    assert invoke("apps", "add", FLOW).exit_code == 0

    async def fill(store: SqlStorage) -> None:
        await store.journal.append(whole("old", at=1000.0))
        await store.journal.append(numbered("going", [queued("going", f=FILE)], at=1000.0))

    with_store(folder, fill)
    with closing(sqlite3.connect(folder / "headrace.db")) as connection, connection:
        connection.execute("INSERT INTO files VALUES (?, 'app', NULL, 1000.0, ?)", (FILE, b"null"))
    stored = folder / "files" / FILE[:2] / FILE
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"bytes of a file")
    os.utime(stored, (2000, 2000))
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    """What a folder has, by name; the database as SQL."""
    contents: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("headrace.db"):
            contents[str(path.relative_to(folder))] = path.read_bytes()
    with closing(sqlite3.connect(folder / "headrace.db")) as connection:
        contents["headrace.db"] = "\n".join(connection.iterdump()).encode()
    return contents


# ------------------------------------------------------------------------------------------------------ schema, sizes


def test_upgrade_says_what_it_would_do_and_does_it(tmp_path: Path, invoke: Invoke):
    folder = tmp_path / "data"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "headrace.db")) as old:
        old.executescript((DATABASES / "0001.sql").read_text())
    left = ", ".join(REVISIONS[1:])
    result = invoke("db", "upgrade", "--check", "--data", folder)
    assert (result.exit_code, result.stdout) == (1, f"The schema is 0001; pending: {left}.\n")
    assert invoke("db", "upgrade", "--check", "--data", folder).exit_code == 1, "looking changes nothing"
    result = invoke("db", "upgrade", "--data", folder)
    assert (result.exit_code, result.stdout) == (0, f"The schema was 0001; now it is {REVISIONS[-1]}.\n")
    result = invoke("db", "upgrade", "--check", "--data", folder)
    assert (result.exit_code, result.stdout) == (0, f"The schema is {REVISIONS[-1]}: it is up to date.\n")


@pytest.mark.parametrize(
    "command", [["upgrade"], ["upgrade", "--check"], ["prune", "--older-than", "1d"], ["backup", "b.tar"]]
)
def test_a_newer_database_is_left_alone(data: Path, invoke: Invoke, command: list[str]):
    with closing(sqlite3.connect(data / "headrace.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE installation SET value = '9999' WHERE name = 'readable_by'")
    result = invoke("db", *command)
    assert result.exit_code == 1
    assert "is of a newer version of Headrace (schema 9999" in result.stderr
    assert not Path("b.tar").exists()


@pytest.mark.parametrize("command", [["upgrade"], ["info"], ["prune", "--older-than", "1d"], ["backup", "b.tar"]])
def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, invoke: Invoke, command: list[str]):
    result = invoke("db", *command, "--data", tmp_path / "nowhere")
    assert (result.exit_code, result.stderr.count("no such folder")) == (2, 1)
    assert not (tmp_path / "nowhere").exists()


def test_info_counts(data: Path, invoke: Invoke):
    body = json.loads(invoke("db", "info", "--json", HEADRACE_RETENTION_DAYS="30").stdout)
    assert (body["schema"], body["file_bytes"], body["retention_days"]) == (REVISIONS[-1], 15, "30")
    assert (body["rows"]["runs"], body["rows"]["files"]) == (2, 1)
    assert body["database_bytes"] >= (data / "headrace.db").stat().st_size
    assert "stored files" in invoke("db", "info").stdout


# ------------------------------------------------------------------------------------------------------------- pruning


def test_prune_says_what_would_go_and_deletes_it(data: Path, invoke: Invoke):
    result = invoke("db", "prune", "--older-than", "30d", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "Would delete 1 run, 5 events.\n")
    assert json.loads(invoke("db", "info", "--json").stdout)["rows"]["runs"] == 2
    result = invoke("db", "prune", "--older-than", "30d", "--status", "failed")
    assert (result.exit_code, result.stdout) == (0, "Deleted nothing.\n")
    result = invoke("db", "prune", "--vacuum", "--json", HEADRACE_RETENTION_DAYS="failed=10,succeeded=30")
    assert result.exit_code == 0
    pruned = json.loads(result.stdout)
    assert (pruned["runs"], pruned["events"], pruned["files"], pruned["dry_run"]) == (1, 5, 0, False)
    assert (data / "files" / FILE[:2] / FILE).exists(), "a run that is under way has it"

    async def end(store: SqlStorage) -> None:
        await store.journal.append(whole("going", at=1000.0)[1:])

    with_store(data, end)
    result = invoke("db", "prune", "--older-than", "30d")
    assert result.stdout == "Deleted 1 run, 5 events, 1 file (15 bytes of files).\n"
    assert not (data / "files" / FILE[:2] / FILE).exists()


def test_prune_has_to_know_how_old(data: Path, invoke: Invoke):
    result = invoke("db", "prune")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: give an age: --older-than 30d, or HEADRACE_RETENTION_DAYS\n",
    )
    result = invoke("db", "prune", "--status", "failed", HEADRACE_RETENTION_DAYS="succeeded=1")
    assert result.exit_code == 2
    assert "keeps failed forever" in result.stderr
    assert invoke("db", "prune", "--older-than", "soon").exit_code == 2
    result = invoke("db", "prune", HEADRACE_RETENTION_DAYS="soon")
    assert (result.exit_code, "'soon' is not a number of days" in result.stderr) == (2, True)


# ------------------------------------------------------------------------------------------------------------- backups


@pytest.mark.parametrize("name", ["backup.tar", "backup.tar.gz", "備份.tgz"])
def test_a_backup_brings_everything_back(data: Path, tmp_path: Path, invoke: Invoke, name: str):
    result = invoke("db", "backup", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"schema {REVISIONS[-1]}, 1 stored file" in result.stdout
    assert Path(name).stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {".headrace", name}, "nothing else is left"
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xf", name, "-C", "unpacked"], cwd=tmp_path, check=True)  # as anybody can
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "unpacked", check=True)

    result = invoke("db", "restore", name, "--data", "other")
    assert (result.exit_code, result.stderr) == (0, "")
    assert everything(tmp_path / "other") == everything(data)
    stored = tmp_path / "other" / "files" / FILE[:2] / FILE
    assert int(stored.stat().st_mtime) == 2000, "when it was last used is known"
    for path in (tmp_path / "other").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, "nobody else reads it"
    assert invoke("keys", "list", "--data", "other").stdout == invoke("keys", "list").stdout
    assert not list((tmp_path / "other").glob(".restoring*"))


def test_a_backup_may_leave_the_files_out_and_tells_what_is_missing(data: Path, invoke: Invoke):
    assert "0 stored files" in invoke("db", "backup", "b.tar", "--without-files").stdout
    result = invoke("db", "restore", "b.tar", "--data", "other")
    assert (result.exit_code, "made without stored files" in result.stderr) == (0, True)
    (data / "files" / FILE[:2] / FILE).unlink()
    result = invoke("db", "backup", "c.tar")
    assert (result.exit_code, "refers to them: 1 stored file." in result.stderr) == (0, True)


def test_nothing_is_replaced_unless_it_is_said(data: Path, tmp_path: Path, invoke: Invoke):
    Path("b.tar").write_text("mine")
    result = invoke("db", "backup", "b.tar")
    assert (result.exit_code, "is there already" in result.stderr, Path("b.tar").read_text()) == (1, True, "mine")
    assert invoke("db", "backup", "b.tar", "--force").exit_code == 0
    before = everything(data)
    result = invoke("db", "restore", "b.tar")
    assert (result.exit_code, "is not empty (files, headrace.db" in result.stderr) == (1, True)
    assert everything(data) == before
    assert invoke("db", "prune", "--older-than", "1d").exit_code == 0
    (data / "notes.txt").write_text("mine")
    assert everything(data) != before
    assert invoke("db", "restore", "b.tar", "--force").exit_code == 0
    assert everything(data) == {**before, "notes.txt": b"mine"}, "what is not ours stays"


def test_an_installation_in_use_is_not_replaced(data: Path, invoke: Invoke):
    assert invoke("db", "backup", "b.tar").exit_code == 0
    before = everything(data)
    is_open, done = threading.Event(), threading.Event()

    async def hold(store: SqlStorage) -> None:
        is_open.set()
        await asyncio.to_thread(done.wait)

    server = threading.Thread(target=with_store, args=(data, hold), daemon=True)
    server.start()
    try:
        assert is_open.wait(60)
        result = invoke("db", "restore", "b.tar", "--force")
    finally:
        done.set()
        server.join(20)
    assert (result.exit_code, "is in use: stop the server first" in result.stderr) == (1, True)
    assert everything(data) == before


def test_postgresql_is_backed_up_by_its_own_tools(data: Path, invoke: Invoke):
    url = "postgresql+psycopg://ada:hunter2@db.example/headrace"
    result = invoke("db", "backup", "b.tar", HEADRACE_DATABASE_URL=url)
    assert result.exit_code == 1
    assert "pg_dump --format=custom --file=headrace.dump 'postgresql://ada@db.example/headrace'" in result.stderr
    result = invoke("db", "restore", "b.tar", HEADRACE_DATABASE_URL=url)
    assert result.exit_code == 1
    restore = "pg_restore --single-transaction --dbname='postgresql://ada@db.example/headrace' headrace.dump"
    assert f"restore it into an empty database with `{restore}`" in result.stderr


def test_a_full_disk_leaves_nothing_behind(data: Path, tmp_path: Path):
    def db(limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        # no file may become larger than so many blocks of 1024 bytes: to a program that is as if the disk were full
        command = [
            "bash",
            "-c",
            f'ulimit -f {limit}; exec "$@"',
            "_",
            sys.executable,
            "-B",  # a compiled module would be cut off, too, and stay so
            "-m",
            "headrace",
            "db",
            *arguments,
        ]
        return subprocess.run(command, cwd=tmp_path, env=environ(), capture_output=True, text=True, check=False)

    result = db(100, "backup", "b.tar")
    assert (result.returncode, result.stderr.count("Error: "), "Traceback" in result.stderr) == (1, 1, False)
    assert {path.name for path in tmp_path.iterdir()} == {".headrace"}
    assert db(100_000, "backup", "b.tar").returncode == 0
    result = db(100, "restore", "b.tar", "--data", "other")
    assert (result.returncode, "headrace.db cannot be written: File too large" in result.stderr) == (1, True)
    assert {path.name for path in tmp_path.iterdir()} == {".headrace", "b.tar"}
    before = everything(data)
    assert db(100, "restore", "b.tar", "--force").returncode == 1
    assert everything(data) == before


# ------------------------------------------------------------------------------------------------------ hostile backups


def members(archive: str) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # pyright: ignore[reportOptionalMemberAccess]


def written(archive: str, contents: Mapping[str, bytes], *more: tarfile.TarInfo, sums: bool = True) -> None:
    """An archive of these files, its checksums made right, and `more` before the last."""
    fields = {name: content for name, content in contents.items() if name != "SHA256SUMS"}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in fields.items()]
    if sums:
        fields["SHA256SUMS"] = "".join(lines).encode()
    with tarfile.open(archive, "w") as tar:
        for name, content in fields.items():
            if name == "SHA256SUMS":
                for entry in more:
                    tar.addfile(entry, io.BytesIO(b"x" * entry.size))
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def refused(invoke: Invoke, tmp_path: Path, archive: str) -> str:
    """Why an archive is not restored. Nothing is left of it."""
    before = {path for path in tmp_path.rglob("*") if not path.name.startswith("headrace.db")}
    result = invoke("db", "restore", archive, "--data", "other")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert {path for path in tmp_path.rglob("*") if not path.name.startswith("headrace.db")} == before
    return result.stderr


@pytest.fixture
def backup(data: Path, invoke: Invoke) -> dict[str, bytes]:
    assert invoke("db", "backup", "good.tar").exit_code == 0
    return members("good.tar")


def test_what_was_cut_off_or_damaged_is_refused(backup: dict[str, bytes], tmp_path: Path, invoke: Invoke):
    whole_ = Path("good.tar").read_bytes()
    zipped = gzip.compress(whole_)
    for n in range(1, 12):
        Path("bad.tar").write_bytes(whole_[: len(whole_) * n // 12])
        assert "cut off" in refused(invoke, tmp_path, "bad.tar")
        Path("bad.tar").write_bytes(zipped[: len(zipped) * n // 12])
        assert "cut off" in refused(invoke, tmp_path, "bad.tar")
    Path("bad.tar").write_bytes(whole_.replace(b"bytes of a file", b"bytes of a lie!"))
    assert "the checksum of 'files/0d/" in refused(invoke, tmp_path, "bad.tar")
    Path("bad.tar").write_bytes(zipped[:-8] + b"\0" * 8)
    assert "damaged" in refused(invoke, tmp_path, "bad.tar")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a backup", b"\x1f\x8bnot gzip at all", os.urandom(10_000), b"\0" * 10_240, gzip.compress(b"", mtime=0)],
)
def test_other_files_are_refused(tmp_path: Path, invoke: Invoke, content: bytes):
    Path("bad.tar").write_bytes(content)
    assert "bad.tar" in refused(invoke, tmp_path, "bad.tar")
    assert "no such file" in refused(invoke, tmp_path, "nothing.tar")


@pytest.mark.parametrize(
    "bad",
    [
        entry("../escaped"),
        entry("/tmp/headrace-escaped"),
        entry("files/../../escaped"),
        entry("files/0d/../../../escaped"),
        entry(f"files/00/{FILE}"),
        entry("headrace.db-wal"),
        entry("notes.txt"),
        entry("secret", size=10),
        entry("files", tarfile.DIRTYPE),
        entry("files/aa", tarfile.SYMTYPE, "/etc"),
        entry("files/aa", tarfile.LNKTYPE, "/etc/passwd"),
        entry("files/aa", tarfile.FIFOTYPE),
        entry("files/aa", tarfile.CHRTYPE),
        entry("x", tarfile.XHDTYPE),
        entry("x", tarfile.GNUTYPE_LONGNAME, size=300),
        entry("x", tarfile.GNUTYPE_SPARSE),
    ],
)
def test_what_does_not_belong_into_a_backup_is_refused(
    backup: dict[str, bytes], tmp_path: Path, invoke: Invoke, bad: tarfile.TarInfo
):
    written("bad.tar", backup, bad)
    assert "cannot be restored" in refused(invoke, tmp_path, "bad.tar")
    assert not Path("/tmp/headrace-escaped").exists()


def test_what_is_missing_or_wrong_in_a_backup_is_reported(backup: dict[str, bytes], tmp_path: Path, invoke: Invoke):
    def message_of(**changed: Any) -> str:
        manifest = json.loads(backup["manifest.json"]) | changed
        written("bad.tar", {**backup, "manifest.json": json.dumps(manifest).encode()})
        return refused(invoke, tmp_path, "bad.tar")

    written("bad.tar", backup)
    assert invoke("db", "restore", "bad.tar", "--data", "fine").exit_code == 0
    assert "it is of a newer version of Headrace (" in message_of(revision="9999")
    assert "its database is not what its manifest says" in message_of(revision="0001")
    assert "its format is unknown" in message_of(format=2)
    assert "its manifest cannot be read" in message_of(revision=7)
    written("bad.tar", {**backup, "manifest.json": b"[" * 50_000})
    assert "its manifest cannot be read" in refused(invoke, tmp_path, "bad.tar")
    written("bad.tar", {**backup, "manifest.json": b"x" * 200_000})
    assert "its manifest.json is too large" in refused(invoke, tmp_path, "bad.tar")
    written("bad.tar", {name: content for name, content in backup.items() if name != "headrace.db"})
    assert "it has no database" in refused(invoke, tmp_path, "bad.tar")
    written("bad.tar", backup, sums=False)
    assert "its checksums are missing" in refused(invoke, tmp_path, "bad.tar")
    written("bad.tar", {**backup, "headrace.db": b"no database" * 1000})
    assert "file is not a database" in refused(invoke, tmp_path, "bad.tar")
    newer = bytearray(backup["headrace.db"])
    for revision in (REVISIONS[-1], READABLE_BY):
        newer = newer.replace(revision.encode(), b"9999")
    written("bad.tar", {**backup, "headrace.db": bytes(newer)})
    assert "newer version" in refused(invoke, tmp_path, "bad.tar")


def test_a_backup_that_claims_to_be_larger_than_the_disk_is_refused(
    backup: dict[str, bytes], tmp_path: Path, invoke: Invoke
):
    with tarfile.open("bad.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        manifest = entry("manifest.json", size=len(backup["manifest.json"]))
        tar.addfile(manifest, io.BytesIO(backup["manifest.json"]))
        tar.fileobj.write(entry("headrace.db", size=2**60).tobuf(tarfile.GNU_FORMAT))  # pyright: ignore[reportOptionalMemberAccess]
    assert "there is not enough space for headrace.db" in refused(invoke, tmp_path, "bad.tar")


def test_only_postgresql_is_partitioned(data: Path, invoke: Invoke, postgresql_server: Server):
    result = invoke("db", "partition")
    assert (result.exit_code, "only PostgreSQL has partitions" in result.stderr) == (1, True)
    environment = {"HEADRACE_DATABASE_URL": postgresql_server.new_database()}
    outputs = [invoke("db", "partition", **environment).stdout for _ in range(2)]
    assert outputs == ["The events are in partitions by day now.\n", "The events are in partitions already.\n"]


def test_a_data_folder_is_imported_into_an_empty_postgresql(
    data: Path, invoke: Invoke, postgresql_server: Server
) -> None:
    new = data.with_name("new")
    stored = StoredFile(FILE, File("document", "local_file", "a.txt", ".txt", "text/plain", 15), "app", None, 1000.0)
    with closing(sqlite3.connect(data / "headrace.db")) as connection, connection:
        connection.execute("DELETE FROM files")
    with_store(data, lambda store: store.catalog.add_file(stored))
    environment = {"HEADRACE_DATABASE_URL": postgresql_server.new_database(), "HEADRACE_DATA": str(new)}

    def imported(folder: Path = data, **more: str) -> str:
        result = invoke("db", "import", folder, **(environment | more))
        assert (result.exit_code, result.stdout) == (1, "")
        return result.stderr

    assert "Set HEADRACE_DATABASE_URL to the PostgreSQL database" in imported(HEADRACE_DATABASE_URL="")
    assert "headrace.db: no such file" in imported(data / "files")
    with closing(sqlite3.connect(data / "headrace.db")) as connection:
        connection.execute("PRAGMA user_version").fetchone()
        connection.execute("SELECT count(*) FROM runs").fetchone()
        assert "is in use: stop the server first" in imported()
    secret = (data / "secret").read_text()
    assert "is not the secret of" in imported(HEADRACE_SECRET="ab" * 32)
    (data / "secret").rename(data / "elsewhere")
    assert "secret: no such file; set HEADRACE_SECRET" in imported()
    done = invoke("db", "import", data, HEADRACE_SECRET=secret, **environment)
    assert done.stdout == "Copied 1 apps, 1 keys, 2 runs, 1 stored file.\n"
    assert done.stderr == "The secret is in HEADRACE_SECRET.\n"
    assert (new / "files" / FILE[:2] / FILE).read_bytes() == b"bytes of a file"
    assert "The database has" in imported(HEADRACE_SECRET=secret)
    counted = [json.loads(invoke("db", "info", "--json", **given).stdout)["rows"] for given in ({}, environment)]
    assert counted[0] | {"workers": 0, "claims": 0} == counted[1]


def test_what_is_imported_is_as_it_was(data: Path, invoke: Invoke, postgresql_server: Server) -> None:
    url = postgresql_server.new_database()
    assert invoke("db", "import", data, HEADRACE_DATABASE_URL=url).exit_code == 0

    async def read(store: SqlStorage) -> Any:
        return [await store.journal.read(run) for run in ("old", "going")], await store.catalog.apps()

    async def moved() -> Any:
        store = await SqlStorage.open(url)
        try:
            assert await store.leases.orphaned() == ["going"], "it continues"
            return await read(store)
        finally:
            await store.aclose()

    assert asyncio.run(moved()) == with_store(data, read)
