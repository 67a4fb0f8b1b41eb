"""Importing is running what others wrote: it happens under the lock."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError
from tests.processes import children
from tests.sandbox.attacks import works

pytestmark = pytest.mark.asyncio(loop_scope="module")


ACTING = [
    "venv.__main__",
    "ensurepip.__main__",
    "pip.__main__",
    "idlelib.__main__",
    "antigravity",
    "this",
    "test.__main__",
]


@pytest.mark.parametrize("module", ACTING)
async def test_a_module_in_a_docstring_is_not_imported(confined: LocalSandbox, module: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "def main(a):\n"
        f'    """Makes a thing.\n\n    import {module}\n    """\n'
        f"    return {{'r': {module!r} in sys.modules}}\n"
    )
    assert await confined.run("python3", code, {"a": 1}, 60) == {"r": False}


@pytest.mark.parametrize("module", ACTING)
async def test_a_module_that_acts_when_it_is_imported_can_do_nothing(
    confined: LocalSandbox, secrets: Path, module: str
) -> None:
    library = Path(__import__("os").__file__).parent
    before = {path: path.stat().st_mtime_ns for path in library.iterdir()}
    processes = children()
    target = str(secrets.parent / "made")
    code = f"import sys\nsys.argv = ['x', {target!r}]\nimport {module}\ndef main():\n    return {{'r': 1}}\n"
    with contextlib.suppress(NodeError):  # what it does instead of its work is its own affair
        await confined.run("python3", code, {}, 60)
    assert list(secrets.parent.iterdir()) == [secrets]
    assert {path: path.stat().st_mtime_ns for path in library.iterdir()} == before
    assert len(children() - processes) <= 5  # others of the pool
    await works(confined)


MODULES: dict[str, tuple[str, str, Any]] = {  # what is imported, and an expression; its value
    "one that nobody expects": ("import wave", "wave.__name__", "wave"),
    "one that is written in C": (
        "import sqlite3",
        "sqlite3.connect(':memory:').execute('select 1').fetchall()",
        [[1]],
    ),
    "inside a function": ("def f():\n    import plistlib\n    return plistlib.__name__", "f()", "plistlib"),
    "by its name": ("import importlib", "importlib.import_module('email.mime.text').__name__", "email.mime.text"),
    "a codec": ("", "'中'.encode('big5').hex() + '中'.encode('shift_jis').hex()", "a4a49286"),
    "a package's data": ("import zoneinfo", "len(zoneinfo.available_timezones()) > 300", True),
    "the walk over a package": (
        "import pkgutil, json",
        "sorted(m.name for m in pkgutil.iter_modules(json.__path__))",
        ["decoder", "encoder", "scanner", "tool"],
    ),
    "one that is missing, caught": (
        "try:\n    import nothing_here\nexcept ImportError as e:\n    missing = e.name",
        "missing",
        "nothing_here",
    ),
    "a source line": ("import inspect, json", "inspect.getsource(json.dumps)[:9]", "def dumps"),
    "the name of a folder for what is temporary": ("import tempfile", "tempfile.gettempdir()", "/tmp"),
    "a name in unicode": ("import unicodedata", "unicodedata.name('é')[:12] + '\\N{BULLET}'", "LATIN SMALL •"),
}


@pytest.mark.parametrize("name", MODULES)
async def test_the_standard_library_is_there(confined: LocalSandbox, name: str) -> None:
    imports, expression, value = MODULES[name]
    code = f"{imports}\ndef main():\n    return {{'r': {expression}}}\n"
    assert await confined.run("python3", code, {}, 10) == {"r": value}


async def test_nothing_beside_the_standard_library_is_there(confined: LocalSandbox) -> None:
    code = (
        "import os, sys\n"
        "def main():\n"
        "    import importlib.util\n"
        "    folder = os.path.dirname(os.__file__) + '/site-packages'\n"
        "    def listed(path):\n"
        "        try:\n"
        "            return os.listdir(path)\n"
        "        except OSError:\n"
        "            return []\n"
        "    names = ['aiohttp', 'headrace.settings', 'pydantic', 'pip']\n"
        "    def found(name):\n"
        "        try:\n"
        "            return importlib.util.find_spec(name) is not None\n"
        "        except ImportError:\n"
        "            return False\n"
        "    return {'found': [name for name in names if found(name)], 'listed': listed(folder),\n"
        "            'path': [p for p in sys.path if 'site-packages' in p]}\n"
    )
    assert await confined.run("python3", code, {}, 60) == {"found": [], "listed": [], "path": []}


async def test_threads_are_counted(confined: LocalSandbox) -> None:
    code = (
        "import threading\n"
        "def main():\n"
        "    threading.stack_size(32768)\n"
        "    end = threading.Event()\n"
        "    count = 0\n"
        "    try:\n"
        "        while count < 5000:\n"
        "            threading.Thread(target=end.wait, daemon=True).start()\n"
        "            count += 1\n"
        "    except RuntimeError as error:\n"
        "        return {'count': count, 'error': str(error)}\n"
        "    finally:\n"
        "        end.set()\n"
    )
    assert await confined.run("python3", code, {}, 60) == {"count": 15, "error": "can't start new thread"}
    await works(confined)


async def test_threads_that_have_ended_do_not_count(confined: LocalSandbox) -> None:
    code = (
        "import threading\n"
        "def main():\n"
        "    for n in range(100):\n"
        "        thread = threading.Thread(target=int)\n"
        "        thread.start()\n"
        "        thread.join()\n"
        "    return {'n': n}\n"
    )
    assert await confined.run("python3", code, {}, 10) == {"n": 99}
