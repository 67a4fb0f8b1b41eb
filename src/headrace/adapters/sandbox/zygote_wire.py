"""The protocol between the service and the zygote; see `zygote`."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SIZE = struct.Struct(">I")
CHILD = struct.Struct(">cQ")
READY, BEGUN, RESULT, ERROR, UNCONFINED = b"+", b"B", b"R", b"E", b"X"


@dataclass(frozen=True)
class Plan:
    """The configuration of a zygote. `memory` of a child in bytes, `cpu_seconds` of all its threads.

    `packages` is a folder of packages that children may import, `preloaded` are modules of it that the zygote imports
    for them. Every connection of theirs leads to `guard` (host, port, token in hexadecimal); without it, there is no
    network. `proxy` is its URL for them, `certificates` the file of trusted certificate authorities.
    """

    memory: int
    cpu_seconds: int
    packages: str | None = None
    preloaded: tuple[str, ...] = ()
    guard: tuple[str, int, str] | None = None
    proxy: str = ""
    certificates: str = ""
