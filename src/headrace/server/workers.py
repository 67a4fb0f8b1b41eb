"""Several processes that serve on one port and one database: a parent starts them, and starts again those that die.

The parent has loaded the code, so that its workers share that memory; it opens nothing, and has no thread. Each worker
listens on a socket of its own at the same port (SO_REUSEPORT): the system spreads connections evenly, and at once past
a worker that has died. The first worker publishes the files; the others start once it is ready.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType

from headrace.background import back_off
from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.server.serving import listen

logger = logging.getLogger(__name__)

_STABLE_SECONDS = 60.0  # a worker that lived this long did not fail because it was started
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before a worker is started again
_MOST_FAILED_STARTS = 5  # in a row, of one worker; then all end
INTERRUPTED = 130  # status of a process that is stopped before it is ready
_LOADED = (
    "api.app",
    "api.native.routes",
    "api.trigger_endpoints",
    "server.serve",
    "server.uvicorn_server",
    "stores.sql",
    "telemetry.setup",
    "telemetry.worker_metrics",
)
_STOPS = (signal.SIGTERM, signal.SIGINT)


@frozen
class WorkerProcess:
    """What a worker process knows of itself. Number 0 publishes files."""

    number: int
    restarted: bool  # in place of one that has died, after all were ready
    folder: Path  # of the workers' sockets
    _ready: int  # descriptor of a pipe to the parent
    _parent: int  # descriptor of a pipe that ends with the parent

    def announce(self, message: bytes) -> None:
        """Says that it is ready. The message of worker 0 is what the parent's `on_ready` gets."""
        with os.fdopen(self._ready, "wb") as pipe:
            pipe.write(message or b"\n")

    def end_with_parent(self) -> None:
        """Stops this process, as by SIGTERM, once the parent has ended. To be called in the event loop."""
        loop = asyncio.get_running_loop()

        def on_end() -> None:
            loop.remove_reader(self._parent)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(self._parent, on_end)


@dataclass(slots=True)
class _Child:
    """A worker, as the parent sees it. `pipe` is the descriptor that its message comes from; None once it is closed."""

    number: int
    pipe: int | None
    message: bytes = b""
    started: float = field(default_factory=time.monotonic)

    @property
    def is_ready(self) -> bool:
        return self.pipe is None and bool(self.message)

    def read(self) -> None:
        assert self.pipe is not None
        if piece := os.read(self.pipe, 65536):
            self.message += piece
        else:
            self.close()

    def close(self) -> None:
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None


