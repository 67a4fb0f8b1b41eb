"""Starts a plugin's interpreter in a process that is confined as far as that is possible without root.

A program of its own. It starts a process that confines itself, then becomes the interpreter, and supervises it: what
the plugin has started ends with the plugin, also what has left its process group. A plugin may read the system's
libraries and programs, its interpreter and its own folder, and write to its home folder only; it has no capabilities,
cannot inspect other processes, and limits bound its memory, files and processes. It may use the network. The files that
it can reach are bounded by Landlock, which Linux has since 5.13; elsewhere it can read what the server's user can.

A plugin ends with the server, even if that is killed. That the server is not its parent also suits the SDK, which ends
at once where its parent has the process id 1, as the server may have in a container.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from headrace.adapters.sandbox import confine
from headrace.adapters.sandbox.landlock import EVERYTHING, EXECUTE, READ_FILE, READ_FOLDER, WRITE_FILE, Ruleset
from headrace.adapters.sandbox.seccomp import ALLOW, REFUSE, Filter, Unconfined
from headrace.frozen import frozen

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from headrace.adapters.plugins.confine import main; main()"
_SOURCE = Path(__file__).resolve().parents[3]

_FOLDERS = """
/usr /lib /lib32 /lib64 /bin /sbin /nix/store /proc /sys/devices/system/cpu /sys/fs/cgroup /run/systemd/resolve
/run/resolvconf /etc/ssl /etc/pki /etc/ca-certificates /etc/crypto-policies /etc/alternatives /etc/fonts
/etc/ld.so.conf.d
"""
_FILES = """
/etc/ca-certificates.conf /etc/gai.conf /etc/group /etc/host.conf /etc/hostname /etc/hosts /etc/ld.so.cache
/etc/ld.so.conf /etc/localtime /etc/magic /etc/mime.types /etc/nsswitch.conf /etc/os-release /etc/passwd /etc/protocols
/etc/resolv.conf /etc/services /etc/timezone /dev/random /dev/urandom
"""
_DEVICES = "/dev/null /dev/zero /dev/full"
_READ = EXECUTE | READ_FILE | READ_FOLDER
PASSED_PATHS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TIKTOKEN_CACHE_DIR")
"""Variables of the server with paths that plugins may read."""
_OPEN_FILES = 4096
_PROCESSES = 4096  # the kernel counts those of the user, threads included
_REFUSED = "bpf io_uring_setup mount umount2 pivot_root ptrace process_vm_writev setns unshare"


@frozen
class Plan:
    """What to start. `python` is the interpreter of the plugin's environment, `readable` the folders and files that it
    may read, `home` the one that it may write to; `memory` is in bytes; `server` is the process that starts it."""

    python: str
    module: str
    readable: Sequence[str]
    home: str
    memory: int
    server: int


def arguments(plan: Plan) -> tuple[str, ...]:
    """The command that starts a plugin."""
    return (sys.executable, "-I", "-S", "-B", "-c", _BOOT, str(_SOURCE), json.dumps(asdict(plan)))


def interpreter_folders(python: Path) -> tuple[str, ...]:
    """The folders of an environment's interpreter: its own, and that of the Python it was made from."""
    base = python.resolve().parent.parent
    return (str(python.parent.parent), *([str(base)] if base != Path("/") else []))


def environment(home: Path, temporary: Path, python: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """A plugin's environment variables. Of the server's own it gets those of proxies and certificates, and the folder
    of tokenizers that its SDK would else download."""
    passed_names = (*PASSED_PATHS, "CURL_CA_BUNDLE", "TZ", "LD_LIBRARY_PATH")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    names = (*passed_names, *proxies, *map(str.lower, proxies))
    # files are fetched from this machine, which no proxy can reach
    direct = ",".join(filter(None, (environ.get("NO_PROXY") or environ.get("no_proxy"), "127.0.0.1,localhost")))
    return {
        "INSTALL_METHOD": "local",
        "PATH": os.pathsep.join((str(python.parent), environ.get("PATH", os.defpath))),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # its folder is read-only; installing has compiled it
        "NO_PROXY": direct,
        "no_proxy": direct,
        **{name: environ[name] for name in names if name in environ},
    }


def main() -> None:
    """The program."""
    plan = Plan(**json.loads(sys.argv[2]))
    os.umask(0o077)
    confine.limit(
        {
            resource.RLIMIT_DATA: plan.memory,
            resource.RLIMIT_NOFILE: _OPEN_FILES,
            resource.RLIMIT_NPROC: _PROCESSES,
            resource.RLIMIT_CORE: 0,
        }
    )
    if sys.platform == "linux":
        _fork(plan.server)
        try:
            _confine(plan)
        except Unconfined as error:
            print(f"this plugin is not confined: {error}", file=sys.stderr)  # noqa: T201
    os.execv(plan.python, [plan.python, "-m", plan.module])


def _confine(plan: Plan) -> None:
    confine.drop_privileges(to_nobody=False)
    confine.no_new_privileges()
    Ruleset(_rights(plan), network=True).enforce()
    Filter(dict.fromkeys(_REFUSED.split(), REFUSE), others=ALLOW).install()


def _rights(plan: Plan) -> Iterator[tuple[str, int]]:
    for path in (*_FOLDERS.split(), *_FILES.split(), *plan.readable):
        yield path, _READ if os.path.isdir(path) else EXECUTE | READ_FILE
    for path in _DEVICES.split():
        yield path, READ_FILE | WRITE_FILE
    yield plan.home, EVERYTHING


def _fork(server: int) -> None:
    """Continues in a child process, which the calling one supervises."""
    _end_with(server, signal.SIGHUP)
    confine.adopt_orphans()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM})
    supervisor = os.getpid()
    if plugin := os.fork():
        _supervise(plugin)
    _end_with(supervisor, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with(parent: int, number: signal.Signals) -> None:
    confine.die_with_parent(number)
    if os.getppid() != parent:  # it has ended before it could be watched
        sys.exit(1)


def _supervise(plugin: int) -> NoReturn:
    """Waits for the plugin's end, ends all that it has started, and ends like it. SIGHUP kills the plugin; SIGTERM,
    which its process group gets, is for the plugin only."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)  # the plugin has the pipes
    status: int | None = None
    while status is None:
        if signal.sigwait({signal.SIGCHLD, signal.SIGHUP}) == signal.SIGHUP:
            os.kill(plugin, signal.SIGKILL)
        status = _reap(plugin)
    while children := _children():
        for child in children:
            os.kill(child, signal.SIGKILL)
        os.wait()  # then its own children are children of this process
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _reap(plugin: int) -> int | None:
    """Removes the child processes that have ended. The status of the plugin if it is one of them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in (0, plugin):
            return status if pid else None


def _children() -> list[int]:
    """The child processes of this one, also those that have ended."""
    parent = str(os.getpid())
    children: list[int] = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path("/proc", pid, "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if fields[1] == parent:
            children.append(int(pid))
    return children
