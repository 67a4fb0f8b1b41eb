"""Answers the system calls of confined processes whose filter asks (`seccomp.ASK`), in a poll loop without blocking.

    supervisor = Supervisor()
    watch = supervisor.expect(home, Policy(threads=16))    # `home`: our end of the socket for the listener
    while True:
        select.select([control, supervisor], [], [])       # it has a fileno()
        supervisor.attend()

The answers:

    getpriority   The process reports that it is ready (`READY`): calls that only its start needs are refused from now
    on. The result is 20 (nice 0), by which it recognizes the answer. clone         Continues if the process has fewer
    than `Policy.threads` threads; else EAGAIN. Filters only ask for threads. connect       With `Policy.guard`: the
    process's socket is replaced by one that is connected to the guard (SECCOMP_IOCTL_NOTIF_ADDFD), after the token was
    sent. The requested address is not read, so it cannot be changed between check and use. Without: EPERM. others
    Continue until the process is ready, then EPERM. No hostile code may run before, because continuing a call does not
    check the memory that its pointers refer to.

A call that cannot be answered (an error here, or the supervisor has ended) is not made. A supervisor is for one thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from headrace.adapters.sandbox.system_calls import ARCHITECTURES, number

READY = "getpriority"

_RECEIVE, _SEND, _ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40182103  # SECCOMP_IOCTL_NOTIF_*
_REQUEST = struct.Struct("=QIIiIQ6Q")  # id, thread, flags; number, architecture, instruction, arguments
_RESPONSE = struct.Struct("=QqiI")  # id, value, error, flags
_NEW_DESCRIPTOR = struct.Struct("=QIIII")  # id, flags, ours, theirs, flags of theirs
_CONTINUE, _SET_THEIRS = 1, 1
_NICE_0 = 20  # as the bare call has it: 20 - nice


@dataclass(frozen=True)
class Guard:
    """The destination of all connections of a confined process: a proxy on loopback that expects the token first."""

    host: str
    port: int
    token: bytes


@dataclass(frozen=True)
class Policy:
    """`threads`: the maximum at once, including the first. `on_ready` is called once, when the process is ready."""

    threads: int = 1
    guard: Guard | None = None
    on_ready: Callable[[], None] | None = None


class Watch:
    """A process's listener, from its announcement to the end of the process."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.listener = -1
        self.ready = False
        self.started = 0  # threads that were allowed


class _Dial:
    """A connection to the guard that is being established for a process."""

    def __init__(self, watch: Watch, request: int, thread: int, theirs: int) -> None:
        assert watch.policy.guard is not None
        self.watch, self.request, self.theirs, self.guard = watch, request, theirs, watch.policy.guard
        self.blocking = _blocks(thread, theirs)
        family = socket.AF_INET6 if ":" in self.guard.host else socket.AF_INET
        self.connection = socket.socket(family, socket.SOCK_STREAM)
        self.connection.setblocking(False)
        code = self.connection.connect_ex((self.guard.host, self.guard.port))
        if code not in (0, errno.EINPROGRESS):
            self.connection.close()
            raise OSError(code, os.strerror(code))