class Supervisor:
    """Starts `count` workers, starts again those that die, and passes on signals to stop. `on_ready` is called once all
    are ready, with the message of worker 0."""

    def __init__(self, count: int, on_ready: Callable[[bytes], None]) -> None:
        self._count = count
        self._on_ready = on_ready
        self._children: dict[int, _Child] = {}  # by process id
        self._due = {0: 0.0}  # when a worker is to be started, by number
        self._failures: Counter[int] = Counter()  # in a row, by number
        self._failed_starts: Counter[int] = Counter()  # the same, of those that were not even ready
        self._message: bytes | None = None  # of worker 0, until all are ready
        self._was_ready = False
        self._stopping = False
        self._status = 0

    def run(self) -> WorkerProcess:
        """Forks. Returns in each worker; in the parent, raises SystemExit once all of them have ended."""
        parent, alive = os.pipe()  # the system closes `alive` when the parent ends, however it does
        folder = Path(tempfile.mkdtemp(prefix="headrace-"))
        with _signals() as (signals, restore):
            while self._children or self._due:
                now = time.monotonic()
                for number in [number for number, due in self._due.items() if due <= now]:
                    del self._due[number]
                    receiving, sending = os.pipe()
                    # a signal that a new worker receives before it has restored the handlers would reach the parent
                    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
                    process = os.fork()
                    if process == 0:
                        restore()
                        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
                        os.setpgid(0, 0)  # Ctrl-C reaches the parent, which passes it on once
                        os.close(alive)
                        os.close(receiving)
                        for child in self._children.values():
                            child.close()
                        return WorkerProcess(number, self._was_ready, folder, sending, parent)
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
                    os.close(sending)
                    self._children[process] = _Child(number, receiving)
                self._handle_events(signals)
        shutil.rmtree(folder, ignore_errors=True)  # the workers remove it, too
        sys.exit(self._status)

    def _handle_events(self, signals: int) -> None:
        """Waits for events, and handles all that there are."""
        pipes = {child.pipe: child for child in self._children.values() if child.pipe is not None}
        pause = max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None
        readable, _, _ = select.select([signals, *pipes], [], [], pause)
        for descriptor in readable:
            if descriptor in pipes:
                pipes[descriptor].read()
                if pipes[descriptor].is_ready:
                    self._ready(pipes[descriptor])
        if signals in readable:
            for number in os.read(signals, 4096):
                if number in _STOPS:
                    self._stop(number)
            self._reap()

    def _ready(self, child: _Child) -> None:
        self._failed_starts[child.number] = 0
        if self._was_ready:
            logger.info("worker %d is ready again", child.number)
        if self._was_ready or self._stopping:
            return
        if self._message is None:
            self._message = child.message
            self._due = dict.fromkeys(range(1, self._count), 0.0)
        if not self._due and all(child.is_ready for child in self._children.values()):
            self._was_ready = True
            self._on_ready(self._message)

    def _stop(self, number: int) -> None:
        if not self._stopping and not self._was_ready:
            self._status = INTERRUPTED
        self._stopping = True
        self._due.clear()
        for process in self._children:
            os.kill(process, number)

    def _reap(self) -> None:
        while self._children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            child = self._children.pop(process)
            child.close()
            code = os.waitstatus_to_exitcode(status)
            if not self._stopping:
                self._ended(child, code)
            elif code not in (0, INTERRUPTED) and -code not in _STOPS:  # one that was starting does not handle them yet
                self._status = self._status or 1

    def _ended(self, child: _Child, code: int) -> None:
        """Starts a worker again that has ended by itself; ends all if it cannot start."""
        how = f"by signal {-code}" if code < 0 else f"with status {code}"
        if time.monotonic() - child.started >= _STABLE_SECONDS:
            self._failures[child.number] = 0
        self._failures[child.number] += 1
        self._failed_starts[child.number] += not child.is_ready
        if not self._was_ready or self._failed_starts[child.number] >= _MOST_FAILED_STARTS:
            logger.error("worker %d has ended %s before it was ready; all are stopped", child.number, how)
            self._stop(signal.SIGTERM)
            self._status = code if code > 0 else 1
            return
        pause = back_off(self._failures[child.number], _FIRST_PAUSE, _LONGEST_PAUSE)
        logger.error("worker %d has ended %s; it is started again in %.1f s", child.number, how, pause)
        self._due[child.number] = time.monotonic() + pause


@contextmanager
def _signals() -> Generator[tuple[int, Callable[[], None]]]:
    """(a descriptor from which the numbers of signals are read, what undoes this in a child)"""
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    before = {number: signal.signal(number, _ignore) for number in (*_STOPS, signal.SIGCHLD)}
    signal.set_wakeup_fd(sending)

    def restore() -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(receiving)
        os.close(sending)

    yield receiving, restore


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps a port for sockets that share it: it does not listen. HeadraceError where the address is not
    available."""
    if not hasattr(os, "fork") or not hasattr(socket, "SO_REUSEPORT"):
        raise HeadraceError("--workers needs a system whose processes can fork and share a port")
    with listen(host, port) as listener:  # unlike the other, this one fails if somebody else shares the port
        family, address = listener.family, listener.getsockname()
    reservation = socket.socket(family, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reservation.bind(address)
    return reservation


def load_code() -> None:
    """Loads what every worker needs, so that the memory is shared, and keeps the collector from writing to it."""
    for module in _LOADED:
        import_module(f"headrace.{module}")
    gc.collect()
    gc.freeze()


def _ignore(_: int, frame: FrameType | None) -> None:
    """Handles a signal whose number is read elsewhere."""
