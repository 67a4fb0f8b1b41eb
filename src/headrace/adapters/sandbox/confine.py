"""Confines the calling process with unprivileged features of Linux: rlimits, Landlock, seccomp.

`Lock.enforce` cannot be undone. Then the process may compute, allocate memory up to a limit, sleep, start a few
threads, use the descriptors that it already has, and open the files in `readable` for reading. The kernel refuses all
else: other files, names and sizes of files, network connections, other processes, signals, new programs, new
executable memory.

The seccomp filter is an allow-list. It only allows files to be opened if Landlock restricts which; without Landlock no
file can be opened.

Two exceptions are for packages: mapping executable code from a file that is read-only here (extension modules), and
newfstatat if the C library uses it to inspect open descriptors (glibc 2.33 to 2.38). With `egress` a process may create
sockets, but only the supervisor connects them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
from collections.abc import Iterable, Mapping

from headrace.adapters.sandbox.landlock import Ruleset
from headrace.adapters.sandbox.seccomp import (
    ALLOW,
    ASK,
    CLONE_THREAD,
    REFUSE,
    SEND_HOME,
    Filter,
    Rule,
    Unconfined,
    error,
    if_any,
    if_null,
    if_one_of,
)

NOBODY = 65534
THREADS_UNCOUNTED = 1024  # of a user in all, if the threads of a process are not counted

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
_CAPABILITY_VERSION, _LAST_CAPABILITY = 0x20080522, 63
_LIBC = ctypes.CDLL(None, use_errno=True)

_ALLOWED = """
read write close fstat poll lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn readv writev pipe select
sched_yield mremap madvise dup dup2 nanosleep alarm setitimer getpid recvfrom exit uname gettimeofday getrusage
times getuid getgid geteuid getegid getppid sigaltstack gettid time futex sched_getaffinity restart_syscall
clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl pselect6 ppoll set_robust_list
epoll_pwait epoll_create1 dup3 pipe2 getrandom membarrier rseq
"""
_READING = "getcwd getdents64 pread64"
_NETWORK = "getpeername getsockname getsockopt recvmsg setsockopt shutdown"
_EFFECTS = """
bind bpf chmod chown chroot creat execve execveat fchmod fchmodat fchmodat2 fchown fchownat fremovexattr fsetxattr
ftruncate futimesat io_uring_setup lchown link linkat listen lremovexattr lsetxattr memfd_create mkdir mkdirat mknod
mknodat mount openat2 pivot_root process_vm_writev ptrace removexattr rename renameat renameat2 rmdir setns setxattr
symlink symlinkat truncate umount2 unlink unlinkat unshare utime utimensat utimes
"""

_PROT_WRITE, _PROT_EXEC, _MAP_ANONYMOUS, _FIONBIO, _AF_UNIX, _SOCK_STREAM = 2, 4, 0x20, 0x5421, 1, 1
_AT_EMPTY_PATH, _MSG_FASTOPEN = 0x1000, 0x20000000
# Flags of open for any kind of writing, and O_PATH, whose descriptors Landlock does not check.
_NOT_READING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000 | 0o10000000


def _rules(*, reads: bool, asks: bool, packages: bool, egress: bool) -> dict[str, Rule]:
    stream = if_one_of(1, [_SOCK_STREAM], ALLOW, REFUSE, mask=0xF)  # a datagram socket could send to any address
    thread = ASK if asks else ALLOW
    rules: dict[str, Rule] = {
        "mmap": if_any(2, _PROT_EXEC, REFUSE, ALLOW),
        "mprotect": if_any(2, _PROT_EXEC, REFUSE, ALLOW),
        "clone": if_any(0, CLONE_THREAD, thread, REFUSE),
        "clone3": error(errno.ENOSYS),  # its flags cannot be checked; the C library falls back to clone
        "ioctl": if_one_of(1, [_FIONBIO], ALLOW, REFUSE),
        "socketpair": if_one_of(0, [_AF_UNIX], stream, REFUSE),
        "sendto": if_null(4, if_any(3, _MSG_FASTOPEN, REFUSE, ALLOW), REFUSE),  # only on a connected socket
        "sendmsg": SEND_HOME if asks else REFUSE,
        **dict.fromkeys(_ALLOWED.split(), ALLOW),
    }
    if reads:
        rules["open"] = if_any(1, _NOT_READING, REFUSE, ALLOW)
        rules["openat"] = if_any(2, _NOT_READING, REFUSE, ALLOW)
        rules |= dict.fromkeys(_READING.split(), ALLOW)
    if reads and packages:
        from_file = if_any(3, _MAP_ANONYMOUS, REFUSE, if_any(2, _PROT_WRITE, REFUSE, ALLOW))
        rules["mmap"] = if_any(2, _PROT_EXEC, from_file, ALLOW)
        rules["prlimit64"] = if_null(2, ALLOW, REFUSE)  # reading
        rules["sched_setaffinity"] = ALLOW
        if not _fstat_is_fstat():
            rules["newfstatat"] = if_any(3, _AT_EMPTY_PATH, ALLOW, REFUSE)
    if egress and asks:
        rules["socket"] = if_one_of(0, [socket.AF_INET, socket.AF_INET6], stream, REFUSE)
        rules["connect"] = ASK
        rules["sendmsg"] = if_any(2, _MSG_FASTOPEN, REFUSE, ALLOW)  # which connects
        rules |= dict.fromkeys(_NETWORK.split(), ALLOW)
    return rules


def _fstat_is_fstat() -> bool:
    """Whether the C library inspects descriptors by fstat, not by newfstatat with an empty name."""
    name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "other 0").split()[:2]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return name != "glibc" or not (2, 33) <= numbers < (2, 39)


# ------------------------------------------------------------------------------------------------------------ lock


class Lock:
    """A confinement, prepared once and applied in some tens of microseconds. Unconfined if that is not possible.

    `readable`: paths and Landlock's rights to them. `reads`: whether they can be opened, which needs Landlock. `asks`:
    whether a supervisor counts threads and allows `egress`.
    """

    def __init__(
        self,
        readable: Iterable[tuple[str, int]] = (),
        *,
        packages: bool = False,
        egress: bool = False,
        asks: bool = True,
    ) -> None:
        self._ruleset = Ruleset(readable)
        self.reads = self._ruleset.exists
        self.asks = asks
        self._dumpable = egress  # the supervisor inspects its descriptors
        self._filter = Filter(_rules(reads=self.reads, asks=asks, packages=packages, egress=egress))

    @property
    def ruleset(self) -> int:
        """The descriptor that `enforce` needs; -1 for none."""
        return self._ruleset.descriptor

    def enforce(self, *, memory: int, cpu_seconds: int, open_files: int, ruleset: int, home: socket.socket) -> None:
        """Confines this process permanently. `memory` is in bytes of address space; `ruleset` is the current number of
        that descriptor; the filter's listener is sent through the socket `home`, which is closed."""
        limit(
            {
                resource.RLIMIT_AS: memory,
                resource.RLIMIT_CPU: cpu_seconds,
                resource.RLIMIT_NOFILE: open_files,
                resource.RLIMIT_FSIZE: 0,
                resource.RLIMIT_CORE: 0,
            }
        )
        if not self.asks:
            limit({resource.RLIMIT_NPROC: THREADS_UNCOUNTED})
        # other processes of the user nobody must not inspect it; with the service's own user, the supervisor must
        _prctl(_PR_SET_DUMPABLE, int(self._dumpable or os.geteuid() != NOBODY))
        die_with_parent()
        no_new_privileges()
        if self.reads:
            self._ruleset.enforce(ruleset)
            os.close(ruleset)
        if self.asks:
            self._filter.install_asking(home)
        else:
            home.close()
            self._filter.install()


