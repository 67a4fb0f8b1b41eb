"""Sandboxes for a whole file of tests: making one ready takes a quarter of a second."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.adapters.sandbox import LocalSandbox
from tests.sandbox.attacks import SECRET
from tests.sandbox.node_programs import without_node


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[LocalSandbox]:
    """As it is served."""
    local = LocalSandbox()
    yield local
    await local.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def confined() -> AsyncIterator[LocalSandbox]:
    """Python in CPython only."""
    local = LocalSandbox(memory=128 * 1024 * 1024)
    yield local
    await local.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quickjs() -> AsyncIterator[LocalSandbox]:
    """As it is where there is no Node.js."""
    local = without_node(memory=128 * 1024 * 1024)
    yield local
    await local.aclose()


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that everyone may read and a directory that everyone may write to; a variable of the service's."""
    monkeypatch.setenv("HEADRACE_TEST_SECRET", SECRET)
    tmp_path.chmod(0o777)
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    path.chmod(0o666)
    return path


@pytest.fixture
def visited() -> Iterator[tuple[int, list[bytes]]]:
    """A port on loopback, and what came to it."""
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        came.append(b"somebody")
            except OSError:
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(2)
