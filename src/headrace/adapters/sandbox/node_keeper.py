"""The process that starts confined Node.js processes ("Nodes"), supervises and reaps them; it runs no programs itself.

`python -I -B -c ... main(fd)`, without an environment. Messages on the descriptor (a SEQPACKET socket):

    the `NodePlan` as JSON              the first message
    F + number + sizes, with a socket   starts a Node, which gets the socket as descriptor 3
    K + number                          kills that Node
    end of file                         the parent has ended, so this process and its children end

Once it is ready it sends `ok` and the result of the trial as JSON, or why Nodes cannot be confined. On a Node's socket:

    from the Node    r: ready, waiting. X, size, text: it could not be confined
    to the Node      size, {"code", "inputs": JSON text, "most"}
    from the Node    b: it has read its job, and starts
    from the Node    R or E, size, text: JSON of the result, or an error; then it ends

A Node is confined before it starts: its filter allows the system calls to load itself, and once it has reported that it
is ready it cannot open, inspect or execute files. Landlock, as a second wall, lets it read its program and libraries.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, NoReturn

from headrace.adapters.sandbox import confine, landlock, seccomp
from headrace.adapters.sandbox.node_trial import ATTACKS
from headrace.adapters.sandbox.node_wire import ORDER, SIZE, NodePlan
from headrace.adapters.sandbox.seccomp import ALLOW, ASK, CLONE_THREAD, REFUSE, Filter, Rule, Unconfined
from headrace.adapters.sandbox.supervisor import READY, Guard, Policy, Supervisor

MEGABYTE = 1 << 20
THREADS = 13  # Node starts 6 or 7, and 2 for files and names; the others are for workers
OPEN_FILES = 64
TRIAL_SECONDS = 20.0

_ALLOWED = """
read write close fstat poll lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 readv writev sched_yield
mremap madvise dup nanosleep getpid exit uname getcwd gettimeofday getrusage sysinfo times getuid getgid geteuid getegid
getppid capget sigaltstack gettid time futex sched_getaffinity restart_syscall clock_gettime clock_getres
clock_nanosleep exit_group epoll_wait epoll_ctl epoll_pwait epoll_create1 set_robust_list set_tid_address eventfd2 dup3
pipe2 getrandom membarrier rseq arch_prctl pkey_alloc pkey_mprotect pkey_free mmap mprotect ppoll
"""
_NETWORK = "getpeername getsockname getsockopt setsockopt shutdown"
_START = "execve execveat access faccessat faccessat2 stat lstat newfstatat statx readlink readlinkat getdents64"
# flags for any kind of writing, and O_PATH, whose descriptors Landlock does not check
_NOT_READING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000 | 0o10000000
_FIONBIO, _FIOCLEX, _FD_CLOEXEC_COPY = 0x5421, 0x5451, 1030

_FLAGS = ("--max-semi-space-size=4",)
_ENVIRONMENT = {
    "TZ": "UTC",
    "LANG": "C.UTF-8",
    "UV_THREADPOOL_SIZE": "2",
    "UV_USE_IO_URING": "0",
    "OPENSSL_CONF": "/dev/null",  # a refused openssl.cnf is fatal, an empty one is not
}
_OUTLET, _PROGRAM, _RULES = 3, 197, 198  # descriptors of a Node before it starts; then only the first


def rules(*, supervised: bool, network: bool = False) -> dict[str, Rule]:
    """The system calls of a Node. Without a supervisor, those that only its start needs stay allowed, and Landlock
    denies them. With the network it may create sockets, but only the supervisor connects them."""
    start = ASK if supervised else ALLOW
    stream = seccomp.if_one_of(1, [socket.SOCK_STREAM], ALLOW, REFUSE, mask=0xF)
    sockets: dict[str, Rule] = {
        "socket": seccomp.if_one_of(0, [socket.AF_INET, socket.AF_INET6], stream, REFUSE),
        "connect": ASK,
        **dict.fromkeys(_NETWORK.split(), ALLOW),
    }
    return {
        **(sockets if network else {}),
        **dict.fromkeys(_ALLOWED.split(), ALLOW),
        **dict.fromkeys(_START.split(), start),
        "openat": seccomp.if_any(2, _NOT_READING, REFUSE, start),
        "clone": seccomp.if_any(0, CLONE_THREAD, start, REFUSE),
        "clone3": seccomp.error(errno.ENOSYS),  # its flags cannot be checked; the C library falls back to clone
        "ioctl": seccomp.if_one_of(1, [_FIONBIO, _FIOCLEX], ALLOW, REFUSE),
        "fcntl": seccomp.if_one_of(1, [fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, _FD_CLOEXEC_COPY], ALLOW, REFUSE),
        "prlimit64": seccomp.if_null(2, ALLOW, REFUSE),  # reading
        READY: ASK if supervised else REFUSE,
        "sendmsg": seccomp.SEND_HOME,
    }


class Starter:
    """Starts Nodes with one configuration of the walls."""

    def __init__(
        self, node: str, *, supervised: bool = True, walled: bool = True, guard: Guard | None = None, proxy: str = ""
    ) -> None:
        self.supervised = supervised
        self.network = guard is not None and supervised
        self._policy = Policy(threads=THREADS, guard=guard)
        self._environment = _ENVIRONMENT | (_proxied(proxy) if self.network else {})
        self.supervisor = Supervisor()
        self._filter = Filter(rules(supervised=supervised, network=self.network))
        self._ruleset = landlock.Ruleset(_readable(node)) if walled else None
        self.walled = self._ruleset is not None and self._ruleset.exists
        if not supervised and not self.walled:
            raise Unconfined("there is neither Landlock nor a supervisor")
        # by descriptor, because a Node's user may have no access to the path
        self._program = os.open(node, os.O_PATH | os.O_CLOEXEC)
        boot = Path(__file__).with_name("node_boot.js").read_text().replace("%SUPERVISED%", str(supervised))
        self._arguments = ("-e", boot)

    def start(self, outlet: socket.socket, *, data: int | None, heap: int, cpu_seconds: int) -> int:
        """The process of a Node that has `outlet` as descriptor 3. `data`: RLIMIT_DATA in bytes (V8's heap, buffers,
        stacks); `heap`: megabytes of V8's old space."""
        ours, theirs = socket.socketpair()
        try:
            if not (pid := os.fork()):
                self._begin(outlet, theirs, data, heap, cpu_seconds)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        if self.supervised:
            self.supervisor.expect(ours, self._policy)
        else:
            ours.close()
        return pid

    def _begin(
        self, outlet: socket.socket, theirs: socket.socket, data: int | None, heap: int, cpu_seconds: int
    ) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            home = self._arrange(outlet, theirs)
            most = {resource.RLIMIT_DATA: data} if data else {}
            confine.limit(
                most
                | {
                    resource.RLIMIT_CPU: cpu_seconds,
                    resource.RLIMIT_NOFILE: OPEN_FILES,
                    resource.RLIMIT_FSIZE: 0,
                    resource.RLIMIT_CORE: 0,
                }
            )
            confine.become_nobody()
            confine.die_with_parent()  # after the change of user, which resets it
            confine.no_new_privileges()
            if self._ruleset is not None and self.walled:
                self._ruleset.enforce(_RULES)
            if self.supervised:
                self._filter.install_asking(home)
            else:
                self._filter.install()
            flags = (f"--max-old-space-size={heap}", *_FLAGS)
            os.execve(_PROGRAM, ["node", *flags, *self._arguments], self._environment)
        except BaseException as error:
            text = str(error).encode()
            os.write(_OUTLET, b"X" + SIZE.pack(len(text)) + text)
        finally:
            os._exit(1)

    def _arrange(self, outlet: socket.socket, theirs: socket.socket) -> socket.socket:
        """Moves the descriptors to their numbers, and closes all others."""
        null = os.open("/dev/null", os.O_RDWR)
        targets = {0: null, 1: null, 2: null, _OUTLET: outlet.fileno(), _PROGRAM: self._program}
        if self._ruleset is not None and self.walled:
            targets[_RULES] = self._ruleset.descriptor
        targets[seccomp.HOME] = theirs.fileno()
        # first to high numbers, so that none overwrites another
        copies = {place: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 256) for place, source in targets.items()}
        for place, copy in copies.items():
            os.dup2(copy, place, inheritable=place <= _OUTLET)
        descriptors = sorted(targets)
        for low, high in zip(descriptors, [*descriptors[1:], 1 << 20], strict=True):
            os.closerange(low + 1, high)
        os.chdir("/")
        return socket.socket(fileno=seccomp.HOME)


