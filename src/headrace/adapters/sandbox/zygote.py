"""The process from which confined processes are forked: it has imported common modules, and runs no programs itself.

`python -I -c ... main(fd)`, without an environment. Messages on the descriptor (a SEQPACKET socket):

    received    the `Plan` as JSON, the first message
    received    F + 0       forks a child, which is confined at once, and waits for its job
                K + number  kills that child
    sent        `ok` and the abilities of children, or why they cannot be confined, once it is ready
                C + number, with a socket: a child; E + 0: no more can be started
    end of file             the parent has ended, so this process and its children end

On a child's socket, with sizes of four bytes:

    from the child   +, once it is confined, or X, size, text: it could not be
    to the child     size, {"language", "code", "inputs", "most"}
    from the child   B, when it has read its job and starts
    from the child   R or E, size, text (JSON of the result, rendered text, or an error)

A job is not parsed before its process is confined (see `confine`).
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import time
from itertools import count
from typing import Any, NoReturn

from headrace.adapters.sandbox import inside, network, preloading
from headrace.adapters.sandbox.confine import Lock, drop_privileges
from headrace.adapters.sandbox.library import Library
from headrace.adapters.sandbox.seccomp import HOME, NO_LISTENER, Unconfined, move_to_home
from headrace.adapters.sandbox.supervisor import Guard, Policy, Supervisor
from headrace.adapters.sandbox.zygote_wire import BEGUN, CHILD, READY, SIZE, UNCONFINED, Plan

THREADS = 16
OPEN_FILES = 64
_ANSWERS, _RULES = 3, 4  # descriptors of a child


def _receive(connection: socket.socket) -> Any:
    (size,) = SIZE.unpack(_read_exactly(connection, SIZE.size))
    return json.loads(_read_exactly(connection, size))


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            os._exit(0)  # the service has closed the connection
        data += piece
    return bytes(data)


def _address_space() -> int:
    """The address space of this process in bytes, which every child starts with."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


class Zygote:
    """Forks children and supervises them."""

    def __init__(self, control: socket.socket, plan: Plan, lock: Lock) -> None:
        self._control = control
        self._plan = plan
        self.lock = lock
        self._policy = Policy(THREADS, _guard(plan))
        self._supervisor = Supervisor()
        self._children: dict[int, int] = {}  # number -> process
        self._numbers = count(1)
        self._reserved = _address_space()

    def serve(self) -> NoReturn:
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, _child_ended)
        signal.set_wakeup_fd(wake)
        while True:
            ready, _, _ = select.select([self._control, woken, self._supervisor], [], [])
            if self._supervisor in ready:
                self._supervisor.attend()
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            if self._control in ready:
                self._order()

    def _order(self) -> None:
        message = self._control.recv(64)
        if not message:
            os._exit(0)
        order, number = CHILD.unpack(message)
        if order == b"K":
            if number in self._children:
                os.kill(self._children[number], signal.SIGKILL)
            return
        try:
            number, connection = self.fork()
        except OSError:  # no more processes, or no more descriptors
            self._control.send(CHILD.pack(b"E", 0))
            return
        with connection:
            socket.send_fds(self._control, [CHILD.pack(b"C", number)], [connection.fileno()])

    def _reap(self) -> None:
        while self._children:
            process, _ = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self._children = {number: of for number, of in self._children.items() if of != process}

    def fork(self, trial: bool = False) -> tuple[int, socket.socket]:
        """A child and our end of its socket."""
        mine, theirs = socket.socketpair()
        home, away = socket.socketpair()
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError:
            for end in (mine, theirs, home, away):
                end.close()
            raise
        if not process:
            self._become_child(theirs, away, parent, trial)
        theirs.close()
        away.close()
        if self.lock.asks:
            self._supervisor.expect(home, self._policy)
        else:
            home.close()
        self._children[number := next(self._numbers)] = process
        return number, mine

    def _become_child(self, connection: socket.socket, away: socket.socket, parent: int, trial: bool) -> NoReturn:
        try:
            connection, home = _keep_only(connection, away, self.lock.ruleset)
            sign = READY
            try:
                self.lock.enforce(
                    memory=self._reserved + self._plan.memory,
                    cpu_seconds=self._plan.cpu_seconds,
                    open_files=OPEN_FILES,
                    ruleset=_RULES,
                    home=home,
                )
            except BrokenPipeError:
                os._exit(0)  # the zygote, which would supervise this process, has ended
            except (Unconfined, OSError, ValueError) as error:
                text = str(error).encode()
                sign = UNCONFINED + SIZE.pack(len(text)) + text
            if os.getppid() != parent:  # the parent ended before die_with_parent took effect
                os._exit(0)
            connection.sendall(sign)
            if trial:
                text = inside.escapes(THREADS if self.lock.asks else None).encode()
                connection.sendall(SIZE.pack(len(text)) + text)
            elif sign == READY:
                inside.wake()
                job = _receive(connection)
                connection.sendall(BEGUN)
                sign, text = inside.work(job, self._plan.memory)
                connection.sendall(sign + SIZE.pack(len(text)) + text)
        finally:
            os._exit(0)

    def trial(self) -> str:
        """`ok`, or why a process cannot be confined here: which attack succeeded, or what the kernel refused."""
        _, connection = self.fork(trial=True)
        deadline = time.monotonic() + 15
        answer = b""
        connection.setblocking(False)
        while time.monotonic() < deadline:
            ready, _, _ = select.select([connection, self._supervisor], [], [], 1)
            if self._supervisor in ready:
                self._supervisor.attend()
            if connection in ready:
                piece = connection.recv(4096)
                if not piece:
                    break
                answer += piece
        connection.close()
        for process in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self._children = {}
        text = answer[1 + SIZE.size :].decode("utf-8", "replace")
        if answer[:1] == READY and len(answer) >= 1 + SIZE.size:
            return f"a confined process could {text}" if text else "ok"
        return text or "a confined process does not survive here"


