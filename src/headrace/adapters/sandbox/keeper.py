"""The service's side of the process that starts confined Node.js processes (`node_keeper`)."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from headrace.adapters.sandbox.child_process import spawn
from headrace.adapters.sandbox.egress_proxy import PROXY
from headrace.adapters.sandbox.node_program import NETWORK, NodeProgram
from headrace.adapters.sandbox.node_wire import ORDER, NodePlan
from headrace.adapters.sandbox.workers import NoConfinement

START_SECONDS = 30.0


class Keeper:
    """The running keeper. `trial` is the result of its trial: version, supervised, landlock, network."""

    def __init__(
        self, find: Callable[[], NodeProgram], leave_out: str = "", guard: tuple[str, int, str] | None = None
    ) -> None:
        """Finds Node.js, starts the keeper and waits for its trial; blocks for half a second. NoNode, NoConfinement."""
        if sys.platform != "linux":
            raise NoConfinement(f"Node.js cannot be confined on {sys.platform}")
        program = find()
        plan = NodePlan(program.path, guard if program.major >= NETWORK else None, PROXY, leave_out)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.process = spawn("node_keeper", theirs.fileno())
            self.control.send(json.dumps(asdict(plan)).encode())
        except OSError as error:
            self.control.close()
            raise NoConfinement(f"no process can be started: {error}") from None
        finally:
            theirs.close()
        self.control.settimeout(START_SECONDS)
        try:
            verdict = self.control.recv(4096).decode("utf-8", "replace")
        except OSError:
            verdict = ""
        if not verdict.startswith("ok"):
            self.close()
            why = verdict or "the process that prepares it did not become ready"
            raise NoConfinement(f"Node.js {program.version} cannot be confined here: {why}")
        self.control.setblocking(False)
        self.trial: dict[str, Any] = json.loads(verdict[2:])

    def start_node(self, number: int, memory: int, processor_seconds: int) -> socket.socket:
        """Our end of the socket of a Node.js that starts. OSError if the keeper has ended or does not respond."""
        mine, theirs = socket.socketpair()
        try:
            order = ORDER.pack(b"F", number, memory, processor_seconds)
            socket.send_fds(self.control, [order], [theirs.fileno()])
        except OSError:
            mine.close()
            raise
        finally:
            theirs.close()
        mine.setblocking(False)
        return mine

    def kill_node(self, number: int) -> None:
        try:
            self.control.send(ORDER.pack(b"K", number, 0, 0))
        except OSError:
            return  # the keeper has ended, and so have its children

    def close(self) -> None:
        """Ends it and all its children."""
        self.control.close()
        self.process.kill()
        self.process.wait()
