"""The protocol between the service and the process that starts its Nodes; see `node_keeper`."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ORDER = struct.Struct(">cQQQ")  # F or K; number; bytes of memory; seconds of processor time
SIZE = struct.Struct(">I")


@dataclass(frozen=True)
class NodePlan:
    """The configuration of a keeper: the path of Node.js; `guard` (host, port, token in hexadecimal), to which every
    connection of its Nodes leads, and `proxy`, its URL for them (without these, there is no network). `leave_out`, for
    tests: "listener" or "landlock"."""

    node: str
    guard: tuple[str, int, str] | None = None
    proxy: str = ""
    leave_out: str = ""
