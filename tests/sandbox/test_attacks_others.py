"""Hostile JavaScript where there is no Node.js (for Node.js see `test_node_attacks`), and hostile templates; the call
after them works."""

from pathlib import Path

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError
from tests.sandbox.attacks import SECRET, refused, works

pytestmark = pytest.mark.asyncio(loop_scope="module")


JAVASCRIPT = {
    "require": "const fs = require('fs'); return {got: fs.readFileSync(path)}",
    "import": "return import('fs').then((fs) => ({got: fs}))",
    "std": "return {got: std.loadFile(path)}",
    "os": "return {got: os.readdir('/')}",
    "process": "return {got: process.env}",
    "fetch": "return fetch('http://127.0.0.1:' + port)",
    "XMLHttpRequest": "return {got: new XMLHttpRequest()}",
    "constructor": "return {got: (() => 0).constructor.constructor('return process')().env}",
    "memory": "const a = []; while (true) a.push(new Array(100000).fill(1.5))",
    "strings": "let s = 'x'; while (true) s += s + Math.random()",
    "buffers": "const a = []; while (true) a.push(new Uint8Array(1e7))",
    "recursion": "const f = () => f() + 1; return {got: f()}",
    "deep": "let a = []; for (let i = 0; i < 1e6; i++) a = [a]; return {got: a}",
    "cyclic": "const a = {}; a.a = a; return a",
    "pattern": "return {got: /(a+)+$/.test('a'.repeat(64) + 'b')}",
    "a huge answer": "return {got: 'x'.repeat(3e7)}",
    "promises for ever": "const f = () => Promise.resolve().then(f); return f()",
    "a promise of nothing": "return new Promise(() => 0)",
    "nothing": "",
}


@pytest.mark.parametrize("attack", JAVASCRIPT)
async def test_javascript_has_no_more_power(
    quickjs: LocalSandbox, secrets: Path, visited: tuple[int, list[bytes]], attack: str
) -> None:
    code = f"function main({{path, port}}) {{ {JAVASCRIPT[attack]} }}"
    await refused(quickjs, code, {"path": str(secrets), "port": visited[0]}, "javascript")
    assert visited[1] == []
    await works(quickjs)


async def test_javascript_that_does_not_end_is_ended(quickjs: LocalSandbox) -> None:
    with pytest.raises(NodeError, match=r"ran longer than 0\.3 seconds"):
        await quickjs.run("javascript", "function main() { while (true); }", {}, 0.3)
    await works(quickjs)


@pytest.fixture(params=["confined", "quickjs"])
def engine(request: pytest.FixtureRequest) -> LocalSandbox:
    """With Node.js where there is one, and without."""
    return request.getfixturevalue(request.param)


async def test_javascript_leaves_nothing_behind(engine: LocalSandbox) -> None:
    spoil = "function main() { globalThis.kept = 1; JSON.parse = null; Array.prototype.kept = 1; return {r: 1} }"
    assert await engine.run("javascript", spoil, {}, 60) == {"r": 1}
    look = "function main() { return {kept: [typeof kept, typeof [].kept, typeof JSON.parse]} }"
    assert await engine.run("javascript", look, {}, 60) == {"kept": ["undefined", "undefined", "function"]}


TEMPLATES = {
    "subclasses": "{{ ().__class__.__base__.__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.environ }}",
    "attr": "{{ ''|attr('__class__')|attr('__mro__') }}{{ (''|attr('__class__')).x.y }}",
    "a variable's class": "{{ text.__class__.__mro__[1].__subclasses__() }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
    "format_map": "{{ '{a.__class__.__mro__}'.format_map({'a': 1}) }}",
    "namespace": "{{ namespace.__init__.__globals__['sys'].modules['os'].environ }}",
    "lipsum": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import '/etc/passwd' as x %}{{ x }}",
    "power": "{{ 10 ** 10 ** 8 }}",
    "times": "{{ 'x' * 10 ** 11 }}",
    "format width": "{{ '%1000000000d' % 1 }}",
    "center": "{{ 'x'|center(10 ** 11) }}",
    "huge range": "{% for i in range(10 ** 10) %}{{ i }}{% endfor %}",
    "doubling": "{% set ns = namespace(x='xxxx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "endless": "{% for a in range(99999) %}{% for b in range(99999) %}{% if a %}{% endif %}{% endfor %}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "long": "{% for a in range(99999) %}{{ text * 100 }}{% endfor %}",
}


@pytest.mark.parametrize("attack", TEMPLATES)
async def test_templates_are_contained(confined: LocalSandbox, secrets: Path, attack: str) -> None:
    try:
        text = await confined.render(TEMPLATES[attack], {"text": "x" * 100}, 0.5)
    except NodeError as error:
        kind, text = error.kind, str(error)
    else:
        kind = ""  # it may also come to nothing
    assert kind in ("", "CodeExecutionError")
    assert not any(word in text for word in (SECRET, "<class", "root:", "PATH=")), text[:300]
    assert len(text) < 25_000
    await works(confined)
