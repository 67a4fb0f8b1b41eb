"""What a session inherits, and what it leaves: signals as they are by default when it begins; when it ends, no process,
and no thread that keeps the interpreter from ending.

What is left is named and makes the session fail: a suite that does not end after a failure has no result, and burns a
core meanwhile.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

PATIENCE = 5.0  # seconds that processes which are ending are given
GRACE = 20.0  # seconds that threads are given after that
WORKER_GRACE = 4.0  # and those of a worker, which the session waits for
_KEPT = ("SIGHUP", "SIGPIPE", "SIGXFSZ", "SIGTSTP", "SIGTTIN", "SIGTTOU")  # nohup's, job control's, and Python's own


def reset_signals() -> None:
    """What whoever started the session ignores or blocks (SIGINT of a job in the background) is not passed on to the
    children: tests send them signals."""
    for number in signal.valid_signals():
        if isinstance(number, signal.Signals) and number.name in _KEPT:
            continue
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def children() -> dict[int, str]:
    """The command of each child process that has not ended, by its id; empty where there is no /proc."""
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return commands


def kill_children(report: Callable[[str], None], patience: float | None = None) -> bool:
    """Kills the child processes that do not end by themselves, and reports them. Whether there were any."""
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    while (left := children()) and time.monotonic() < until:
        time.sleep(0.05)
    for pid, command in left.items():
        report(f"LEFT BEHIND: process {pid}: {command}")
        os.kill(pid, signal.SIGKILL)
    return bool(left)


def watch_the_end(stream: TextIO, grace: float) -> None:
    """Ends this process, with exit code 1, where threads keep it alive after its main thread, and reports them."""

    def watch() -> None:
        threading.main_thread().join()  # a worker's goes on until the other workers have finished as well
        faulthandler.dump_traceback_later(grace + 2 * PATIENCE, exit=True, file=stream)  # where no thread can run
        time.sleep(grace)
        frames = sys._current_frames()
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.main_thread():
                stack = "".join(traceback.format_stack(frames[thread.ident])) if thread.ident in frames else ""
                print(f"LEFT BEHIND: thread {thread.name} keeps the process:\n{stack}", file=stream, flush=True)
        kill_children(lambda line: print(line, file=stream, flush=True), 0)
        os._exit(1)

    threading.Thread(target=watch, name="end of the session", daemon=True).start()