def _proxied(proxy: str) -> dict[str, str]:
    """The variables that make Node.js, from version 24, use a proxy."""
    urls = {name: proxy for word in ("HTTP_PROXY", "HTTPS_PROXY") for name in (word, word.lower())}
    return {"NODE_USE_ENV_PROXY": "1", "NO_PROXY": "", "no_proxy": "", **urls}


def _readable(node: str) -> list[tuple[str, int]]:
    """The files that a Node reads while it starts: itself, its libraries, and their index."""
    listed = subprocess.run(["ldd", node], capture_output=True, text=True, check=False, env={"PATH": os.defpath})
    libraries = {os.path.realpath(path) for path in re.findall(r"/\S+", listed.stdout)}
    executable = landlock.EXECUTE | landlock.READ_FILE
    return [
        *((path, executable) for path in [node, *sorted(libraries)] if os.path.isfile(path)),
        *((path, landlock.READ_FILE) for path in ("/etc/ld.so.cache", "/dev/null")),
    ]


# ------------------------------------------------------------------------------------------------------- the trial


def trial(starter: Starter) -> dict[str, Any]:
    """Starts a Node, runs attacks in it, and measures it. Unconfined if it does not start, or an attack succeeds."""
    mine, theirs = socket.socketpair()
    pid = starter.start(theirs, data=None, heap=128, cpu_seconds=30)
    theirs.close()
    try:
        mine.setblocking(False)
        talk = _Talk(starter.supervisor, mine)
        sign = talk.read_exactly(1)
        if sign == b"X":
            raise Unconfined(talk.read_exactly(*SIZE.unpack(talk.read_exactly(SIZE.size))).decode("utf-8", "replace"))
        if sign != b"r":
            raise Unconfined("Node.js does not start when it is confined")
        data = _data(pid)
        job = json.dumps({"code": ATTACKS, "inputs": "{}", "most": MEGABYTE}).encode()
        mine.send(SIZE.pack(len(job)) + job)
        sign = talk.read_exactly(2)[1:]
        answer = talk.read_exactly(min(*SIZE.unpack(talk.read_exactly(SIZE.size)), MEGABYTE))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        mine.close()
    if sign != b"R":
        raise Unconfined(f"the trial failed: {answer.decode('utf-8', 'replace')}")
    result = json.loads(answer)
    expected = set[str]() if starter.supervised else {"look"}
    expected |= {"reach the network", "create sockets"} if starter.network else set[str]()
    succeeded = [name for name in result["succeeded"] if name not in expected]
    if succeeded:
        raise Unconfined(f"a confined Node.js could {', '.join(succeeded)}")
    return {
        "version": result["version"],
        "data": data,
        "supervised": starter.supervised,
        "landlock": starter.walled,
        "network": starter.network,
    }


