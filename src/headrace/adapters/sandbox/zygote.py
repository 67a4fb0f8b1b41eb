"""The process that confined processes are forked from: it has imported what programs use, and runs none itself.

`python -I -c ... main(fd)`, with no environment. On the descriptor (a socket that keeps messages apart):

    F + job number, with a socket   forks; the child reads one job from the socket, is confined, answers and ends
    K + job number                  kills that child
    end of file                     the parent is gone: so is everyone here

It says `ok`, or why there can be no confinement, once it is ready. On a job's socket, sizes as four bytes:

    to the child     size, {"modules", "seconds", "memory"}; size, {"language", "code", "inputs", "most"}
    from the child   R or E, size, text (JSON of the result, rendered text, or an error); X: it could not be confined
"""

from __future__ import annotations

import contextlib
import encodings
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import time
from io import BytesIO
from typing import Any, NoReturn

from headrace.adapters.sandbox import inside, templates
from headrace.adapters.sandbox.confine import Lock, die_with_parent
from headrace.adapters.sandbox.seccomp import Unconfined
from headrace.adapters.sandbox.zygote_wire import JOB, SIZE

_PRELOADED = """
__future__ _strptime abc array asyncio base64 binascii bisect calendar cmath codecs collections collections.abc
colorsys concurrent.futures.thread contextlib copy csv ctypes dataclasses datetime decimal difflib email.utils enum
fractions functools hashlib heapq hmac html html.entities html.parser inspect io ipaddress itertools json keyword
locale logging math numbers operator os.path pathlib pickle pprint queue random re secrets shlex statistics string
struct sys textwrap threading time timeit traceback types typing unicodedata urllib.error urllib.parse
uuid warnings weakref xml.dom.minidom xml.etree.ElementTree zlib zoneinfo
"""
_UNIMPORTABLE = {"antigravity", "this", "idlelib", "turtle", "tkinter", "turtledemo", "test", "lib2to3"}


def standard(modules: list[str]) -> list[str]:
    return [
        name
        for name in modules
        if (top := name.partition(".")[0]) in sys.stdlib_module_names and top not in _UNIMPORTABLE
    ]


def _prepare() -> None:
    """Everything that needs files, while there are any."""
    for name in [*_PRELOADED.split(), "_quickjs", "jinja2.constants", "jinja2.debug"]:
        with contextlib.suppress(ImportError):  # what lacks here lacks again, and is told, where it is used
            importlib.import_module(name)
    for found in pkgutil.iter_modules(encodings.__path__):
        with contextlib.suppress(ImportError, LookupError):  # mbcs and oem are Windows'
            importlib.import_module(f"encodings.{found.name}")
    templates.environment().from_string("{{ 1 }}").render()
    _keep_time_zones()
    time.tzset()
    time.localtime()
    # site-packages are no business of a workflow's code
    sys.path[:] = [path for path in sys.path if "site-packages" not in path and "dist-packages" not in path]


def _keep_time_zones() -> None:
    """Time zones from memory: `zoneinfo` reads a file for each when first asked."""
    import zoneinfo
    from zoneinfo import _common  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue, reportUnknownVariableType]

    zones: dict[str, bytes] = {}
    for root in zoneinfo.TZPATH:
        for name in zoneinfo.available_timezones():
            with contextlib.suppress(OSError), open(os.path.join(root, name), "rb") as file:
                zones.setdefault(name, file.read())

    def load(key: str) -> BytesIO:
        if key not in zones:
            raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}")
        return BytesIO(zones[key])

    if zones:
        zoneinfo.reset_tzpath(to=())
        _common.load_tzdata = load


def _receive(connection: socket.socket) -> Any:
    (size,) = SIZE.unpack(_exactly(connection, SIZE.size))
    return json.loads(_exactly(connection, size))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            os._exit(0)  # whoever asked has gone
        data += piece
    return bytes(data)


def _address_space() -> int:
    """Bytes that this process has reserved already: every child begins with as many."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _child(connection: socket.socket, lock: Lock, reserved: int, parent: int) -> NoReturn:
    try:
        die_with_parent()
        how = _receive(connection)
        inside.import_ahead(standard(how["modules"]))
        try:
            lock.put_on(memory=reserved + how["memory"], cpu_seconds=how["seconds"])
        except (Unconfined, OSError, ValueError) as error:
            sign, text = b"X", str(error).encode()
        else:
            if os.getppid() != parent:  # it died before its death could be this one's
                os._exit(0)
            sign, text = inside.work(_receive(connection), how["memory"])
        connection.sendall(sign + SIZE.pack(len(text)) + text)
    finally:
        os._exit(0)


def _trial(lock: Lock) -> str:
    """`ok`, or why a process cannot be confined here."""
    mine, theirs = socket.socketpair()
    if not (pid := os.fork()):
        try:
            lock.put_on(memory=_address_space() + (64 << 20), cpu_seconds=2)
            theirs.sendall(b"ok")
        except (Unconfined, OSError, ValueError) as error:
            theirs.sendall(str(error).encode())
        finally:
            os._exit(0)
    theirs.close()
    verdict = mine.recv(4096).decode()
    mine.close()
    os.waitpid(pid, 0)
    return verdict or "a confined process does not survive here"


def main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    os.environ.pop("LD_LIBRARY_PATH", None)
    try:
        lock = Lock()
        _prepare()
        verdict = _trial(lock)
    except (Unconfined, ImportError) as error:
        control.send(str(error).encode()[:4000])
        return
    control.send(verdict.encode()[:4000])
    if verdict == "ok":
        gc.collect()
        gc.freeze()
        _serve(control, lock)


def _noticed(_signal: int, _frame: object) -> None:
    """A child ended: the wake-up descriptor tells the loop."""


def _serve(control: socket.socket, lock: Lock) -> None:
    reserved, parent = _address_space(), os.getpid()
    children: dict[int, int] = {}  # job -> process; both directions are small
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, _noticed)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(children)
        if control not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not message:
            os._exit(0)
        order, job = JOB.unpack(message)
        if order == b"K":
            if job in children:
                os.kill(children[job], signal.SIGKILL)
            continue
        try:
            pid = os.fork()
        except OSError:  # no more processes: the closed socket tells
            os.close(descriptors[0])
            continue
        if pid:
            children[job] = pid
            os.close(descriptors[0])
            continue
        os.dup2(descriptors[0], 3)
        os.closerange(4, 1024)
        signal.set_wakeup_fd(-1, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _child(socket.socket(fileno=3), lock, reserved, parent)


def _reap(children: dict[int, int]) -> None:
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        for job, of in list(children.items()):
            if of == pid:
                del children[job]
