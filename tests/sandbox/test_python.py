"""Programs as people write them into code nodes, and that every engine gives the same answer."""

from typing import Any

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError

pytestmark = pytest.mark.asyncio(loop_scope="module")

# name: (code, inputs, answer)
PROGRAMS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "concatenate": (
        "def main(arg1: str, arg2: str) -> dict:\n    return {\n        'result': arg1 + arg2,\n    }\n",
        {"arg1": "宜蘭", "arg2": "礁溪"},
        {"result": "宜蘭礁溪"},
    ),
    "parse a model's JSON": (
        "import json\n"
        "def main(text: str) -> dict:\n"
        "    start, end = text.find('{'), text.rfind('}')\n"
        "    data = json.loads(text[start:end + 1])\n"
        "    return {'title': data.get('title', ''), 'tags': data['tags'], 'n': len(data['tags'])}\n",
        {"text": 'Sure!\n```json\n{"title": "T", "tags": ["a", "b"]}\n```'},
        {"title": "T", "tags": ["a", "b"], "n": 2},
    ),
    "with a way out": (
        "import json\n"
        "def main(text):\n"
        "    try:\n"
        "        return {'ok': True, 'data': json.loads(text)}\n"
        "    except Exception as e:\n"
        "        return {'ok': False, 'data': {'error': str(e)}}\n",
        {"text": "{nope"},
        {
            "ok": False,
            "data": {"error": "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"},
        },
    ),
    "regular expressions": (
        "import re\n"
        "def main(text):\n"
        "    text = re.sub(r'<think>.*?</think>', '', text, flags=re.S).strip()\n"
        "    return {'text': text, 'links': re.findall(r'https?://[^\\s)]+', text)}\n",
        {"text": "<think>\nhm\n</think>\nSee (https://example.com/a?b=1) and http://x.y"},
        {
            "text": "See (https://example.com/a?b=1) and http://x.y",
            "links": ["https://example.com/a?b=1", "http://x.y"],
        },
    ),
    "dates": (
        "from datetime import datetime, timedelta\n"
        "def main(day):\n"
        "    d = datetime.strptime(day, '%Y-%m-%d') + timedelta(days=1)\n"
        "    return {'iso': d.isoformat(), 'said': d.strftime('%A, %d %B %Y')}\n",
        {"day": "2024-02-28"},
        {"iso": "2024-02-29T00:00:00", "said": "Thursday, 29 February 2024"},
    ),
    "time zones": (
        "from datetime import datetime\n"
        "from zoneinfo import ZoneInfo\n"
        "def main(t):\n"
        "    d = datetime.fromtimestamp(t, ZoneInfo('Asia/Taipei'))\n"
        "    return {'r': d.isoformat(), 'local': datetime.fromtimestamp(t).isoformat()}\n",
        {"t": 0},
        {"r": "1970-01-01T08:00:00+08:00", "local": "1970-01-01T00:00:00"},
    ),
    "comprehensions": (
        "def main(rows):\n"
        "    seen = {r['id']: r for r in rows if r.get('score', 0) >= 0.5}\n"
        "    top = sorted(seen.values(), key=lambda r: (-r['score'], r['id']))[:2]\n"
        "    return {'ids': [r['id'] for r in top], 'mean': sum(r['score'] for r in top) / max(len(top), 1)}\n",
        {"rows": [{"id": "a", "score": 0.5}, {"id": "b", "score": 0.75}, {"id": "c"}, {"id": "d", "score": 1.0}]},
        {"ids": ["d", "b"], "mean": 0.875},
    ),
    "a class": (
        "from dataclasses import dataclass, asdict\n"
        "@dataclass\n"
        "class Item:\n"
        "    name: str\n"
        "    price: float = 1.5\n"
        "    def total(self, n):\n"
        "        return round(self.price * n, 2)\n"
        "def main(name):\n"
        "    item = Item(name)\n"
        "    return {'item': asdict(item), 'total': item.total(3)}\n",
        {"name": "x"},
        {"item": {"name": "x", "price": 1.5}, "total": 4.5},
    ),
    "f-strings": (
        "def main(n, who):\n"
        "    return {'r': f'{who!r:>8}|{n:,.2f}|{n:08.3f}|{int(n):x}|{n / 7:.1%}|{\"yes\" if n else \"no\"}'}\n",
        {"n": 1234.5, "who": "me"},
        {"r": "    'me'|1,234.50|1234.500|4d2|17635.7%|yes"},
    ),
    "markdown table": (
        "def main(rows):\n"
        "    if not rows:\n"
        "        return {'md': ''}\n"
        "    keys = list(rows[0].keys())\n"
        "    lines = ['| ' + ' | '.join(keys) + ' |', '|' + '---|' * len(keys)]\n"
        "    for row in rows:\n"
        "        lines.append('| ' + ' | '.join(str(row.get(k, '')) for k in keys) + ' |')\n"
        "    return {'md': '\\n'.join(lines)}\n",
        {"rows": [{"a": 1, "b": None}, {"a": 2.5, "b": True}]},
        {"md": "| a | b |\n|---|---|\n| 1 | None |\n| 2.5 | True |"},
    ),
    "chunks": (
        "import math\n"
        "def main(text, size):\n"
        "    n = math.ceil(len(text) / size)\n"
        "    return {'chunks': [text[i * size:(i + 1) * size] for i in range(n)], 'n': n}\n",
        {"text": "abcdefgh", "size": 3},
        {"chunks": ["abc", "def", "gh"], "n": 3},
    ),
    "hashes and encodings": (
        "import base64, hashlib, urllib.parse, hmac\n"
        "def main(s):\n"
        "    return {'md5': hashlib.md5(s.encode()).hexdigest(), 'b64': base64.b64encode(s.encode()).decode(),\n"
        "            'url': urllib.parse.quote(s), 'gbk': list(s.encode('gbk')),\n"
        "            'mac': hmac.new(b'k', s.encode(), 'sha256').hexdigest()[:8]}\n",
        {"s": "中"},
        {
            "md5": "aed1dfbc31703955e64806b799b67645",
            "b64": "5Lit",
            "url": "%E4%B8%AD",
            "gbk": [214, 208],
            "mac": "c07ba107",
        },
    ),
    "collections": (
        "from collections import Counter, defaultdict\n"
        "def main(words):\n"
        "    groups = defaultdict(list)\n"
        "    for w in words:\n"
        "        groups[w[0]].append(w)\n"
        "    return {'top': Counter(words).most_common(1), 'groups': groups, 'unique': sorted(set(words))}\n",
        {"words": ["ab", "b", "ab", "ac"]},
        {"top": [["ab", 2]], "groups": {"a": ["ab", "ab", "ac"], "b": ["b"]}, "unique": ["ab", "ac", "b"]},
    ),
    "a module that nobody expects": (
        "import tomllib\ndef main(s):\n    return {'r': tomllib.loads(s)}\n",
        {"s": "a = [1, 2]"},
        {"r": {"a": [1, 2]}},
    ),
    "XML": (
        "import xml.etree.ElementTree as ET\ndef main(s):\n    return {'r': [e.text for e in ET.fromstring(s)]}\n",
        {"s": "<a><b>1</b><b>2</b></a>"},
        {"r": ["1", "2"]},
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def main(xs):\n"
        "    with ThreadPoolExecutor(3) as pool:\n"
        "        return {'r': list(pool.map(lambda x: x * x, xs))}\n",
        {"xs": [1, 2, 3]},
        {"r": [1, 4, 9]},
    ),
    "asyncio": (
        "import asyncio\n"
        "async def one(x):\n"
        "    await asyncio.sleep(0.001)\n"
        "    return x + 1\n"
        "async def both(xs):\n"
        "    return await asyncio.gather(*map(one, xs))\n"
        "def main(xs):\n"
        "    return {'r': asyncio.run(both(xs))}\n",
        {"xs": [1, 2]},
        {"r": [2, 3]},
    ),
    "generators": (
        "def windows(xs, n):\n"
        "    for i in range(len(xs) - n + 1):\n"
        "        yield xs[i:i + n]\n"
        "def main(xs):\n"
        "    return {'r': list(windows(xs, 2))}\n",
        {"xs": [1, 2, 3]},
        {"r": [[1, 2], [2, 3]]},
    ),
    "keys that are no text": (
        "def main():\n    return {1: 'a', None: 'b', True: 'c', 2.5: (1, 2)}\n",
        {},
        {"1": "c", "null": "b", "2.5": [1, 2]},
    ),
    "as a script": (
        "def main(x):\n    return {'r': x}\n\nif __name__ == '__main__':\n    print(main(1))\n",
        {"x": None},
        {"r": None},
    ),
    "names that Dify imports for it": (
        "def main(s, t):\n    return {'r': json.loads(s), 'd': b64decode(t).decode()}\n",
        {"s": "[1]", "t": "aGk="},
        {"r": [1], "d": "hi"},
    ),
    "large and odd numbers": (
        "def main(n, f):\n    return {'n': n * 10, 'f': f, 'i': float('inf') > n, 's': str(f),\n"
        "            'd': 7 // -2, 'm': -7 % 3}\n",
        {"n": 2**70, "f": 1e22},
        {"n": 2**70 * 10, "f": 1e22, "i": True, "s": "1e+22", "d": -4, "m": 2},
    ),
    "text of every kind": (
        "def main(s):\n    return {'n': len(s), 'r': s[::-1], 'u': s.upper(), 'l': s.split()}\n",
        {"s": "ß é\u2028\U0001f600 \x00z"},
        {
            "n": 8,
            "r": "z\x00 \U0001f600\u2028é ß",
            "u": "SS É\u2028\U0001f600 \x00Z",
            "l": ["ß", "é", "\U0001f600", "\x00z"],
        },
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_real_programs_answer_right(sandbox: LocalSandbox, confined: LocalSandbox, name: str) -> None:
    code, inputs, answer = PROGRAMS[name]
    assert await sandbox.run("python3", code, inputs, 60) == answer
    assert await confined.run("python3", code, inputs, 60) == answer


async def test_an_error_tells_type_message_and_line(sandbox: LocalSandbox) -> None:
    code = "def main(q):\n    if q != 'ok':\n        raise ValueError('boom: ' + q)\n    return {'r': q.upper()}\n"
    with pytest.raises(NodeError) as failed:
        await sandbox.run("python3", code, {"q": "hi"}, 60)
    assert failed.value.kind == "CodeExecutionError"
    assert str(failed.value) == (
        "Traceback (most recent call last):\n"
        '  File "main.py", line 3, in main\n'
        "    raise ValueError('boom: ' + q)\n"
        "ValueError: boom: hi\n"
    )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def main(:\n", "SyntaxError"),
        ("x = 1", "NameError: name 'main' is not defined"),
        ("", "NameError: name 'main' is not defined"),
        ("def main(other): return {}", r"main\(\) got an unexpected keyword argument 'q'"),
        ("def main(q, other): return {}", "missing 1 required positional argument: 'other'"),
        ("def main(q): return {'r': {1}}", "Object of type set is not JSON serializable"),
        ("def main(q): return {'r': b'x'}", "Object of type bytes is not JSON serializable"),
        ("import requests\ndef main(q): return {}", "No module named 'requests'"),
        ("import nothing.here\ndef main(q): return {}", "No module named 'nothing'"),
        ("def main(q):\n\treturn {}\n  x", "IndentationError"),
    ],
)
async def test_what_is_wrong_with_a_program_is_said(sandbox: LocalSandbox, code: str, error: str) -> None:
    with pytest.raises(NodeError, match=error) as failed:
        await sandbox.run("python3", code, {"q": "hi"}, 60)
    assert failed.value.kind == "CodeExecutionError"


