"""Landlock: restricts access to files and the network, for a process and its children. A second wall beside seccomp.

A ruleset is created once, where paths can be looked up, and enforced by every child that inherits its descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable

from headrace.adapters.sandbox.seccomp import Unconfined

EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER = 1, 2, 4, 8
EVERYTHING = 0xFFFF

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION, _PATH_BENEATH = 1, 1
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # number of file rights by ABI; 16 from the fifth
_NET_RIGHTS, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals


class Ruleset:
    """Denies everything that this kernel's Landlock can, except `paths`: (path, rights), for a folder including its
    tree; and TCP with `network`.

    Paths that do not exist are ignored. `exists`: whether the kernel has Landlock; without it, `enforce` does nothing.
    """

    def __init__(self, paths: Iterable[tuple[str, int]] = (), *, network: bool = False) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = -1
        abi = self._call(_CREATE, None, 0, _VERSION)
        self.exists = abi >= 1
        if not self.exists:
            return
        known = (1 << _FS_RIGHTS.get(abi, 16)) - 1
        words = [known]
        if abi >= 4:
            words.append(0 if network else _NET_RIGHTS)
        if abi >= 6:
            words.append(_SCOPES)
        attributes = struct.pack(f"{len(words)}Q", *words)
        self.descriptor = self._call(_CREATE, attributes, len(attributes), 0)
        if self.descriptor < 0:
            raise self._refused()
        for path, rights in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                self._add(path, rights & known)

    def _add(self, path: str, rights: int) -> None:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", rights, place)
            if self._call(_ADD_RULE, self.descriptor, _PATH_BENEATH, rule, 0):
                raise self._refused()
        finally:
            os.close(place)

    def enforce(self, descriptor: int | None = None) -> None:
        """Restricts the calling thread permanently; no_new_privs must be set. `descriptor`: its current number."""
        if self.exists and self._call(_RESTRICT, self.descriptor if descriptor is None else descriptor, 0):
            raise self._refused()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _call(self, number: int, *arguments: int | bytes | None) -> int:
        words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
        return self._libc.syscall(ctypes.c_long(number), *words)

    @staticmethod
    def _refused() -> Unconfined:
        return Unconfined(f"Landlock refused: {os.strerror(ctypes.get_errno())}")