def drop_privileges(*, to_nobody: bool) -> None:
    """If this is root, becomes the user nobody; or if that user may not read the required files, drops all
    capabilities."""
    if os.geteuid() != 0:
        return
    if to_nobody:
        become_nobody()
        return
    for capability in range(_LAST_CAPABILITY + 1):
        if _LIBC.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), None, None, None):
            break  # the kernel has no more of them
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if _LIBC.capset(header, (ctypes.c_uint32 * 6)()):
        raise Unconfined(f"root's capabilities cannot be dropped: {os.strerror(ctypes.get_errno())}")


def refuse_effects() -> None:
    """Prevents this process and its children from starting programs and changing files."""
    opening = {"open": if_any(1, _NOT_READING, REFUSE, ALLOW), "openat": if_any(2, _NOT_READING, REFUSE, ALLOW)}
    no_new_privileges()
    Filter({**dict.fromkeys(_EFFECTS.split(), REFUSE), **opening}, others=ALLOW).install()


def limit(limits: Mapping[int, int]) -> None:
    """Sets soft and hard rlimits, but none above the current hard limit."""
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def become_nobody() -> None:
    """Changes the user from root to nobody."""
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as refused:
        # a user namespace may not have this user; the filter refuses everything that needs root
        if refused.errno not in (errno.EINVAL, errno.EPERM):
            raise


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """This process is killed, or gets another signal, when its parent's thread ends. A change of user resets that."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Whatever descends from this process becomes its child when the parent in between ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """Required by Landlock and seccomp without root."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), None, None, None):
        raise Unconfined(f"the kernel refused a confinement (prctl {option}: {os.strerror(ctypes.get_errno())})")
