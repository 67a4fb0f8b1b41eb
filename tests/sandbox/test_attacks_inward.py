"""Python that uses up time or memory, forges its answer, or leaves something for the next; the call after it works."""

from pathlib import Path

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError
from tests.processes import until_gone
from tests.sandbox.attacks import SECRET, main_of, refused, works

pytestmark = pytest.mark.asyncio(loop_scope="module")


EXHAUSTION = {
    "string": "return {'got': len('x' * 10**11)}",
    "list": "a = []\nwhile True:\n    a.append('x' * 10**6)",
    "mmap": "import mmap\na = []\nwhile True:\n    a.append(mmap.mmap(-1, 10**7))",
    "int": "return {'got': str(10 ** 10 ** 8)[0]}",
    "recursion": "def f(n):\n    return f(n + 1)\nreturn {'got': f(0)}",
    "recursion without a limit": (
        "import sys\nsys.setrecursionlimit(10**9)\nf = lambda: f()\nclass A:\n    def __repr__(self):\n"
        "        return repr(self)\nreturn {'got': repr(A())}"
    ),
    "a crash": "import ctypes\nctypes.string_at(0)\nreturn {'got': 1}",
    "an end": "import os\nos._exit(0)",
    "exit": "import sys\nsys.exit()",
    "descriptors": "import os\nwhile True:\n    os.pipe()",
    "threads": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    ),
    "a huge answer": "return {'got': 'x' * 30_000_000}",
    "a deep answer": "a = []\nfor _ in range(100_000):\n    a = [a]\nreturn {'got': a}",
    "a cyclic answer": "a = []\na.append(a)\nreturn {'got': a}",
    "a huge error": "raise ValueError('x' * 10**7)",
    "an error that cannot be told": ("class E(Exception):\n    def __str__(self):\n        raise E\nraise E"),
}


@pytest.mark.parametrize("attack", EXHAUSTION)
async def test_nothing_is_used_up(confined: LocalSandbox, attack: str) -> None:
    error = await refused(confined, main_of(EXHAUSTION[attack]), {"path": "", "port": 0})
    assert len(error) < 25_000
    await works(confined)


ENDLESS = {
    "loop": "while True:\n    pass",
    "that catches everything": "while True:\n  try:\n    while True: pass\n  except BaseException: pass",
    "that hears no signal": (
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except Exception:\n        pass\nwhile True:\n    pass"
    ),
    "in C": "import re\nreturn {'got': bool(re.match(r'(a+)+$', 'a' * 64 + 'b'))}",
    "asleep": "import time\ntime.sleep(3600)",
    "an error that takes for ever": (
        "class E(Exception):\n    def __str__(self):\n        while True:\n            pass\nraise E"
    ),
}


@pytest.mark.parametrize("attack", ENDLESS)
async def test_what_does_not_end_is_ended(confined: LocalSandbox, attack: str) -> None:
    with pytest.raises(NodeError, match=r"ran longer than 0\.3 seconds"):
        await confined.run("python3", main_of(ENDLESS[attack]), {"path": "", "port": 0}, 0.3)
    await works(confined)


async def test_a_thread_left_behind_ends_with_the_call(confined: LocalSandbox) -> None:
    code = (
        "import threading, time, os\n"
        "def main():\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    return {'pid': os.getpid()}\n"
    )
    pid = (await confined.run("python3", code, {}, 60))["pid"]
    await until_gone({pid})


async def test_the_environment_is_empty(confined: LocalSandbox, secrets: Path) -> None:
    code = "import os\ndef main():\n    return {'names': sorted(os.environ)}"
    assert await confined.run("python3", code, {}, 60) == {"names": ["LC_ALL", "MALLOC_ARENA_MAX", "TZ"]}
    scan = (
        "import gc\n"
        "def main(word):\n"
        "    return {'found': sum(word[::-1] in repr(o) for o in gc.get_objects() if isinstance(o, (dict, list, str)))}"
    )
    assert await confined.run("python3", scan, {"word": SECRET[::-1]}, 60) == {"found": 0}


async def test_nothing_is_left_for_the_next(confined: LocalSandbox) -> None:
    spoil = (
        "import builtins, json, sys, random\n"
        "def main(word):\n"
        "    builtins.kept = json.kept = sys.kept = word\n"
        "    json.dumps = lambda *a, **k: 'spoilt'\n"
        "    builtins.len = lambda x: 42\n"
        "    sys.modules['__main__'].kept = word\n"
        "    return {'r': 1}\n"
    )
    with pytest.raises(NodeError):
        await confined.run("python3", spoil, {"word": SECRET}, 60)
    look = (
        "import builtins, json, sys\n"
        "def main():\n"
        "    return {'kept': [hasattr(m, 'kept') for m in (builtins, json, sys, sys.modules['__main__'])],\n"
        "            'len': len('abc')}\n"
    )
    assert await confined.run("python3", look, {}, 60) == {"kept": [False] * 4, "len": 3}


async def test_chance_is_new_in_every_call(confined: LocalSandbox) -> None:
    code = "import random, uuid\ndef main():\n    return {'r': [random.random(), str(uuid.uuid4())]}"
    first, second = [(await confined.run("python3", code, {}, 60))["r"] for _ in range(2)]
    assert first[0] != second[0]
    assert first[1] != second[1]


FORGED = {
    "no frame": "b'hello'",
    "not JSON": "b'R' + struct.pack('>I', 5) + b'{oops'",
    "not UTF-8": "b'R' + struct.pack('>I', 2) + b'\\xff\\xfe'",
    "too large": "b'R' + struct.pack('>I', 2**32 - 1)",
    "cut off": "b'R' + struct.pack('>I', 100) + b'{}'",
    "an unknown sign": "b'?' + struct.pack('>I', 2) + b'{}'",
    "a list": "b'R' + struct.pack('>I', 2) + b'[]'",
    "deep": "b'R' + struct.pack('>I', 200000) + b'[' * 200000",
    "an error": "b'E' + struct.pack('>I', 5) + b'bogus'",
}


@pytest.mark.parametrize("attack", FORGED)
async def test_a_forged_answer_is_no_worse_than_a_wrong_one(confined: LocalSandbox, attack: str) -> None:
    code = (
        "import os, struct\n"
        "def main():\n"
        f"    forged = {FORGED[attack]}\n"
        "    for fd in range(3, 32):\n"
        "        try:\n"
        "            os.write(fd, forged)\n"
        "        except OSError:\n"
        "            pass\n"
        "    os._exit(0)\n"
    )
    await refused(confined, code, {})
    await works(confined)


async def test_printing_to_any_descriptor_changes_nothing(confined: LocalSandbox) -> None:
    code = (
        "import os, sys\n"
        "def main(q):\n"
        '    print(\'<<RESULT>>{"r": "forged"}<<RESULT>>\')\n'
        "    os.write(1, b'forged'); os.write(2, b'forged')\n"
        "    sys.stdout.write('x'); sys.stdout.flush()\n"
        "    return {'r': q}\n"
    )
    assert await confined.run("python3", code, {"q": "hi"}, 60) == {"r": "hi"}
