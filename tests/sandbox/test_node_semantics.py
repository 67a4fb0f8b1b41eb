# ruff: noqa: E501 (programs on one line each)
"""JavaScript means here what it means in Dify: each program in a plain Node.js, as Dify's sandbox wraps it, and confined."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from headrace.adapters.sandbox.node import NodePool
from headrace.adapters.sandbox.workers import WorkerFailed
from tests.sandbox import node_programs

pytestmark = pytest.mark.asyncio(loop_scope="module")

INPUTS = {"a": 1, "o": {"y": 1, "a": 2}, "text": "é 中\U0001f600", "list": [3, 1, 2], "none": None}

# A direct eval inside a CommonJS module, where the program and what calls it are one text: as Dify's sandbox does it.
OUTSIDE = "const fs = require('fs'); eval(Buffer.from(fs.readFileSync(0, 'utf8'), 'base64').toString('utf8'))"
CALL = """%s

var inputs_obj = JSON.parse(Buffer.from('%s', 'base64').toString('utf-8')); var output_obj = main(inputs_obj)
console.log('<<RESULT>>' + JSON.stringify(output_obj) + '<<RESULT>>')
"""

SAME = {
    "a value": "function main({a}) { return {r: a} }",
    "undefined members": "function main() { return {a: undefined, b: [undefined, () => 1]} }",
    "NaN": "function main() { return {a: NaN, b: Infinity, c: -0} }",
    "a BigInt": "function main() { return {a: 10n} }",
    "a date": "function main() { return {a: new Date(0), s: String(new Date(0)), t: Date().length} }",
    "containers": "function main() { return {a: new Map([[1, 2]]), s: new Set([1]), b: Buffer.from('hi'), "
    "u: new Uint8Array(2), r: /a/, e: new Error('x')} }",
    "symbols": "function main() { return {a: Symbol('x'), [Symbol('k')]: 1} }",
    "a cycle": "function main() { const a = {}; a.a = a; return a }",
    "toJSON": "function main() { return {toJSON() { return {x: 1} }} }",
    "a class": "class A { constructor() { this.x = 1 } get y() { return 2 } } function main() { return new A }",
    "thrown": "function main() { throw new TypeError('boo') }",
    "thrown text": "function main() { throw 'boo' }",
    "an arrow": "const main = ({a}) => ({r: a})",
    "a comment at the end": "function main() { return {a: 1} } // end",
    "fs at hand": "function main() { return {t: typeof fs.readFileSync, p: typeof path, u: typeof url} }",
    "CommonJS": "function main() { return {t: typeof require, m: typeof module, e: typeof exports, f: typeof __filename, "
    "d: typeof __dirname, p: typeof process, g: typeof globalThis.module, r: typeof globalThis.require} }",
    "this": "const outer = this === module.exports; function main() { return {t: this === globalThis, outer} }",
    "exports": "module.exports = {main: 1}; function main() { return {a: 1} }",
    "implicit globals": "function main() { x = 5; return {x, g: globalThis.x} }",
    "var is no global": "var v = 3; function main() { return {v, g: typeof globalThis.v} }",
    "strict": "'use strict'; function main() { try { y = 5 } catch (e) { return {e: e.name} } return {} }",
    "octal": "function main() { return {a: 010} }",
    "with": "function main(o) { with (o) { return {a} } }",
    "printing": "function main() { console.log('hello'); process.stdout.write('x'); return {a: 1} }",
    "half an emoji": "function main() { return {a: '\\ud83d'} }",
    "numbers": "function main() { return {a: 9007199254740993, b: 1e21, c: 0.1 + 0.2, d: 5e-324} }",
    "inputs changed": "function main({o}) { o.z = 1; return {o} }",
    "keys of inputs": "function main(o) { return {k: Object.keys(o)} }",
    "null": "function main({none}) { return {n: none, t: typeof none} }",
    "numbers of a locale": "function main() { return {a: (1234567.891).toLocaleString(), b: (5).toLocaleString('en-US', "
    "{style: 'currency', currency: 'USD'}), c: (1234.5).toLocaleString('de-DE')} }",
    "dates of a locale": "function main() { return {a: new Date(0).toLocaleString('zh-CN', {timeZone: 'Asia/Shanghai'}), "
    "b: new Date(0).toLocaleDateString('fr-FR', {dateStyle: 'full'}), c: new Date(0).toLocaleTimeString()} }",
    "order of a locale": "function main() { return {a: ['ä', 'a', 'z', 'B'].sort((x, y) => x.localeCompare(y, 'de')), "
    "b: ['10', '9'].sort((x, y) => x.localeCompare(y, undefined, {numeric: true}))} }",
    "Intl": "function main() { return {z: Intl.DateTimeFormat().resolvedOptions(), "
    "p: new Intl.PluralRules('ar').select(3), s: [...new Intl.Segmenter('ja').segment('\u4eca\u65e5')].length} }",
    "globals": "function main() { return {k: [typeof Buffer, typeof URL, typeof Intl, typeof structuredClone, "
    "typeof setTimeout, typeof crypto, typeof crypto.subtle, typeof fetch, typeof TextEncoder, typeof atob, "
    "typeof performance, typeof WebAssembly, typeof global, typeof navigator, typeof queueMicrotask]} }",
    "one realm": "function main() { return {a: Buffer.from('a') instanceof Uint8Array, "
    "b: structuredClone([]) instanceof Array, c: new (require('url').URL)('http://a') instanceof URL} }",
    "URL": "function main() { const u = new URL('http://a/b?c=é'); "
    "return {r: Buffer.from(u.searchParams.get('c')).toString('base64'), h: u.href} }",
    "crypto": "function main() { const c = require('crypto'); return {s: c.createHash('sha256').update('x')"
    ".digest('hex'), h: c.createHmac('md5', 'k').update('x').digest('base64'), r: c.randomBytes(4).length} }",
    "zlib": "function main() { const z = require('zlib'); return {r: z.gunzipSync(z.gzipSync('hi')).toString()} }",
    "querystring": "function main() { return {r: require('querystring').stringify({a: [1, 2], b: 'é'})} }",
    "util": "function main() { return {r: require('util').inspect({a: {b: {c: {d: 1}}}}), "
    "f: require('node:util').format('%s %d', 'x', 1)} }",
    "os": "function main() { const os = require('os'); return {p: os.platform(), e: os.EOL, t: typeof os.totalmem()} }",
    "a module that lacks": "function main() { require('axios') }",
    "a version": "function main() { return {v: process.version, e: typeof process.env.HOME} }",
    "the directory": "function main() { return {c: typeof process.cwd()} }",
    "memory": "function main() { return {t: typeof process.memoryUsage().heapUsed, r: process.memoryUsage.rss() > 1e6} }",
    "a stack": "function main() { return {s: new Error('x').stack.split('\\n').length > 1} }",
    "an error's words": "function main(o) { try { o.x.y } catch (e) { return {e: e.message} } }",
    "patterns": "function main({text}) { return {r: text.replace(/(\\p{L}+)/gu, '<$1>'), n: [...text].length, "
    "l: /(?<=a)b/.test('ab'), g: 'aXbX'.replaceAll('X', '-')} }",
    "sorting": "function main({list}) { return {s: list.toSorted?.(), r: list.reverse(), m: Math.max(...list)} }",
    "separators in text": "function main() { return {a: '<!-- \\u2028 -->'} }",
    "deep": "function main() { let a = {}; let b = a; for (let i = 0; i < 500; i++) { b.a = {}; b = b.a } return a }",
    "a proxy": "function main() { return new Proxy({a: 1}, {get: (t, k) => k === 'a' ? 7 : t[k]}) }",
    "a getter that throws": "function main() { return {get a() { throw new RangeError('no') }} }",
    "no main": "function run() {}",
    "a syntax error": "function main({",
    "an import": "import fs from 'fs'; function main() {}",
    "await at the top": "await 1; function main() {}",
    "a return at the top": "return 1",
    "a number": "function main() { return 5 }",
    "a list": "function main() { return [1] }",
    "text": "function main() { return 'x' }",
    "nothing": "function main() { return null }",
}

# Where the answers differ on purpose: there a promise is never awaited, names of the wrapper clash, and `undefined` is
# an unreadable answer.
DIFFERENT: dict[str, tuple[str, Any]] = {
    "async": ("async function main() { return {a: 1} }", {"a": 1}),
    "a timer": ("async function main() { await new Promise((r) => setTimeout(r, 5)); return {a: 1} }", {"a": 1}),
    "a dynamic import": ("async function main() { return {t: typeof (await import('url')).URL} }", {"t": "function"}),
    "a thenable": ("function main() { return {then: (done) => done({a: 1})} }", {"a": 1}),
    "files by callback": (
        "const fsp = require('fs').promises; async function main() { "
        "try { await fsp.readFile('/etc/passwd') } catch (e) { return {e: e.code} } }",
        {"e": "EPERM"},
    ),
    "an open timer": ("function main() { setTimeout(() => {}, 60000); return {a: 1} }", {"a": 1}),
    "a name of the wrapper": (
        "const output_obj = 2, inputs_obj = 1; function main() { return {r: output_obj} }",
        {"r": 2},
    ),
    "fs again": ("var fs = require('fs'), lines = 2; function main() { return {lines} }", {"lines": 2}),
    "the mark in print": ("function main() { console.log('<<RESULT>>'); return {a: 1} }", {"a": 1}),
    "undefined": ("function main() {}", None),
    "await crypto": (
        "async function main() { const d = await crypto.subtle.digest('SHA-1', new TextEncoder().encode('x')); "
        "return {h: Buffer.from(d).toString('hex')} }",
        {"h": "11f6ad8ec52a2984abaafd7c3b516503785c2072"},
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=node_programs.WHERE)
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, NodePool]]:
    program = node_programs.program(request.param)
    pool = NodePool(find=lambda: program)
    yield program.path, pool
    await pool.aclose()


async def outside(node: str, prescript: Path, code: str) -> tuple[str, Any]:
    text = CALL % (code, base64.b64encode(json.dumps(INPUTS).encode()).decode())
    process = await asyncio.create_subprocess_exec(
        node,
        str(prescript),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"TZ": "UTC", "LANG": "C.UTF-8"},
    )
    printed, errors = await process.communicate(base64.b64encode(text.encode()))
    match = re.search("<<RESULT>>(.*)<<RESULT>>", printed.decode(), re.DOTALL)
    return ("R", json.loads(match[1])) if match else ("E", _error(errors.decode()))


async def confined(pool: NodePool, code: str) -> tuple[str, Any]:
    try:
        return "R", json.loads(await pool.run(code, INPUTS, 20))
    except WorkerFailed as error:
        return "E", _error(str(error))


def _error(text: str) -> str:
    """The line that names the error; how Node.js words a syntax error depends on what follows the program."""
    line = next((line for line in text.splitlines() if re.match(r"(?:Uncaught )?\w*Error\b|boo", line)), text)
    line = line.removeprefix("Uncaught ")
    return "SyntaxError" if line.startswith("SyntaxError") else line


@pytest.mark.parametrize("name", SAME)
async def test_it_means_the_same(pool: tuple[str, NodePool], tmp_path: Path, name: str) -> None:
    prescript = tmp_path / "prescript.js"
    prescript.write_text(OUTSIDE)
    assert await confined(pool[1], SAME[name]) == await outside(pool[0], prescript, SAME[name])


@pytest.mark.parametrize("name", DIFFERENT)
async def test_it_differs_on_purpose(pool: tuple[str, NodePool], name: str) -> None:
    code, answer = DIFFERENT[name]
    assert await confined(pool[1], code) == ("R", answer)
