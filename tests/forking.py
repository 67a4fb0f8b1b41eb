"""Processes of `headrace` that begin as a fork of one that has imported it: to import it takes most of the half second
of CPU time that a start takes, and the tests start two hundred."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ")  # variables that are read when a process starts
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_template: Template | None = None


def start(arguments: Sequence[str], *, env: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
    """`python -m headrace ARGUMENTS`; the options are those of Popen for text."""
    command = [sys.executable, "-m", "headrace", *arguments]
    if sys.platform != "linux" or _at_start(env) != _at_start(os.environ):
        return subprocess.Popen(command, env=env, text=True, **options)
    global _template
    if _template is None:
        _template = Template()
    return Forked(command, env=env, text=True, **options)


def close() -> None:
    """Ends the process that the others begin as."""
    global _template
    if _template is not None:
        _template.close()
        _template = None


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}


class Template:
    """The process that has imported Headrace, and forks on request."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        program = f"from tests.forking import serve_forks; serve_forks({theirs.fileno()})"
        command = [sys.executable, "-c", program]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """The id of a new child of this process, with these standard descriptors."""
        body = json.dumps(request).encode()
        with self._lock:
            _adopt_orphans(True)  # the one that forks it ends at once
            try:
                socket.send_fds(self._socket, [len(body).to_bytes(4, "big")], descriptors)
                self._socket.sendall(body)
                return int(self._socket.recv(20))
            finally:
                _adopt_orphans(False)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(60)


class Forked(subprocess.Popen[str]):
    """A process that begins as a fork of the template."""

    def _execute_child(  # type: ignore[override]
        self,
        args: Sequence[str],
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Mapping[str, str],
        startupinfo: Any,
        creationflags: Any,
        shell: Any,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        *_: Any,
    ) -> None:
        import resource  # not on Windows, where no process is forked

        assert _template is not None
        request = {
            "args": args[3:],
            "cwd": str(cwd or os.getcwd()),
            "env": dict(env),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        standard = [fd if fd != -1 else own for own, fd in enumerate((p2cread, c2pwrite, errwrite))]
        self.pid = _template.fork(request, standard)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def _adopt_orphans(adopt: bool) -> None:
    assert ctypes.CDLL(None).prctl(_SUBREAPER, int(adopt), 0, 0, 0) == 0


# ------------------------------------------------------------------------------------------------- in the template


def serve_forks(descriptor: int) -> None:
    """Forks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import()
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=descriptor)
    while True:
        size, descriptors, *_ = socket.recv_fds(requests, 4, 3)
        if not size:
            return
        body = b""
        while len(body) < int.from_bytes(size, "big"):
            body += requests.recv(1 << 20)
        ids, write = os.pipe()
        if not (between := os.fork()):
            if own := os.fork():
                os.write(write, str(own).encode())
                os._exit(0)
            requests.detach()
            _become(json.loads(body), descriptors)
            return
        os.waitpid(between, 0)
        requests.sendall(os.read(ids, 20))
        for unneeded in (*descriptors, ids, write):
            os.close(unneeded)


def _import() -> None:
    """What `headrace serve` imports, and a new database."""
    import headrace.adapters.knowledge
    import headrace.api.app
    import headrace.api.middleware.request_context
    import headrace.api.trigger_endpoints
    import headrace.cli.serve
    import headrace.server.serve
    import headrace.server.tls
    import headrace.server.uvicorn_server
    import headrace.stores.sql.migrations
    import headrace.telemetry.setup  # noqa: F401
    from tests import sqlite

    sqlite.copy_new_databases()


def _become(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Runs the command as a new process would."""
    import resource

    from headrace.cli import main

    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, 1 << 16)
    resource.setrlimit(resource.RLIMIT_NOFILE, request["files"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [str(ROOT / "src/headrace/__main__.py"), *request["args"]]
    main()
