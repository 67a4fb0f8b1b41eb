# ruff: noqa: E501 (programs on one line each)
"""JavaScript where there is no Node.js: what differs raises, and `lint` names it; what does not differ runs."""

from typing import Any

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")


NODES_OWN = {
    "Buffer": "Buffer.from('x').toString('base64')",
    "URL": "new URL('http://a/b').host",
    "URLSearchParams": "String(new URLSearchParams('a=1'))",
    "TextEncoder": "new TextEncoder().encode('x')",
    "structuredClone": "structuredClone({})",
    "setTimeout": "setTimeout(() => 0, 1)",
    "crypto": "crypto.randomUUID()",
    "process": "process.version",
    "global": "global.x",
    "require": "require('crypto')",
    "fetch": "fetch('http://a')",
    "fs": "fs.readFileSync('x')",
    "performance": "performance.now()",
    "WebAssembly": "WebAssembly.validate(0)",
    "Intl": "Intl.NumberFormat('de').format(1)",
}
OF_A_LOCALE = {
    "toLocaleString": "(1234.5).toLocaleString()",
    "toLocaleString ": "(5).toLocaleString('en-US', {style: 'currency', currency: 'USD'})",
    "toLocaleString  ": "new Date(0).toLocaleString('zh-CN', {timeZone: 'Asia/Shanghai'})",
    "toLocaleString   ": "[1234.5].toLocaleString()",
    "toLocaleString    ": "10n.toLocaleString()",
    "toLocaleString     ": "new Float64Array([1234.5]).toLocaleString()",
    "toLocaleDateString": "new Date(0).toLocaleDateString()",
    "toLocaleTimeString": "new Date(0).toLocaleTimeString()",
    "localeCompare": "['10', '9'].sort((a, b) => a.localeCompare(b, undefined, {numeric: true}))",
    "toLocaleUpperCase": "'i'.toLocaleUpperCase('tr')",
    "toLocaleLowerCase": "'I'.toLocaleLowerCase('tr')",
}


@pytest.mark.parametrize("name", [*NODES_OWN, *OF_A_LOCALE])
async def test_what_differs_raises(quickjs: LocalSandbox, name: str) -> None:
    code = f"function main() {{ return {{r: {(NODES_OWN | OF_A_LOCALE)[name]}}} }}"
    with pytest.raises(NodeError) as failed:
        await quickjs.run("javascript", code, {}, 20)
    assert f"{name.strip()} " in str(failed.value)
    assert "needs Node.js" in str(failed.value)
    assert (
        'there is no Node.js on the PATH. Install Node.js 20 or later, or the extra: pip install "headrace[node]"'
        in str(failed.value)
    )
    message = quickjs.missing("javascript", code)
    assert message is not None
    assert name.strip() in message
    assert "needs Node.js: there is no Node.js on the PATH" in message


SAME: dict[str, tuple[str, Any]] = {
    "a feature that is looked for": (
        "function main() { let b = 0; try { b = typeof Buffer } catch (e) { b = e.message } return {b} }",
        {"b": "Buffer needs Node.js"},
    ),
    "a name of one's own": (
        "const URL = 1; const global = {x: 2}; function main() { return {r: URL + global.x} }",
        {"r": 3},
    ),
    "an implicit global": ("function main() { process = 4; return {r: process} }", {"r": 4}),
    "a date as text": (
        "function main() { const d = new Date(0); return {s: String(d), t: d.toTimeString(), c: `${d}`, n: Date().endsWith(')'), "
        "i: d instanceof Date, k: d.constructor === Date, u: Date.UTC(1970, 0), x: String(new Date(NaN))} }",
        {
            "s": "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
            "t": "00:00:00 GMT+0000 (Coordinated Universal Time)",
            "c": "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
            "n": True,
            "i": True,
            "k": True,
            "u": 0,
            "x": "Invalid Date",
        },
    ),
    "cases without a locale": (
        "function main() { return {r: 'iß'.toLocaleUpperCase() + 'I'.toLocaleLowerCase(undefined)} }",
        {"r": "ISSi"},
    ),
    "base64 and tasks": (
        "async function main() { await null; return {r: atob(btoa('hi')), q: typeof queueMicrotask} }",
        {"r": "hi", "q": "function"},
    ),
    "a subclass": (
        "class D extends Date { x() { return this.getTime() } } function main() { return {r: new D(5).x()} }",
        {"r": 5},
    ),
}


@pytest.mark.parametrize("name", SAME)
async def test_what_does_not_differ_runs(quickjs: LocalSandbox, name: str) -> None:
    code, answer = SAME[name]
    assert await quickjs.run("javascript", code, {}, 20) == answer
