"""Which addresses may be reached."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from headrace.adapters.egress import Egress, EgressRefused, is_public, literal
from headrace.errors import HeadraceError
from headrace.settings import Settings

PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str):
    assert not is_public(ip_address(address))
    assert not Egress().permits("example.com", 443, ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are_public(address: str):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0177.0.0.01",
        "0x7f.0.0.1",
        "0x7f000001",
        "0X7F.1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "[::ffff:7f00:1]",
    ],
)
def test_every_spelling_of_an_address_is_known_for_it(host: str):
    assert literal(host) == ip_address("127.0.0.1")


@pytest.mark.parametrize("host", ["example.com", "localhost", "0x7g", "1.2.3.4.5", "999999999999", "cafe", ""])
def test_names_are_no_addresses(host: str):
    assert literal(host) is None


@pytest.mark.parametrize(
    ("allow", "host", "port", "address", "permitted"),
    [
        ("*", "x", 1, "169.254.169.254", True),
        ("127.0.0.1", "127.0.0.1", 80, "127.0.0.1", True),
        ("127.0.0.1", "localhost", 80, "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", 80, "127.0.0.2", False),
        ("127.0.0.1:8900", "127.0.0.1", 8900, "127.0.0.1", True),
        ("127.0.0.1:8900", "127.0.0.1", 8901, "127.0.0.1", False),
        ("127.0.0.1:8900", "127.0.0.1", 8900, "::ffff:127.0.0.1", True),
        ("10.0.0.0/8", "db", 5432, "10.20.30.40", True),
        ("10.0.0.0/8", "db", 5432, "11.0.0.1", True),
        ("10.0.0.0/8", "db", 5432, "192.168.0.1", False),
        ("fd00::/8", "db", 1, "fd12::1", True),
        ("::1", "localhost", 1, "::1", True),
        ("[::1]:80", "localhost", 80, "::1", True),
        ("[::1]:80", "localhost", 81, "::1", False),
        ("intranet", "intranet", 80, "10.0.0.1", True),
        ("intranet", "INTRANET.", 80, "10.0.0.1", True),
        ("intranet", "evil-intranet", 80, "10.0.0.1", False),
        ("intranet:8080", "intranet", 80, "10.0.0.1", False),
        ("intranet:8080", "intranet", 8080, "10.0.0.1", True),
        ("other, intranet", "intranet", 80, "10.0.0.1", True),
        ("bücher.example", "xn--bcher-kva.example", 80, "10.0.0.1", True),
        ("", "intranet", 80, "10.0.0.1", False),
    ],
)
def test_what_the_setting_allows(allow: str, host: str, port: int, address: str, permitted: bool):
    assert Egress(Settings(egress_allow=allow).egress_allow).permits(host, port, ip_address(address)) is permitted


@pytest.mark.parametrize(
    "entry",
    [
        "http://intranet",
        "intranet:",
        "intranet:http",
        "intranet:0",
        "intranet:65536",
        "10.0.0.0/40",
        "[::1",
        "a b",
        "-",
    ],
)
def test_an_entry_that_cannot_be_understood_is_named(entry: str):
    with pytest.raises(HeadraceError, match="HEADRACE_EGRESS_ALLOW") as caught:
        Egress([entry])
    assert f"'{entry}'" in str(caught.value)


async def test_only_the_permitted_addresses_of_a_name_are_reported():
    async def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.1", "8.8.8.8", "::1"]

    assert await Egress(resolve=resolve).addresses("mixed.example", 80) == [ip_address("8.8.8.8")]


async def test_a_name_with_private_addresses_only_is_refused():
    async def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.1", "::1"]

    with pytest.raises(EgressRefused, match=r"inside\.example:80.*HEADRACE_EGRESS_ALLOW"):
        await Egress(resolve=resolve).addresses("inside.example", 80)


async def test_the_systems_own_names_are_resolved_and_refused():
    egress = Egress()
    with pytest.raises(EgressRefused):
        await egress.addresses("localhost", 80)
    egress.close()