class _Talk:
    """Reads a Node's socket while the supervisor answers its system calls."""

    def __init__(self, supervisor: Supervisor, connection: socket.socket) -> None:
        self._supervisor, self._connection = supervisor, connection
        self._end = time.monotonic() + TRIAL_SECONDS

    def read_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            remaining = self._end - time.monotonic()
            ready, _, _ = select.select([self._supervisor, self._connection], [], [], max(0, remaining))
            if not ready:
                raise Unconfined("a confined Node.js does not respond")
            if self._supervisor in ready:
                self._supervisor.attend()
            if self._connection in ready:
                piece = self._connection.recv(size - len(data))
                if not piece:
                    raise Unconfined("a confined Node.js does not survive its start here")
                data += piece
        return bytes(data)


def _data(pid: int) -> int:
    """VmData of a process in bytes, which RLIMIT_DATA limits. Node.js 24 reserves half a gigabyte when it starts."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData"))


def prepare(plan: NodePlan) -> tuple[Starter, dict[str, Any]]:
    """(the starter with the strongest walls that work, the result of its trial). Unconfined."""
    reason = ""
    guard = Guard(plan.guard[0], plan.guard[1], bytes.fromhex(plan.guard[2])) if plan.guard else None
    walled = plan.leave_out != "landlock"
    for supervised in (True, False) if plan.leave_out != "listener" else (False,):
        try:
            starter = Starter(plan.node, supervised=supervised, walled=walled, guard=guard, proxy=plan.proxy)
            return starter, trial(starter) | {"unsupervised": reason}
        except (Unconfined, OSError) as error:
            reason = reason or str(error)  # of the strongest configuration
    raise Unconfined(reason)


# ------------------------------------------------------------------------------------------------------- the keeper


def main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    os.environ.clear()
    try:
        starter, result = prepare(NodePlan(**json.loads(control.recv(1 << 16))))
    except (Unconfined, OSError, ValueError) as error:
        control.send(str(error).encode()[:4000])
        return
    control.send(b"ok" + json.dumps(result).encode())
    _serve(control, starter, result["data"])


def _serve(control: socket.socket, starter: Starter, data: int) -> None:
    children: dict[int, int] = {}  # number -> process
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([control, woken, starter.supervisor], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(children)
        if starter.supervisor in ready:
            starter.supervisor.attend()
        if control in ready:
            message, descriptors, _, _ = socket.recv_fds(control, 256, 1, socket.MSG_CMSG_CLOEXEC)
            if not message:
                os._exit(0)
            _handle(message, descriptors, children, starter, data)


def _handle(message: bytes, descriptors: list[int], children: dict[int, int], starter: Starter, data: int) -> None:
    order, number, memory, cpu_seconds = ORDER.unpack(message)
    if order == b"K":
        if number in children:
            os.kill(children[number], signal.SIGKILL)
        return
    with socket.socket(fileno=descriptors[0]) as outlet, contextlib.suppress(OSError):
        # if no process can be started, the closed socket shows it
        children[number] = starter.start(
            outlet, data=data + memory * 7 // 8, heap=max(16, memory * 7 // 16 // MEGABYTE), cpu_seconds=cpu_seconds
        )


def _reap(children: dict[int, int]) -> None:
    while children:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        for number, of in list(children.items()):
            if of == pid:
                del children[number]
