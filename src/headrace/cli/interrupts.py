"""Ctrl-C while a command runs a workflow."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.runs.service import RunService


@contextmanager
def raising_interrupts() -> Generator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt at once. An event loop would handle it later, after the prompt that the
    user wants to leave."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Interrupts:
    """Inside, Ctrl-C (or SIGTERM) stops the run; the second one does not wait for its nodes to stop."""

    def __init__(self, run_service: RunService, run: str, user: str) -> None:
        self.seen = False
        self._run_service = run_service
        self._run = run
        self._user = user
        self._stopping: asyncio.Task[None] | None = None
        self._signals = () if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> Interrupts:
        self._waiting = asyncio.current_task()
        for signal_number in self._signals:
            asyncio.get_running_loop().add_signal_handler(signal_number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for signal_number in self._signals:
            asyncio.get_running_loop().remove_signal_handler(signal_number)

    def _on_signal(self) -> None:
        if not self.seen:
            self.seen = True
            self._stopping = asyncio.ensure_future(self._run_service.stop(self._run, self._user))
        elif self._waiting is not None:
            self._waiting.cancel()
