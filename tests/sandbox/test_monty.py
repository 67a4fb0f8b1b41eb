"""Which programs are for Monty, and that it answers as CPython does."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.adapters.sandbox import LocalSandbox, scan
from tests.sandbox.test_python import PROGRAMS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_simple_programs_run_in_monty() -> None:
    quick = {name for name, (code, _, _) in PROGRAMS.items() if scan.fits(code)}
    assert {"concatenate", "parse a model's JSON", "comprehensions", "markdown table", "chunks"} <= quick
    assert not {"with a way out", "regular expressions", "dates", "a class", "collections"} & quick


@pytest.mark.parametrize(
    "body",
    [
        "set(x)",
        "{1, 2}",
        "{a for a in x}",
        "round(2.675, 2)",
        "x.__class__",
        "open('f')",
        "eval('1')",
        "getattr(x, 'y')",
        "__import__('os')",
        "x.title()",
        "x.format(1)",
        "b'x'",
        "1j",
        "...",
        "print.__self__",
        "{1: x}",
        "{**x, True: 1}",
        "globals()",
        "input()",
    ],
)
async def test_what_monty_may_do_otherwise_is_not_for_monty(body: str) -> None:
    assert scan.fits("def main(x):\n    return {'r': [x]}")
    assert not scan.fits(f"def main(x):\n    return {{'r': {body}}}")


@pytest.mark.parametrize(
    "code",
    [
        "import re\ndef main(): return {}",
        "import os\ndef main(): return {}",
        "from json import *\ndef main(): return {}",
        "class A: pass",
        "def main():\n try:\n  return {}\n except ValueError: pass",
        "def f(): yield 1",
        "async def main(): return {}",
        "@f\ndef main(): return {}",
        "def main(:",
        "x = '\\udc80" + "'" * 2,
        "a" * 50_000,
        "(" * 5_000,
        "def main(x):\n match x:\n  case _: return {}",
        "with x: pass",
        "del x",
        "def main():\n global x",
        "def __x(): pass",
        "print(__file__)",
        "from . import json",
        "import json.tool",
        "\0",
    ],
)
async def test_programs_beyond_monty(code: str) -> None:
    assert not scan.fits(code)


# Characters that this Python knows: Monty's Unicode is younger, and a repr shows what it takes for printable.
_characters = st.characters(exclude_categories=("Cs", "Cn"))
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(_characters, max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(_characters, max_size=4), inner, max_size=4),
    max_leaves=8,
)

DIFFERENTIAL = """
import json
import math
def flat(v, depth=0):
    if isinstance(v, dict):
        return [[k, flat(v[k], depth + 1)] for k in sorted(v.keys())]
    if isinstance(v, list):
        return [flat(i, depth + 1) for i in v]
    if isinstance(v, bool) or v is None:
        return f"{v}"
    if isinstance(v, str):
        parts = v.split()
        return [v.upper(), v.lower(), v.strip(), v.replace('a', 'bb'), v[::-1], v[1:3], v.find('a'), v * 2, parts,
                '-'.join(parts), v.splitlines(), v.partition(' '), v.zfill(4), v.startswith('a'), v.count('a'),
                v.center(6, '*'), f"{v:>5}|{v:<4}", len(v), str([v]), v < 'm', 'a' in v]
    out = [v + 1, v * 2, v - 0.5, abs(v), str(v), f"{v}", v > 3, v == int(v) if abs(v) < 1e15 else v, -v, bool(v)]
    if isinstance(v, int):
        out += [v // 7, v % 7, v / 7, f"{v:,}", f"{v:08d}", v ** 2, math.gcd(v, 12), float(v), min(v, 4), max(0, v)]
    elif abs(v) < 1e15:
        out += [math.floor(v), math.ceil(v), int(v), f"{v:.3f}", f"{v:.2e}", round(v), v // 3.0]
    return out
def ord_of(c, table={'1': 1, '2': 2}):
    return table.get(c, 0)
def main(v):
    dumped = json.dumps(v, ensure_ascii=False)
    found = {f"k{i}": c for i, c in enumerate(dumped) if c in '0123456789'}
    total = sum(ord_of(c) for c in dumped if c != ' ')
    some = any(c == '[' for c in dumped) and all(len(c) == 1 for c in dumped)
    first, *rest = [*dumped[:3], 'x']
    return {'r': flat(v), 'd': dumped, 'f': found, 't': total, 'o': some, 'p': [first, rest],
            'k': sorted(found.items(), key=lambda kv: (kv[1], kv[0]), reverse=True),
            'z': list(zip(dumped, range(3))), 'a': json.dumps(v), 'i': json.dumps(v, indent=2), 's': str(v),
            'same': json.loads(dumped) == v}
"""


async def test_monty_and_cpython_agree(sandbox: LocalSandbox) -> None:
    """Monty itself, without the fallback, against this process's own Python."""
    assert scan.fits(DIFFERENTIAL)
    scope: dict[str, Any] = {}
    exec(compile(DIFFERENTIAL, "main.py", "exec"), scope)
    values: list[Any] = []

    @settings(max_examples=150, database=None)
    @given(_values)
    def collect(value: Any) -> None:
        values.append(value)

    collect()
    monty = sandbox._monty
    assert monty is not None
    answered = 0
    for value in values:
        told = await monty.run(DIFFERENTIAL, {"v": value}, 2)
        if told is not None:  # else CPython would be asked
            answered += 1
            assert json.loads(told) == json.loads(json.dumps(scope["main"](value))), value
    assert answered > len(values) * 0.9
