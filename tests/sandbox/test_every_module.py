"""Every module of every supported Python's standard library, imported in a confined process: nothing comes of it."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import children
from tests.sandbox.pythons import SUPPORTED, install, python

SCRIPT = Path(__file__).with_name("every_module.py")
# What lacks on this machine, is for another system, or ends a process when it is imported as a program.
UNIMPORTABLE = (
    "No module named '", "lib-dynload", "win32 only", "from 'codecs'", "SystemExit", "not importable", "curses", "ObjC",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("headrace")
    install(target)
    return target


@pytest.mark.parametrize("version", SUPPORTED)
async def test_no_module_does_anything_when_it_is_imported(folder: Path, version: str) -> None:
    program = python(version)
    if program is None:
        pytest.skip(f"NOT CHECKED: the standard library of Python {version}, which is not here")
    before = children()
    command = [program, "-I", "-B", str(SCRIPT), str(folder)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["modules"] > 600
    assert report["changed"] == []
    assert children() == before
    failed = {name: text for name, text in report["said"].items() if not any(why in text for why in UNIMPORTABLE)}
    assert failed == {}
    assert "os.mkdir" in report["tried"]["venv.__main__"]  # it was tried, and nothing came of it