class Supervisor:
    """See the module."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._expected: dict[int, tuple[socket.socket, Watch]] = {}
        self._watches: dict[int, Watch] = {}
        self._dials: dict[int, _Dial] = {}
        machine = platform.machine()
        names = ("clone", "connect", READY)
        self._names = {number(name, machine): name for name in names} if machine in ARCHITECTURES else {}

    def fileno(self) -> int:
        """Readable while a call waits for an answer."""
        return self._poll.fileno()

    def expect(self, home: socket.socket, policy: Policy) -> Watch:
        """Receives the listener through `home`, which it owns, and answers its calls from then on."""
        home.setblocking(False)
        watch = Watch(policy)
        self._expected[home.fileno()] = (home, watch)
        self._poll.register(home.fileno(), select.EPOLLIN)
        return watch

    def attend(self) -> None:
        """Answers all waiting calls."""
        for descriptor, events in self._poll.poll(0):
            if descriptor in self._expected:
                self._receive(descriptor)
            elif descriptor in self._dials:
                self._connected(descriptor)
            elif descriptor in self._watches:
                watch = self._watches[descriptor]
                if not events & select.EPOLLIN or not self._answer(watch):
                    self._drop(watch)

    def close(self) -> None:
        """From now on all calls that ask fail."""
        for home, _ in self._expected.values():
            home.close()
        for watch in list(self._watches.values()):
            self._drop(watch)
        self._poll.close()

    # ----------------------------------------------------------------------------------------------- listeners

    def _receive(self, descriptor: int) -> None:
        home, watch = self._expected.pop(descriptor)
        self._poll.unregister(descriptor)
        with home:
            try:
                _, descriptors, _, _ = socket.recv_fds(home, 1, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return
        if descriptors:  # otherwise it ended before it was confined
            watch.listener = descriptors[0]
            self._watches[watch.listener] = watch
            self._poll.register(watch.listener, select.EPOLLIN)

    def _drop(self, watch: Watch) -> None:
        if watch.listener < 0:
            return
        for descriptor in [key for key, dial in self._dials.items() if dial.watch is watch]:
            self._hang_up(descriptor)
        self._poll.unregister(watch.listener)
        del self._watches[watch.listener]
        os.close(watch.listener)
        watch.listener = -1

    def _answer(self, watch: Watch) -> bool:
        """Answers one request. False if the listener is closed."""
        buffer = bytearray(_REQUEST.size)
        try:
            _ioctl(watch.listener, _RECEIVE, buffer)
        except OSError as error:
            return error.errno == errno.ENOENT  # the calling thread has ended
        request, thread, _, call, _, _, *arguments = _REQUEST.unpack(buffer)
        value, code, flags = 0, -errno.EPERM, 0
        match self._names.get(call):
            case "clone":
                if (_threads(thread) or watch.started + 1) < watch.policy.threads:
                    watch.started += 1
                    code, flags = 0, _CONTINUE
                else:
                    code = -errno.EAGAIN
            case "connect":
                if watch.policy.guard is not None:
                    try:
                        dial = _Dial(watch, request, thread, arguments[0] & 0xFFFFFFFF)
                    except OSError as error:
                        code = -(error.errno or errno.EPERM)
                    else:
                        self._dials[dial.connection.fileno()] = dial
                        self._poll.register(dial.connection.fileno(), select.EPOLLOUT)
                        return True
            case name if name == READY:
                first, watch.ready = not watch.ready, True
                value, code = _NICE_0, 0
                if first and watch.policy.on_ready is not None:
                    watch.policy.on_ready()
            case _:
                if not watch.ready:
                    code, flags = 0, _CONTINUE
        self._respond(watch, request, value, code, flags)
        return True

    def _respond(self, watch: Watch, request: int, value: int = 0, code: int = 0, flags: int = 0) -> None:
        try:
            _ioctl(watch.listener, _SEND, _RESPONSE.pack(request, value, code, flags))
        except OSError as error:
            if error.errno != errno.ENOENT:  # ENOENT: the calling thread has ended
                self._drop(watch)

    # -------------------------------------------------------------------------------------------- the guard

    def _connected(self, descriptor: int) -> None:
        dial = self._dials[descriptor]
        code = dial.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            if not code:
                if dial.connection.send(dial.guard.token) != len(dial.guard.token):
                    raise ConnectionError(errno.ECONNABORTED, "the guard does not accept the token")
                dial.connection.setblocking(dial.blocking)
                new = _NEW_DESCRIPTOR.pack(dial.request, _SET_THEIRS, descriptor, dial.theirs, os.O_CLOEXEC)
                _ioctl(dial.watch.listener, _ADD_DESCRIPTOR, new)
        except OSError as error:
            code = error.errno or errno.EPERM
        self._hang_up(descriptor)
        self._respond(dial.watch, dial.request, code=-code)

    def _hang_up(self, descriptor: int) -> None:
        """Closes our copy of the connection."""
        self._poll.unregister(descriptor)
        self._dials.pop(descriptor).connection.close()


def _ioctl(listener: int, request: int, argument: bytes | bytearray) -> None:
    """Like `fcntl.ioctl`, repeated if a signal (a child's end) interrupts it."""
    while True:
        try:
            fcntl.ioctl(listener, request, argument)
        except InterruptedError:
            continue
        return


def _threads(thread: int) -> int | None:
    """The number of threads of a thread's process; None if /proc is hidden."""
    try:
        with open(f"/proc/{thread}/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Threads:")), None)
    except OSError:
        return None


def _blocks(thread: int, descriptor: int) -> bool:
    """Whether the process's descriptor is blocking, as its replacement must be. If that cannot be read (another user's
    process), it counts as non-blocking, like those of event loops and of Python's sockets with a time-out."""
    try:
        with open(f"/proc/{thread}/fdinfo/{descriptor}") as file:
            flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    except (OSError, StopIteration, ValueError):
        return False
    return not flags & os.O_NONBLOCK
