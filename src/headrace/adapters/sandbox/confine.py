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
import resource
import signal
from collections.abc import Mapping

from headrace.adapters.sandbox.landlock import Ruleset
from headrace.adapters.sandbox.seccomp import (
    ALLOW,
    CLONE_THREAD,
    REFUSE,
    Filter,
    Rule,
    Unconfined,
    error,
    if_any,
    if_null,
    if_one_of,
)

NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_LIBC = ctypes.CDLL(None, use_errno=True)

_ALLOWED = """
read write close fstat poll lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn readv writev pipe select
sched_yield mremap madvise dup dup2 nanosleep alarm setitimer getpid recvfrom exit uname gettimeofday getrusage
times getuid getgid geteuid getegid getppid sigaltstack gettid time futex sched_getaffinity restart_syscall
clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl pselect6 ppoll set_robust_list
epoll_pwait epoll_create1 dup3 pipe2 getrandom membarrier rseq
"""

_PROT_EXEC, _FIONBIO, _AF_UNIX, _SOCK_STREAM = 4, 0x5421, 1, 1


def _rules() -> dict[str, Rule]:
    stream = if_one_of(1, [_SOCK_STREAM], ALLOW, REFUSE, mask=0xF)  # a datagram socket could send to any address
    return {
        "mmap": if_any(2, _PROT_EXEC, REFUSE, ALLOW),
        "mprotect": if_any(2, _PROT_EXEC, REFUSE, ALLOW),
        "clone": if_any(0, CLONE_THREAD, ALLOW, REFUSE),
        "clone3": error(errno.ENOSYS),  # its flags are out of sight: clone instead
        "ioctl": if_one_of(1, [_FIONBIO], ALLOW, REFUSE),
        "socketpair": if_one_of(0, [_AF_UNIX], stream, REFUSE),
        "sendto": if_null(4, ALLOW, REFUSE),  # to nowhere but where the socket is connected to
        **dict.fromkeys(_ALLOWED.split(), ALLOW),
    }


# ------------------------------------------------------------------------------------------------------------ lock


class Lock:
    """A confinement made ready once, put on in a few tens of microseconds. Unconfined where there can be none."""

    def __init__(self) -> None:
        self._filter = Filter(_rules())

    def put_on(self, *, memory: int, cpu_seconds: int, open_files: int = 32) -> None:
        """Confines this process for good; `memory` is in bytes of address space."""
        limit(
            {
                resource.RLIMIT_AS: memory,
                resource.RLIMIT_CPU: cpu_seconds,
                resource.RLIMIT_NOFILE: open_files,
                resource.RLIMIT_FSIZE: 0,
                resource.RLIMIT_CORE: 0,
            }
        )
        become_nobody()
        _prctl(_PR_SET_DUMPABLE, 0)  # nobody else who runs as nobody may look inside
        die_with_parent()  # after the change of user, which takes it off
        no_new_privileges()
        rules = Ruleset()
        rules.put_on()
        rules.close()
        self._filter.install()


def limit(limits: Mapping[int, int]) -> None:
    """Sets rlimits, soft and hard, but none above the hard one there is."""
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def become_nobody() -> None:
    """Gives root up, where this is root."""
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as refused:
        # in a user namespace that has no such user; the filter refuses all that being root is good for
        if refused.errno not in (errno.EINVAL, errno.EPERM):
            raise


def die_with_parent() -> None:
    """This process is killed when its parent's thread ends. A change of user takes that off again."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def no_new_privileges() -> None:
    """What Landlock and seccomp ask for of those who are not root."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), None, None, None):
        raise Unconfined(f"the kernel refused a confinement (prctl {option}: {os.strerror(ctypes.get_errno())})")
