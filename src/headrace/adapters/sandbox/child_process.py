"""Starts the Python processes of the sandbox, which start those that run users' code, and reads what those send."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

MEGABYTE = 1024 * 1024
BOOT = """
import sys
sys.path.insert(0, sys.argv[2])
from importlib import import_module
import_module(sys.argv[3]).main(int(sys.argv[1]))
"""
_ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
_NEEDED = ("LD_LIBRARY_PATH",)  # some interpreters need it to start; processes that run code do not get it
_ROOT = Path(__file__).resolve().parents[3]


def spawn(module: str, descriptor: int, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Starts `main(descriptor)` of a module of this package; it inherits nothing but that descriptor."""
    return subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", BOOT, str(descriptor), str(_ROOT), f"{__package__}.{module}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT | dict(environment or {}) | {name: os.environ[name] for name in _NEEDED if name in os.environ},
        cwd="/",
        pass_fds=[descriptor],
        start_new_session=True,  # so that Ctrl-C only reaches the service
    )


def has_died(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. Blocks briefly, because its children may notice its end first."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return False
    return True


async def read_exactly(connection: socket.socket, size: int) -> bytes:
    """What the other end sends next. EOFError if it closes before that is complete."""
    loop = asyncio.get_running_loop()
    pieces, remaining = list[bytes](), size
    while remaining:
        piece = await loop.sock_recv(connection, min(remaining, MEGABYTE))
        if not piece:
            raise EOFError
        pieces.append(piece)
        remaining -= len(piece)
    return b"".join(pieces)
