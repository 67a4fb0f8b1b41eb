"""Callers who ask for nothing do not shut out those who ask."""

from __future__ import annotations

import pathlib
import resource
import socket
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

from headrace.server.connection_limit import connection_limit
from tests.server.gated import FINISHED, FLOW, Client, Peer, read_until
from tests.server.process import Serve

FEW = 200  # descriptors of the server
HALF = b"POST /v1/workflows/run HTTP/1.1\r\nHost: x\r\nContent-"


@pytest.mark.parametrize(
    ("limit", "most", "spare"), [(256, 192, 64), (1024, 768, 256), (65536, 64512, 1024), (64, 16, 64), (1, 16, 64)]
)
def test_some_descriptors_are_kept(limit: int, most: int, spare: int) -> None:
    assert connection_limit(limit) == (most, spare)


def test_half_open_connections_lock_nobody_out(tmp_path: pathlib.Path, peer: Peer) -> None:
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
        try:
            serve = Serve(tmp_path, [flow], {"HEADRACE_EGRESS_ALLOW": peer.address})
            stack.enter_context(serve)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        fields = {"inputs": {"q": "x"}, "user": "u", "response_mode": "streaming"}
        stream = stack.enter_context(Client(serve).stream("POST", "/v1/workflows/run", fields))
        read_until(stream, ("node_started", "second"))
        host, port = urlsplit(serve.url).netloc.split(":")
        for _ in range(2 * FEW):
            half = stack.enter_context(closing(socket.create_connection((host, int(port)), timeout=60)))
            half.sendall(HALF)
        for _ in range(5):
            assert Client(serve).get("/v1/info")["name"] == "waits"
        peer.gate.set()
        events, _ = read_until(stream, FINISHED)
        assert events[-1]["data"]["status"] == "succeeded", "who waits for an answer is not cut off"
    assert "Too many open files" not in "".join(serve.said)
