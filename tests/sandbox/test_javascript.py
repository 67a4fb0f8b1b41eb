"""JavaScript programs as people write them into code nodes."""

from typing import Any

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")

JS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "destructuring": (
        "function main({query}) {\n  console.log('noise');\n  return { r: query.split('').reverse().join('') }\n}\n",
        {"query": "hi"},
        {"r": "ih"},
    ),
    "an arrow": ("const main = ({a, b = 2}) => ({ r: a + b });", {"a": 1}, {"r": 3}),
    "async": ("async function main({a}) { const b = await Promise.resolve(a); return {r: b} }", {"a": [1]}, {"r": [1]}),
    "JSON": (
        "function main({t}) { return JSON.parse(t) }",
        {"t": '{"a": [1, 2.5, null, true]}'},
        {"a": [1, 2.5, None, True]},
    ),
    "text": (
        "function main({t}) { return {r: t.replace(/(\\p{L}+)/gu, '<$1>'), n: [...t].length} }",
        {"t": "é 中\U0001f600"},
        {"r": "<é> <中>\U0001f600", "n": 4},
    ),
    "newer": (
        "function main({a}) { return {r: a?.b ?? 'none', s: [3,1,2].toSorted(), g: {...a}} }",
        {"a": None},
        {"r": "none", "s": [1, 2, 3], "g": {}},
    ),
    "dates": (
        "function main({t}) { return {r: new Date(t).toISOString()} }",
        {"t": 0},
        {"r": "1970-01-01T00:00:00.000Z"},
    ),
    "what JSON lacks": (
        "function main() { return {a: undefined, b: NaN, c: () => 1, d: '\\ud800'} }",
        {},
        {"b": None, "d": "\ufffd"},
    ),
}


@pytest.fixture(params=["sandbox", "quickjs"])
def engine(request: pytest.FixtureRequest) -> LocalSandbox:
    """With Node.js where there is one, and without."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", JS)
async def test_javascript(engine: LocalSandbox, name: str) -> None:
    code, inputs, answer = JS[name]
    assert await engine.run("javascript", code, inputs, 60) == answer


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("function main({q}) {\n  throw new TypeError('boom ' + q)\n}", r"(?s)TypeError: boom hi.*main\.js:2"),
        ("function main(", "SyntaxError"),
        ("let x = 1", "main is not defined"),
        ("function main() { return 5 }", "returned a number"),
        ("async function main() { throw new RangeError('late') }", "RangeError: late"),
        ("async function main() { throw 'text' }", "text"),
    ],
)
async def test_what_is_wrong_with_javascript_is_said(engine: LocalSandbox, code: str, error: str) -> None:
    with pytest.raises(NodeError, match=error):
        await engine.run("javascript", code, {"q": "hi"}, 60)


async def test_other_languages_are_refused(sandbox: LocalSandbox) -> None:
    with pytest.raises(NodeError, match="'ruby'"):
        await sandbox.run("ruby", "", {}, 60)
