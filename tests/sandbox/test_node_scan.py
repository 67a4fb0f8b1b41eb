"""What of Node.js and of the network a JavaScript program uses, by its text."""

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.adapters.sandbox.node_scan import network_features, node_features

FOUND = [
    ("function main() { return Buffer.from('x') }", ("Buffer",)),
    ("const fs = require('fs')", ("require",)),
    ("// Buffer\n/* URL */ 'process' + \"crypto\" + `fetch`", ()),
    ("`${new URL(x)} Buffer ${`${crypto.a}`} fetch`", ("URL", "crypto")),
    ("const re = /Buffer's \\/ [/] URL/g; setTimeout(f)", ("setTimeout",)),
    ("x = a / b; y = URL / c", ("URL",)),
    ("const URL = 1; class Event {} function fetch() {} URL + Event + fetch()", ()),
    ("item.URL + item?.crypto + {process: 1, Buffer : 2}", ()),
    ("[...Buffer.from('x')]", ("Buffer",)),
    (
        "a.toLocaleString(); b . localeCompare(c); d.toLocaleUpperCase(); e.toLocaleLowerCase('tr')",
        (".toLocaleString", ".localeCompare", ".toLocaleLowerCase"),
    ),
    ("const toLocaleString = 1", ()),
    ("if (x) { return `a${ {b: 1}.b }c` } process.exit()", ("process",)),
    ("'unclosed", ()),
    ("`unclosed ${", ()),
    ("", ()),
]


@pytest.mark.parametrize(("code", "names"), FOUND)
def test_a_scan_finds_what_is_nodes(code: str, names: tuple[str, ...]) -> None:
    assert node_features(code) == names


def test_a_scan_is_quick() -> None:
    for piece in ("`${", "/", "{", "'a", "/*", "\\", "a.b:", "( /[", "`"):
        node_features(piece * 20_000)


def test_the_network_is_named() -> None:
    code = "const h = require('node:https'); const n = await import('net'); fetch(u); require('crypto')"
    assert network_features(code) == ("fetch", "require('https')", "require('net')")


def test_without_egress_lint_names_the_network() -> None:
    message = LocalSandbox().missing(
        "javascript", "const main = async () => ({r: await (await fetch('http://a')).text()})"
    )
    assert message is not None
    assert "fetch" in message
    assert "HEADRACE_CODE_EGRESS" in message or "needs Node.js" in message
    assert LocalSandbox().missing("javascript", "const main = () => ({r: 1})") is None
