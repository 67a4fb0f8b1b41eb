"""Guards outgoing requests: they may go to public addresses, and to those that the operator allows.

Addresses are checked, not names: a name is resolved here, and only checked addresses are connected to. So neither a
name that resolves to a private address, nor one that resolves differently at the second time, gets through.

`HEADRACE_EGRESS_ALLOW` is a comma-separated list of

    *                    everything
    name, name:port      that host, whatever address it resolves to
    address, address:port, [v6]:port
    10.0.0.0/8           every address in the range
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

from headrace.errors import HeadraceError

Address: TypeAlias = IPv4Address | IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> its addresses; OSError if there are none."""

SETTING = "HEADRACE_EGRESS_ALLOW"

# A list, because `is_global` differs between versions of Python.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # internal services of a cloud at a public address
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")

# IPv4 addresses as the C library accepts them: one to four numbers, decimal, octal or hexadecimal.
_NUMBERS = re.compile(r"(?:0[xX][0-9a-fA-F]+|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]+|[0-9]+)){0,3}")
_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


class EgressRefused(Exception):
    """No address of this host may be reached. `str` says how to allow it."""

    def __init__(self, host: str, port: int) -> None:
        url_host = f"[{host}]" if ":" in host else host
        super().__init__(
            f"Requests to {url_host}:{port} are refused, because its address is not public. "
            f"To allow them, add {url_host}:{port} to {SETTING}."
        )


def literal(host: str) -> Address | None:
    """The address in a URL's host, in any notation that some system would connect to (decimal, octal, hexadecimal,
    short, IPv4 in IPv6); None if the host is a name."""
    host = host.strip("[]").rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        if not _NUMBERS.fullmatch(host):
            return None
        try:
            address = IPv4Address(socket.inet_aton(host))
        except OSError:
            return None
    return _unmapped(address)


def is_public(address: Address) -> bool:
    """Whether this is a public address. IPv6 addresses that contain an IPv4 one (mapped, 6to4, NAT64) are public if
    that is."""
    address = _unmapped(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.sixtofour is not None:
        return is_public(address.sixtofour)
    return address in _GLOBAL_6 and not any(address in network for network in _NOT_PUBLIC_6)


def _unmapped(address: Address) -> Address:
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _name(host: str) -> str:
    return host.rstrip(".").lower()


class Hosts:
    """A list of hosts, as in `HEADRACE_EGRESS_ALLOW`. HeadraceError, which names `setting`, if an entry is invalid."""

    def __init__(self, entries: Sequence[str], setting: str = SETTING) -> None:
        self._setting = setting
        self._all = False
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[IPv4Network | IPv6Network, int | None]] = []
        for entry in entries:
            self._add(entry.strip())

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._all = True
            return
        try:
            if "/" in entry:
                self._networks.append((ip_network(entry, strict=False), None))
                return
            host, port = _split_port(entry)
            address = literal(host)
            if address is not None:
                self._networks.append((ip_network(address), port))
                return
            name = _name(host).encode("idna").decode()
        except ValueError as error:  # also raised by the idna codec
            raise HeadraceError(
                f"{self._setting}: '{entry}' is not a valid host, host:port or CIDR ({error})."
            ) from None
        if not _LABELS.fullmatch(name):
            raise HeadraceError(f"{self._setting}: '{entry}' is not a valid host, host:port or CIDR.")
        self._names.add((name, port))

    def names(self, host: str, port: int) -> bool:
        """Whether the list has the host by name."""
        name = _name(host)
        return self._all or (name, None) in self._names or (name, port) in self._names

    def names_port(self, host: str, port: int) -> bool:
        """Whether an entry has the host, by name or address, with exactly this port."""
        address = literal(host)
        if address is None:
            return (_name(host), port) in self._names
        return any(allowed_port == port and address in network for network, allowed_port in self._networks)

    def cover(self, host: str, port: int, address: Address) -> bool:
        """Whether the list has the host by name, or by this address."""
        if self.names(host, port):
            return True
        address = _unmapped(address)
        return any(
            address.version == network.version and address in network and allowed_port in (None, port)
            for network, allowed_port in self._networks
        )


class Egress:
    """The guard. `allow`: entries as in `HEADRACE_EGRESS_ALLOW`; HeadraceError if one is invalid."""

    def __init__(self, allow: Sequence[str] = (), resolve: Resolve | None = None) -> None:
        self._allowed = Hosts(allow)
        self._resolve = resolve or self._ask_system
        self._pool: ThreadPoolExecutor | None = None

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Whether a connection to this address is allowed for a URL with this host and port."""
        return is_public(address) or self._allowed.cover(host, port, address)

    async def addresses(self, host: str, port: int) -> list[Address]:
        """The host's allowed addresses. EgressRefused if it only has others; OSError if it has none."""
        local = _name(host) == "localhost" or _name(host).endswith(".localhost")  # never resolved by name servers
        addresses = [ip_address(text) for text in await self._resolve("localhost" if local else host, port)]
        permitted_addresses = [address for address in addresses if self.permits(host, port, address)]
        if addresses and not permitted_addresses:
            raise EgressRefused(host, port)
        return permitted_addresses

    async def _ask_system(self, host: str, port: int) -> list[str]:
        # A separate pool: a name server that does not answer must not block the default one.
        self._pool = self._pool or ThreadPoolExecutor(8, thread_name_prefix="headrace-dns")
        infos = await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _split_port(entry: str) -> tuple[str, int | None]:
    """(host, port) of an entry; ValueError if the port is invalid."""
    if entry.startswith("["):
        host, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("it should be [address] or [address]:port")
        port = rest[1:] if rest else None
    elif entry.count(":") == 1:
        host, port = entry.split(":")
    else:
        return entry, None
    if port is None:
        return host, None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("its port is not a number from 1 to 65535")
    return host, int(port)
