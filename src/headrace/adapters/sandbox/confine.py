"""Confinement of the calling process, from the inside, by what Linux offers to everyone: rlimits, Landlock, seccomp.

`lock` cannot be undone. After it the process may compute, allocate up to a limit, sleep, start threads, and read and
write the descriptors that it already has. The kernel refuses everything else: opening or looking at files, sockets to
anywhere, other processes, signals, new programs, new executable memory.

seccomp is an allow-list and holds alone; Landlock is a second wall where the kernel has it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Sequence


class Unconfined(RuntimeError):
    """This system does not let a process be confined; the text says what lacks."""


NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SIGKILL = 9

# ------------------------------------------------------------------------------------------------- system calls

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # audit number, column of the table below

# Allowed as they are. Columns: x86_64, aarch64 (which lacks the older ones).
_ALLOWED: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, None),
    "lseek": (8, 62),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "readv": (19, 65),
    "writev": (20, 66),
    "pipe": (22, None),
    "select": (23, None),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "dup2": (33, None),
    "nanosleep": (35, 101),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getpid": (39, 172),
    "recvfrom": (45, 207),
    "exit": (60, 93),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "time": (201, None),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "epoll_wait": (232, None),
    "epoll_ctl": (233, 21),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "epoll_pwait": (281, 22),
    "epoll_create1": (291, 20),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}

_MMAP, _MPROTECT, _CLONE, _IOCTL = (9, 222), (10, 226), (56, 220), (16, 29)
_SOCKETPAIR, _SENDTO, _CLONE3 = (53, 199), (44, 206), (435, 435)
_PROT_EXEC, _CLONE_THREAD, _FIONBIO, _AF_UNIX, _SOCK_STREAM = 4, 0x10000, 0x5421, 1, 1

# ------------------------------------------------------------------------------- a program for the kernel's filter

_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCH = 0, 4

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def _argument(index: int, high: bool = False) -> int:
    return 16 + 8 * index + (4 if high else 0)  # both architectures are little-endian


def _case(number: int, body: Sequence[Instruction]) -> list[Instruction]:
    """`body` for one system call; whoever is another's jumps over it. Every body ends in a verdict."""
    return [(_JEQ, 0, len(body), number), *body]


def _program() -> bytes:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES:
        raise Unconfined(f"no confinement is known for {sys.platform} on {machine}")
    audit, column = _ARCHITECTURES[machine]
    allow, refuse = (_RET, 0, 0, _ALLOW), (_RET, 0, 0, _ERRNO | errno.EPERM)
    unless_set: list[Instruction] = [refuse, allow]  # reached by a JSET: true -> refuse
    code: list[Instruction] = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, audit),
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NUMBER),
        (_JGE, 0, 1, 0x40000000),  # the x32 numbers of x86_64
        (_RET, 0, 0, _KILL),
    ]
    for numbers in (_MMAP, _MPROTECT):
        code += _case(numbers[column], [(_LD, 0, 0, _argument(2)), (_JSET, 0, 1, _PROT_EXEC), *unless_set])
    code += _case(_CLONE[column], [(_LD, 0, 0, _argument(0)), (_JSET, 1, 0, _CLONE_THREAD), *unless_set])
    code += _case(_CLONE3[column], [(_RET, 0, 0, _ERRNO | errno.ENOSYS)])  # its flags are out of sight: clone instead
    code += _case(_IOCTL[column], [(_LD, 0, 0, _argument(1)), (_JEQ, 1, 0, _FIONBIO), *unless_set])
    stream: list[Instruction] = [
        (_LD, 0, 0, _argument(0)),
        (_JEQ, 1, 0, _AF_UNIX),
        refuse,
        (_LD, 0, 0, _argument(1)),
        (_AND, 0, 0, 0xF),
        (_JEQ, 1, 0, _SOCK_STREAM),  # a datagram socket could be sent from to any address
        *unless_set,
    ]
    code += _case(_SOCKETPAIR[column], stream)
    nowhere: list[Instruction] = [
        (_LD, 0, 0, _argument(4)),
        (_JEQ, 1, 0, 0),
        refuse,
        (_LD, 0, 0, _argument(4, high=True)),
        (_JEQ, 1, 0, 0),
        *unless_set,
    ]
    code += _case(_SENDTO[column], nowhere)
    for numbers in _ALLOWED.values():
        number = numbers[column]
        if number is not None:
            code += _case(number, [allow])
    code.append(refuse)
    return b"".join(struct.pack("HBBI", *line) for line in code)


# -------------------------------------------------------------------------------------------------------- Landlock

_LANDLOCK_CREATE, _LANDLOCK_RESTRICT, _LANDLOCK_VERSION = 444, 446, 1
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # by ABI: how many rights over files it knows; 16 from the fifth
_NET_RIGHTS, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals


def _landlock(libc: ctypes.CDLL) -> None:
    """Denies all that Landlock can. Nothing where the kernel has none: seccomp denies the same and more."""
    abi = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if abi < 1:
        return
    rights = (1 << _FS_RIGHTS.get(abi, 16)) - 1
    words = [rights, *([_NET_RIGHTS] if abi >= 4 else []), *([_SCOPES] if abi >= 6 else [])]
    wanted = struct.pack(f"{len(words)}Q", *words)
    ruleset = libc.syscall(_LANDLOCK_CREATE, wanted, ctypes.c_size_t(len(wanted)), 0)
    if ruleset < 0 or libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0):
        raise Unconfined(f"Landlock refused: {os.strerror(ctypes.get_errno())}")
    os.close(ruleset)


# ------------------------------------------------------------------------------------------------------------ lock


class Lock:
    """A confinement made ready once, put on in a few tens of microseconds. Unconfined where there can be none."""

    def __init__(self) -> None:
        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

        filter_ = _program()
        self._program = Program(len(filter_) // 8, filter_)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def put_on(self, *, memory: int, cpu_seconds: int, open_files: int = 32) -> None:
        """Confines this process for good; `memory` is in bytes of address space."""
        _limit(
            (
                (resource.RLIMIT_AS, memory),
                (resource.RLIMIT_CPU, cpu_seconds),
                (resource.RLIMIT_NOFILE, open_files),
                (resource.RLIMIT_FSIZE, 0),
                (resource.RLIMIT_CORE, 0),
            )
        )
        _become_nobody()
        self._prctl(_PR_SET_DUMPABLE, 0)  # nobody else who runs as nobody may look inside
        self.die_with_parent()  # after the change of user, which takes it off
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _landlock(self._libc)
        self._prctl(_PR_SET_SECCOMP, 2, ctypes.byref(self._program))

    def die_with_parent(self) -> None:
        self._prctl(_PR_SET_PDEATHSIG, _SIGKILL)

    def _prctl(self, option: int, value: int, pointer: object = None) -> None:
        if self._libc.prctl(option, ctypes.c_ulong(value), pointer, None, None):
            raise Unconfined(f"the kernel refused a confinement (prctl {option}: {os.strerror(ctypes.get_errno())})")


def _limit(limits: Iterable[tuple[int, int]]) -> None:
    for what, most in limits:
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _become_nobody() -> None:
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        # in a user namespace that has no such user; the filter refuses all that being root is good for
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
