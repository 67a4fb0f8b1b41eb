"""Python's own answers, where another interpreter gave other ones without an error."""

from typing import Any

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")

# expression -> its value, as JSON has it
VALUES: dict[str, tuple[str, Any]] = {
    "a filter is true, whatever comes of it": ("bool(filter(lambda v: v > 5, [1, 2]))", True),
    "a filter of nothing, chosen by": ("'some' if filter(lambda v: v > 5, [1, 2]) else 'none'", "some"),
    "a map is no list": ("map(str, [1]) == ['1']", False),
    "a zip has no length": ("hasattr(zip([1], [2]), '__len__')", False),
    "an iterator is consumed": ("(lambda g: [list(g), list(g)])(map(str, [1, 2]))", [["1", "2"], []]),
    "two turns at one generator": ("(lambda g: list(zip(g, g)))(x for x in [1, 2, 3, 4])", [[1, 2], [3, 4]]),
    "two turns at one map": ("(lambda g: list(zip(g, g)))(map(int, '1234'))", [[1, 2], [3, 4]]),
    "next of an enumerate": ("(lambda e: [next(e), list(e)])(enumerate('ab'))", [[0, "a"], [[1, "b"]]]),
    "a reversed list, consumed": ("(lambda r: [2 in r, list(r)])(reversed([1, 2, 3]))", [True, [1]]),
    "any stops at the first": ("(lambda g: [any(g), list(g)])(x > 1 for x in [1, 2, 3])", [True, [True]]),
    "an unpacked iterator": ("(lambda g: [*g, *g])(iter([1, 2]))", [1, 2]),
    "what a lazy iterator is called": ("type(filter(None, [])).__name__", "filter"),
    "an iterator as text": ("str(map(str, [])).startswith('<map object at 0x')", True),
    "1 and True are one key": ("(lambda d: [d.update({1: 'a'}), d.update({True: 'b'}), d][2])({})", {"1": "b"}),
    "1.0 and 1 are one key": ("{1: 'a', 1.0: 'b'}[1]", "b"),
    "0 and False in a list": ("[[0, False, 1, True].index(False), [0, False, 1].count(False)]", [0, 2]),
    "NaN is itself in a list": ("(lambda n: [n in [n], [n] == [n], n == n, [n].index(n)])(float('nan'))",
                                [True, True, False, 0]),
    "two NaNs are two": ("[float('nan')] == [float('nan')]", False),
    "NaN is a key": ("(lambda n: {n: 1}[n])(float('nan'))", 1),
    "NaN twice in a dict": ("len({float('nan'): 1, float('nan'): 2})", 2),
    "NaN sorted": ("str(sorted([3, float('nan'), 1]))", "[3, nan, 1]"),
    "NaN, the largest of": ("str(max(float('nan'), 1)) + str(max(1, float('nan')))", "nan1"),
    "a large float": ("str(562949953421312.0)", "562949953421312.0"),
    "a larger float": ("str(1234567890123456.7)", "1234567890123456.8"),
    "the last without an exponent": ("[str(9999999999999998.0), str(1e16)]", ["9999999999999998.0", "1e+16"]),
    "a float in a message": ("f'{1e15 + 0.5}'", "1000000000000000.5"),
    "a small float": ("[str(0.0001), str(0.00001)]", ["0.0001", "1e-05"]),
    "minus nothing": ("str(-0.0)", "-0.0"),
    "a rounded half": ("[round(2.5), round(3.5), round(2.675, 2), round(-0.5)]", [2, 4, 2.67, 0]),
    "digits of another script": ("int('١٢')", 12),
    "a sorted set": ("sorted({'b', 'a'} | {'c'})", ["a", "b", "c"]),
    "names of the author's, and Dify's two": (
        "sorted(name for name in globals() if not name.startswith('__'))", ["b64decode", "json", "main"],
    ),
}  # fmt: skip

# expression -> the error's last line
ERRORS: dict[str, tuple[str, str]] = {
    "a format of None": ("f'{None:>5}'", "TypeError: unsupported format string passed to NoneType.__format__"),
    "a format of a list": ("f'{[1]:>5}'", "TypeError: unsupported format string passed to list.__format__"),
    "a format of a dict": ("'{:5}'.format({})", "TypeError: unsupported format string passed to dict.__format__"),
    "a format of a tuple": ("format((1,), '5')", "TypeError: unsupported format string passed to tuple.__format__"),
    "a format of a set": ("f'{set():d}'", "TypeError: unsupported format string passed to set.__format__"),
    "a float as a decimal": ("f'{1.5:d}'", "ValueError: Unknown format code 'd' for object of type 'float'"),
    "the length of a filter": ("len(filter(None, [1]))", "TypeError: object of type 'filter' has no len()"),
    "the first of a map": ("map(str, [1])[0]", "TypeError: 'map' object is not subscriptable"),
    "an index of a generator": ("(x for x in [1])[0]", "TypeError: 'generator' object is not subscriptable"),
    "a sum of a zip and a list": (
        "zip([1], [2]) + []", "TypeError: unsupported operand type(s) for +: 'zip' and 'list'"
    ),
    "a filter as a result": ("filter(None, [])", "TypeError: Object of type filter is not JSON serializable"),
    "our own names": ("headrace_inputs", "NameError: name 'headrace_inputs' is not defined"),
    "a name of the sandbox's": ("inside", "NameError: name 'inside' is not defined"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
async def test_values_are_pythons_own(sandbox: LocalSandbox, name: str) -> None:
    expression, value = VALUES[name]
    assert await sandbox.run("python3", f"def main():\n    return {{'r': {expression}}}\n", {}, 60) == {"r": value}


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_are_pythons_own(sandbox: LocalSandbox, name: str) -> None:
    expression, error = ERRORS[name]
    with pytest.raises(NodeError) as failed:
        await sandbox.run("python3", f"def main():\n    return {{'r': {expression}}}\n", {}, 60)
    assert str(failed.value).strip().splitlines()[-1] == error


async def test_a_generator_is_run_step_by_step(sandbox: LocalSandbox) -> None:
    code = (
        "def main():\n"
        "    seen = []\n"
        "    def numbers():\n"
        "        for n in range(3):\n"
        "            seen.append(f'made {n}')\n"
        "            yield n\n"
        "    for n in (n * 2 for n in numbers()):\n"
        "        seen.append(f'used {n}')\n"
        "    return {'seen': seen}\n"
    )
    assert await sandbox.run("python3", code, {}, 60) == {
        "seen": ["made 0", "used 0", "made 1", "used 2", "made 2", "used 4"]
    }
