"""What a test runs beside itself: servers in threads. They are ended with the block they are begun in, however it is
left, and their threads are daemons: nothing that a failed test leaves keeps the suite from ending."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer


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
