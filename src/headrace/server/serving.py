"""What `serve` and `work` have in common: the server of a process that may drive runs."""

from __future__ import annotations

import errno
import gc
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError
from headrace.main import Service
from headrace.server.tls import Tls
from headrace.server.uvicorn_server import Serving
from headrace.settings import Settings

# before the collector looks for cycles among them: streams create many that die soon, and hardly any are in cycles
_NEW_OBJECTS = 20_000


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; others may listen on the same port if they all are `shared`. HeadraceError where the address
    is not available."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048, reuse_port=shared)
    except OSError as error:
        in_use = "the port is in use (--port 0 picks a free one)"
        reason = in_use if error.errno == errno.EADDRINUSE else error.strerror or error
        raise HeadraceError(f"cannot listen on {host}:{port}: {reason}") from error
    except UnicodeError as error:  # a label of the name is empty, or too long
        raise HeadraceError(f"cannot listen on {host}:{port}: it is not the name of a host") from error


def url_of(listener: socket.socket, tls: Tls | None = None) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def serving_of(settings: Settings, running: Service, on_ready: Callable[[], None], tls: Tls | None = None) -> Serving:
    """How the server of a service runs. `on_ready` is called once requests are accepted."""

    def ready() -> None:
        # what is loaded by now stays: the collector need not traverse it during requests; to collect it first would
        # take a twentieth of the start, and free 0.2 MB
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)
        gc.enable()
        on_ready()

    return Serving(
        tls=tls,
        request_seconds=settings.request_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        drain_seconds=settings.drain_seconds,
        ready=ready,
        drain=running.drain,
        is_idle=running.is_idle,
        active_runs=lambda: len(running.run_service.driving),
    )


def write_ready_file(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON atomically, readable by its owner only: it may have keys."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=2)
    partial.replace(path)
