"""What a test runs beside itself: servers in threads, and processes. They are ended with the block they are begun in,
however it is left, and the threads are daemons: nothing that a failed test leaves keeps the suite from ending."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from socketserver import BaseServer
from typing import Any


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """Serves in a daemon thread until the block is left; closes the server then."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def child(command: Sequence[str | Path], **options: Any) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process, whose pipes carry text."""
    return running(subprocess.Popen([*map(str, command)], text=True, **options))


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kills the process where an error leaves the block; otherwise waits for its end."""
    with process:
        try:
            yield process
        except BaseException:
            process.kill()  # else it would be waited for
            raise
        process.wait(60)