def _library(plan: Plan) -> Library:
    return Library(plan.packages, [plan.certificates] if plan.certificates else [])


def _guard(plan: Plan) -> Guard | None:
    return Guard(plan.guard[0], plan.guard[1], bytes.fromhex(plan.guard[2])) if plan.guard else None


def _child_ended(_signal: int, _frame: object) -> None:
    """Does nothing; the wake-up descriptor wakes the loop."""


def _keep_only(connection: socket.socket, away: socket.socket, ruleset: int) -> tuple[socket.socket, socket.socket]:
    """The child's two sockets as descriptors 3 and `HOME`; the ruleset becomes 4, and all others are closed."""
    answers = _move_up(connection.detach())
    rules = _move_up(ruleset) if ruleset >= 0 else -1
    home = move_to_home(away)
    os.dup2(answers, _ANSWERS, inheritable=False)
    if rules >= 0:
        os.dup2(rules, _RULES, inheritable=False)
    os.closerange(_RULES + (rules >= 0), HOME)
    os.closerange(HOME + 1, 65536)
    signal.set_wakeup_fd(-1, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return socket.socket(fileno=_ANSWERS), home


def _move_up(descriptor: int) -> int:
    """A copy with a number above those in use here."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HOME + 1)


def main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    os.environ.pop("LD_LIBRARY_PATH", None)
    plan = Plan(**json.loads(control.recv(1 << 16)))
    zygote = None
    try:
        zygote = _prepare(control, plan)
        verdict = zygote.trial()
        if verdict.startswith(NO_LISTENER):  # an old kernel, or a listener of an outer filter
            zygote.lock = Lock(_library(plan).readable(), packages=plan.packages is not None, asks=False)
            verdict = zygote.trial()
    except (Unconfined, ImportError) as error:
        verdict = str(error)
    if zygote is None or verdict != "ok":
        control.send(json.dumps({"verdict": verdict[:4000]}).encode())
        return
    gc.collect()
    gc.freeze()
    lock = zygote.lock
    control.send(json.dumps({"verdict": "ok", "reads": lock.reads, "asks": lock.asks}).encode())
    zygote.serve()


def _prepare(control: socket.socket, plan: Plan) -> Zygote:
    """Does everything that needs files and privileges, before they are dropped."""
    library = _library(plan)
    lock = Lock(library.readable(), packages=plan.packages is not None, egress=plan.guard is not None)
    preloading.standard(everything=not lock.reads)
    library.use()
    drop_privileges(to_nobody=not lock.reads or library.open_to_others())
    if plan.guard:
        network.use_proxy(plan.proxy, plan.certificates)
    if plan.preloaded:
        preloading.packages(plan.preloaded)
        network.trust_environment()
    return Zygote(control, plan, lock)
