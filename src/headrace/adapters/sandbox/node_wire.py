"""What crosses between a service and the process that starts its Nodes; see `node_keeper`."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ORDER = struct.Struct(">cQQQ")  # F or K; number; bytes of memory; seconds of processor time
SIZE = struct.Struct(">I")


@dataclass(frozen=True)
class NodePlan:
    """What a keeper is started with: the path of Node.js; `guard` (host, port, token in hexadecimal), where every
    connection of its Nodes leads, and `proxy`, the URL that they know it by: without, there are none. `leave_out`, for
    tests: "listener" or "landlock"."""

    node: str
    guard: tuple[str, int, str] | None = None
    proxy: str = ""
    leave_out: str = ""
