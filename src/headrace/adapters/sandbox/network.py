"""The network of confined programs: every connection leads to the guard, which is a proxy.

This is for convenience, not for security: the supervisor connects every socket to the guard (`supervisor`).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Any, cast
from urllib.parse import urlsplit

_LONGEST_HEAD = 65536


def use_proxy(url: str, certificates: str) -> None:
    """Makes libraries use the proxy, by environment variables or, if they create connections, by a tunnel; and trust
    the certificate authorities in a file."""
    if certificates:
        os.environ["SSL_CERT_FILE"] = certificates
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ[name] = os.environ[name.lower()] = url
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ""
    parts = urlsplit(url)
    proxy = (parts.hostname or "", parts.port or 80)
    direct = socket.create_connection

    def create_connection(address: tuple[str, int], *how: Any, **more: Any) -> socket.socket:
        connection = direct(proxy, *how, **more)
        if tuple(address[:2]) == proxy:
            return connection
        try:
            _tunnel(connection, *address[:2])
        except BaseException:
            connection.close()
            raise
        return connection

    create_connection.__doc__ = direct.__doc__
    socket.create_connection = create_connection


def trust_environment() -> None:
    """Makes aiohttp use the proxies of the environment, which is not its default."""
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None:
        return
    session: Any = cast("Any", aiohttp).ClientSession
    begin = session.__init__

    def init(self: Any, *positional: Any, trust_env: bool = True, **named: Any) -> None:
        begin(self, *positional, trust_env=trust_env, **named)

    session.__init__ = init


def _tunnel(connection: socket.socket, host: str, port: int) -> None:
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    connection.sendall(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)  # what follows the head belongs to the caller
        if not byte or len(head) > _LONGEST_HEAD:
            raise ConnectionResetError(errno.ECONNRESET, "The connection was closed before it was established")
        head += byte
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        why = bytearray()
        while piece := connection.recv(4096):
            why += piece
            if len(why) > _LONGEST_HEAD:
                break
        raise PermissionError(errno.EACCES, why.decode("utf-8", "replace").strip() or "The connection was refused")