@pytest.mark.parametrize(
    ("returned", "error"),
    [("'x'", "main must return an object .* returned a string"), ("[1]", "returned a list"), ("None", "nothing")],
)
async def test_a_result_that_is_not_an_object_has_difys_type_of_error(
    sandbox: LocalSandbox, returned: str, error: str
) -> None:
    with pytest.raises(NodeError, match=error) as failed:
        await sandbox.run("python3", f"def main(q): return {returned}", {"q": "hi"}, 60)
    assert failed.value.kind == "WorkflowNodeError"


async def test_a_package_that_is_not_here_is_reported_with_what_to_set(sandbox: LocalSandbox) -> None:
    with pytest.raises(NodeError) as failed:
        await sandbox.run("python3", "def main():\n    import nothing_here\n    return {}\n", {}, 60)
    assert str(failed.value).endswith(
        "ModuleNotFoundError: No module named 'nothing_here'\n"
        "List it in HEADRACE_CODE_PACKAGES, or set HEADRACE_SANDBOX_URL to a sandbox service that has it installed."
    )


@pytest.mark.parametrize(
    ("code", "lacking"),
    [
        ("import json, os.path\nfrom collections.abc import Mapping\nimport jinja2\ndef main(): return {}", []),
        ("import orjson, yaml\nimport requests", ["'orjson'", "'yaml'", "'requests'"]),  # here for Headrace alone
        ("import nothing.at.all as n, json\ndef main():\n    from nowhere import x\n", ["'nothing'", "'nowhere'"]),
        ("try:\n    import nothing\nexcept ImportError:\n    import nowhere\nelse:\n    import neither", ["'neither'"]),
        ("from . import x\nfrom .nothing import y", []),
        ("text = 'import nothing'\n# import nothing", []),
        ("import nothing\ndef main(:", []),
        ("import nothing\nimport nothing", ["'nothing'"]),
        ("(" * 10_000, []),
        ("import 数据", ["'数据'"]),
        ("", []),
    ],
)
async def test_what_a_program_needs_is_known_without_running_it(code: str, lacking: list[str]) -> None:
    message = LocalSandbox().missing("python3", code)
    expected = f"the code imports {' and '.join(lacking)}, which the built-in sandbox does not have. "
    hint = "List it in HEADRACE_CODE_PACKAGES, or set HEADRACE_SANDBOX_URL to a sandbox service that has it installed."
    assert message == (f"{expected}{hint}" if lacking else None)
    assert LocalSandbox().missing("javascript", code) is None


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("def main():\n    return {'r': '\\ud83d', '\\ud83d': 1}", {"r": "\ufffd", "\ufffd": 1}),
        ("def main():\n    import json\n    return {'r': json.loads('\"\\\\ud83c\"') + '\\udf89'}", {"r": "🎉"}),
        ("def main():\n    return {'r': chr(0xD83C) + 'x' + chr(0xDF89)}", {"r": "\ufffdx\ufffd"}),
    ],
)
async def test_halves_of_characters_are_mended(sandbox: LocalSandbox, code: str, result: dict[str, Any]) -> None:
    assert await sandbox.run("python3", code, {}, 60) == result
