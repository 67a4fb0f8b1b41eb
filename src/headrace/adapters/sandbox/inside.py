"""Runs a Python or JavaScript program or a template, inside a confined process only.

Nothing here is a security boundary, because the code can change it. The kernel confines it.
"""

from __future__ import annotations

import base64
import builtins
import errno
import io
import json
import linecache
import mmap
import os
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any

from headrace.adapters.sandbox import quickjs, templates

FILENAME = "main.py"
MAX_ERROR = 20_000  # characters of an error's text


class CodeFailed(Exception):
    """The message is for the code's author."""


class _NullStream(io.TextIOBase):
    """Discards what a program prints."""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return len(text)


def run_python(code: str, inputs: Mapping[str, Any]) -> str:
    """The result of the program's `main` as JSON."""
    sys.stdout = sys.stderr = _NullStream()
    sys.stdin = io.StringIO()
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    linecache.cache[FILENAME] = (len(code), None, code.splitlines(keepends=True), FILENAME)
    try:
        exec(compile(code, FILENAME, "exec", dont_inherit=True), module.__dict__)
        if "main" not in module.__dict__:
            raise NameError("name 'main' is not defined")
        # Dify's code after the author's imports these, and some programs rely on that
        module.__dict__.update(json=json, b64decode=base64.b64decode)
        return json.dumps(module.__dict__["main"](**inputs))
    except BaseException as error:
        raise CodeFailed(_traceback(error)) from None


def _traceback(error: BaseException) -> str:
    """A traceback that begins in the author's code."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != FILENAME:
        frames = frames.tb_next
    # without a frame of the author's (in json.dumps of the result), the last line is enough
    text = "".join(traceback.format_exception(type(error), error, frames, limit=40))
    text = text if text.startswith("Traceback") else f"Traceback (most recent call last):\n{text}"
    return text.replace(os.path.dirname(os.__file__) + os.sep, "")[-MAX_ERROR:]


# ------------------------------------------------------------------------------------------------------ JavaScript


def run_javascript(code: str, inputs: Mapping[str, Any], memory: int) -> str:
    """The result of the program's `main`, or of its promise, as JSON."""
    try:
        return quickjs.run(code, inputs, memory)
    except quickjs.ScriptFailed as error:
        raise CodeFailed(str(error)[-MAX_ERROR:]) from None


# -------------------------------------------------------------------------------------------------------- templates


def render(template: str, inputs: Mapping[str, Any], most: int) -> str:
    try:
        return templates.render(templates.environment().from_string(template), inputs, most)
    except BaseException as error:
        raise CodeFailed(templates.describe(error)) from None


# ---------------------------------------------------------------------------------------------------------- the job


def work(job: Mapping[str, Any], memory: int) -> tuple[bytes, bytes]:
    """(sign, text): `R` for a result, `E` for an error."""
    runs: dict[str, Callable[[], str]] = {
        "python3": lambda: run_python(job["code"], job["inputs"]),
        "javascript": lambda: run_javascript(job["code"], job["inputs"], memory // 2),
        "jinja2": lambda: render(job["code"], job["inputs"], job["most"]),
    }
    try:
        answer = runs[job["language"]]()
        most = job["most"] * 4 if job["language"] == "jinja2" else job["most"]
        encoded = answer.encode("utf-8", "surrogatepass" if job["language"] == "jinja2" else "strict")
        if len(encoded) > most:
            raise CodeFailed(f"The result is larger than {most} bytes.")
    except CodeFailed as error:
        return b"E", str(error).encode("utf-8", "backslashreplace")
    except MemoryError:
        return b"E", b"MemoryError: the code exceeded its memory limit"
    return b"R", encoded


# --------------------------------------------------------------------------------------------------- about the process


def wake() -> None:
    """Reseeds random numbers after the fork; Python's own modules do so themselves."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def escapes(threads: int | None) -> str:
    """Forbidden actions that a confined process was able to do; "" if there are none. It must not be able to start
    `threads` threads, if they are counted."""
    attempts: dict[str, Callable[[], object]] = {
        "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "write a file": lambda: os.open(os.__file__, os.O_WRONLY),
        "make a file": lambda: os.open(f"/tmp/headrace-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
        "look at a file": lambda: os.lstat("/etc/passwd"),
        "list a folder": lambda: os.listdir("/"),
        "remove a file": lambda: os.unlink("/tmp/headrace-of-nobody"),
        "start a program": lambda: os.execv("/proc/self/exe", ["headrace"]),
        "start a process": _fork,
        "signal another process": lambda: os.kill(os.getppid(), 0),
        "use the network": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "make memory executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    }
    done: list[str] = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                done.append(f"{name} ({error.strerror})")
        else:
            done.append(name)
    if threads is not None and _threads(threads) >= threads:
        done.append(f"start {threads} threads")
    return " and ".join(done)


def _fork() -> None:
    if not os.fork():
        os._exit(0)


def _threads(most: int) -> int:
    """How many threads can be started, up to `most`."""
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        while len(started) < most:
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        pass
    end.set()
    for thread in started:
        thread.join()
    return len(started)
