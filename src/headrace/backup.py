"""Operations on an installation as a whole: `headrace db`. Connects the parts, as `main` does for serving."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_bytes

from sqlalchemy import Connection, select

from headrace import __version__
from headrace.adapters import archive
from headrace.adapters.archive import Manifest, Packed
from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.installation import SECRET, SHARED_SECRET, configured_secret, fingerprint, installation_secret
from headrace.errors import HeadraceError
from headrace.factories import file_blobs
from headrace.frozen import frozen
from headrace.ports import FileBlobs, Pruner
from headrace.retention import Retention
from headrace.settings import Settings
from headrace.stores.sql import SqlStorage
from headrace.stores.sql import snapshot as databases
from headrace.stores.sql.copying import copy_rows
from headrace.stores.sql.partitions import partition_events
from headrace.stores.sql.schema import REVISIONS, metadata
from headrace.stores.sql.snapshot import DatabaseStatus

_STAGING = ".restoring-"
_HARMLESS = frozenset({"lost+found"})  # in the root of a new file system


def database_status(settings: Settings, *, count: bool = True) -> DatabaseStatus:
    """Schema and size of the database. StoreError if it cannot be read, or is of a newer version."""
    return databases.database_status(settings.database, count=count)


async def file_bytes(settings: Settings) -> int:
    """The total size of the stored files."""
    return await file_blobs(settings).total_bytes()


async def upgrade(settings: Settings) -> DatabaseStatus:
    """Migrates the database. Returns its schema and size before."""
    before = database_status(settings, count=False)
    storage = await SqlStorage.open(settings.database, full_sync=settings.full_sync)
    await storage.aclose()
    return before


async def partition(settings: Settings) -> bool:
    """Moves the events of PostgreSQL into partitions by day; false if they are in some already."""
    if databases.file_of(settings.database) is not None:
        raise HeadraceError("The database is SQLite: only PostgreSQL has partitions.")
    storage = await SqlStorage.open(settings.database)
    try:
        return await storage.database.write(partition_events)
    finally:
        await storage.aclose()


async def adopt_secret(settings: Settings) -> str:
    """Makes the configured secret the database's, or the one of the data folder, whatever that was. Returns where that
    secret is."""
    secret_setting = configured_secret(settings.secret, settings.secret_file)
    shared = secret_setting is None and settings.database_kind != "sqlite"
    own = secret_setting is None and (not shared or (settings.data / SECRET).is_file())
    secret = secret_setting or (installation_secret(settings.data) if own else token_bytes(32))
    storage = await SqlStorage.open(settings.database, full_sync=settings.full_sync)
    try:
        await storage.installation.change_facts(
            {SECRET: fingerprint(secret), SHARED_SECRET: secret.hex() if shared else None}
        )
    finally:
        await storage.aclose()
    return "The configured secret" if secret_setting else f"The secret in {settings.data}" if own else "A new secret"


@frozen
class Imported:
    """What was copied: the rows of each table, the stored files, and where the secret is."""

    rows: Mapping[str, int]
    files: int
    secret: str


async def import_folder(settings: Settings, folder: Path) -> Imported:
    """Copies the installation of a data folder, which no process uses, into the empty PostgreSQL database of the
    settings and their storage of files. All rows are copied or none; files that were copied before a failure are
    copied again by the next call. HeadraceError if that is not possible."""
    file = folder / archive.DATABASE
    if settings.database_kind == "sqlite":
        raise HeadraceError("Set HEADRACE_DATABASE_URL to the PostgreSQL database that the data is to be copied to.")
    if not file.is_file():
        raise HeadraceError(f"{file}: no such file")
    if databases.in_use(file):
        raise HeadraceError(f"{file} is in use: stop the server first")
    secret_setting = configured_secret(settings.secret, settings.secret_file)
    if secret_setting is None and not (folder / SECRET).is_file():
        raise HeadraceError(f"{folder / SECRET}: no such file; set HEADRACE_SECRET to the secret of the installation")
    secret = secret_setting or installation_secret(folder)
    facts = {SECRET: fingerprint(secret)} | ({} if secret_setting else {SHARED_SECRET: secret.hex()})
    async with AsyncExitStack() as stack:
        source = await SqlStorage.open(f"sqlite:///{file.absolute()}")
        stack.push_async_callback(source.aclose)
        if await source.installation.fact(SECRET, fingerprint(secret)) != fingerprint(secret):
            raise HeadraceError(f"HEADRACE_SECRET is not the secret of {folder}: unset it, or set it to that one")
        target = await SqlStorage.open(settings.database)
        stack.push_async_callback(target.aclose)
        files = await _copy_files(source, FileBlobStore(folder / archive.FILES), file_blobs(settings))

        def copy(connection: Connection) -> Mapping[str, int]:
            with source.database.engine.connect() as reading:
                return copy_rows(reading, connection, facts)

        rows = await target.database.write(copy)
    return Imported(rows, files, "HEADRACE_SECRET" if secret_setting else "the database")


async def _copy_files(source: SqlStorage, old: FileBlobStore, new: FileBlobs) -> int:
    """Copies the stored files that the database knows and that are there. Returns how many."""
    if isinstance(new, FileBlobStore) and new.folder.absolute() == old.folder.absolute():
        return 0
    count = 0
    for file in await source.database.rows(select(metadata.tables["files"].c.id)):
        path = old.path(file["id"])
        row = await source.catalog.find_file(file["id"])
        if row is None or not path.is_file():
            continue
        with path.open("rb") as content:
            await new.write(file["id"], content, row.file.mime_type or "application/octet-stream")
        count += 1
    return count


@asynccontextmanager
async def retention(settings: Settings, seconds: Mapping[str, float]) -> AsyncGenerator[tuple[Retention, Pruner]]:
    """Deletes runs that are older than so many seconds, by status."""
    storage = await SqlStorage.open(settings.database, full_sync=settings.full_sync)
    try:
        yield Retention(storage.pruner, file_blobs(settings), seconds), storage.pruner
    finally:
        await storage.aclose()


# ------------------------------------------------------------------------------------------------------------ backup


def back_up(settings: Settings, target: Path, *, files: bool = True, force: bool = False) -> Packed:
    """Writes a backup of the data folder, while servers are running. HeadraceError if it cannot be written."""
    source = _sqlite(settings, "back it up", "and copy the stored files in {files}")
    before = database_status(settings, count=False)
    if before.revision is None:
        raise HeadraceError(f"{source}: there is nothing to back up")
    if not force and target.exists():
        raise HeadraceError(f"{target} is there already; give it another name, or say --force to replace it")
    if not target.parent.is_dir():
        raise HeadraceError(f"{target.parent}: no such folder")
    blobs = FileBlobStore(settings.data / archive.FILES)
    secret = settings.data / archive.SECRET
    configured = configured_secret(settings.secret, settings.secret_file) is not None
    # beside the archive: without space for it there is none for the archive either
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        copy = Path(folder) / archive.DATABASE
        databases.snapshot(settings.database, copy)
        revision, known_files = databases.checked(copy)
        files = files and not settings.files_url
        manifest = Manifest(archive.FORMAT, __version__, revision or "", time.time(), files)
        paths = [(file, blobs.path(file)) for file in sorted(known_files)] if files else []
        return archive.pack(target, manifest, copy, None if configured or not secret.is_file() else secret, paths)


def restore(settings: Settings, source: Path, *, force: bool = False) -> Packed:
    """Restores a backup into the data folder: all of it, or nothing changes. HeadraceError if it cannot be restored."""
    data = settings.data
    if settings.database_url:
        _sqlite(settings, "restore it into an empty database", "and copy the stored files back to {files}")
        raise HeadraceError("HEADRACE_DATABASE_URL names a database elsewhere; unset it to restore into a data folder")
    if not source.is_file():
        raise HeadraceError(f"{source}: no such file")
    new = not data.exists()
    if not new and (existing := sorted({path.name for path in data.iterdir()} - _HARMLESS)):
        if not force:
            names = ", ".join(existing[:5]) + (", ..." if len(existing) > 5 else "")
            raise HeadraceError(f"{data} is not empty ({names}); say --force to replace the installation in it")
        database = data / archive.DATABASE
        if database.exists() and databases.in_use(database):
            raise HeadraceError(f"{database} is in use: stop the server first")
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING, dir=data) as folder:
            new_files, old_files = Path(folder) / "new", Path(folder) / "old"
            new_files.mkdir()
            old_files.mkdir()
            package = archive.unpack(source, new_files, _accept)
            revision, _ = databases.checked(new_files / archive.DATABASE)
            if revision != package.manifest.revision:
                raise HeadraceError(f"{source} cannot be restored: its database is not what its manifest says")
            if os.name == "posix":
                os.sync()  # all of it is on the disk before it is in use
            _exchange(data, new_files, old_files)
    except BaseException:
        if new:
            shutil.rmtree(data, ignore_errors=True)
        raise
    return package


def _accept(manifest: Manifest) -> None:
    if manifest.revision not in REVISIONS:
        raise HeadraceError(
            f"it is of a newer version of Headrace ({manifest.headrace[:50]}, schema {manifest.revision[:50]}; "
            f"this is {__version__}, which knows {REVISIONS[-1]})"
        )


def _exchange(data: Path, new_files: Path, old_files: Path) -> None:
    """Replaces the old files with the new ones; if that fails, the old ones are put back. The database is moved last: a
    server finds nothing in a folder without it."""
    new = (archive.SECRET, archive.FILES, archive.DATABASE)
    old = [archive.DATABASE, f"{archive.DATABASE}-wal", f"{archive.DATABASE}-shm", archive.FILES, archive.SECRET]
    moves: list[tuple[Path, Path]] = []
    try:
        for here, there, names in ((data, old_files, old), (new_files, data, new)):
            for name in names:
                if (here / name).exists():
                    (here / name).rename(there / name)
                    moves.append((here / name, there / name))
    except BaseException:
        for before, after in reversed(moves):
            after.rename(before)
        raise


def _sqlite(settings: Settings, to_do: str, besides: str) -> Path:
    """The database's file. HeadraceError with the commands to use instead if it is PostgreSQL."""
    file = databases.file_of(settings.database)
    if file is None:
        dump, load = databases.backup_commands(settings.database)
        command = dump if to_do.startswith("back") else load
        besides = besides.format(files=settings.files_url or settings.data / archive.FILES)
        raise HeadraceError(f"The database is PostgreSQL: {to_do} with `{command}`, {besides}.")
    return file
