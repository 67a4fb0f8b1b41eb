"""What crosses between a service and the processes it confines; see `zygote`."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SIZE = struct.Struct(">I")
CHILD = struct.Struct(">cQ")
READY, BEGUN, RESULT, ERROR, UNCONFINED = b"+", b"B", b"R", b"E", b"X"


@dataclass(frozen=True)
class Plan:
    """What a zygote is started with. Memory in bytes a child, `cpu_seconds` of all a child's threads together.

    `packages` is a folder of packages that children may import, `preloaded` are modules of it that the zygote imports
    for them. `guard` (host, port, token in hexadecimal) is where every connection of theirs leads: without, there are
    none. `proxy` is the URL that they know it by, `certificates` the file of the authorities that they trust.
    """

    memory: int
    cpu_seconds: int
    packages: str | None = None
    preloaded: tuple[str, ...] = ()
    guard: tuple[str, int, str] | None = None
    proxy: str = ""
    certificates: str = ""
