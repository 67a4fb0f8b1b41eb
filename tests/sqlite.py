"""New databases of SQLite begin as copies of one: to create today's tables takes 30 ms of CPU time, and the tests make
some thousand databases. tests/stores/test_migrations.py goes without."""

from __future__ import annotations

import functools
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from headrace.stores import sql
from headrace.stores.sql.database import Database, connect


def copy_new_databases() -> None:
    """From now on, in this process and those forked from it."""
    _content()
    sql.connect = _connect


@functools.cache
def _content() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "headrace.db"
        connect(f"sqlite:///{file}").close()
        return file.read_bytes()


def _connect(url: str, *, full_sync: bool = False) -> Database:
    with suppress(ArgumentError, OSError):  # which `connect` reports
        parsed = make_url(url)
        database = parsed.database
        if parsed.get_backend_name() == "sqlite" and database and not parsed.query and database != ":memory:":
            _copy(Path(database))
    return connect(url, full_sync=full_sync)


def _copy(file: Path) -> None:
    """Whole or not at all, and only where there is no file: another process may open it at the same time."""
    if file.exists():
        return
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".headrace-") as copy:
        copy.write(_content())
        copy.flush()
        os.fchmod(copy.fileno(), 0o644)
        os.link(copy.name, file)
