"""The attacks again, where something lacks: a user who is not root, an interpreter that nobody else may read, a kernel
without Landlock, a filter that cannot ask. What is lost then is convenience."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.sandbox.library import Library
from tests.sandbox import test_attacks_outward as outward
from tests.sandbox.attacks import SECRET, main_of, untouched
from tests.sandbox.pythons import install

RUNNER = Path(__file__).with_name("attack_runner.py")
NOBODY = 65534


def of_the_system() -> str | None:
    """A Python that every user of the system can run."""
    program = shutil.which("python3.11", path="/usr/bin:/usr/local/bin") or shutil.which("python3.12", path="/usr/bin")
    return program if program and not Path(program).resolve().is_relative_to("/root") else None


# The program, whether it is run as nobody, and the walls that are left out.
WORLDS: dict[str, tuple[str | None, bool, tuple[str, ...]]] = {
    "this interpreter": (sys.executable, False, ()),
    "the system's": (of_the_system(), False, ()),
    "the system's, as nobody": (of_the_system(), True, ()),
    "without Landlock": (sys.executable, False, ("landlock",)),
    "without a listener": (sys.executable, False, ("listener",)),
    "without both": (sys.executable, False, ("landlock", "listener")),
    "as nobody, without both": (of_the_system(), True, ("landlock", "listener")),
}

SYSCALL = (
    "import ctypes\n"
    "def main(path, port):\n"
    "    if ctypes.CDLL(None).syscall({}, *[ctypes.c_long(0)] * 6) < 0:\n"
    "        raise OSError('refused')\n"
    "    return {{'got': 1}}\n"
)
THREADS = (
    "import threading\n"
    "def main():\n"
    "    end, count = threading.Event(), 0\n"
    "    threading.stack_size(32768)\n"
    "    try:\n"
    "        while count < 100:\n"
    "            threading.Thread(target=end.wait, daemon=True).start()\n"
    "            count += 1\n"
    "    except RuntimeError:\n"
    "        pass\n"
    "    finally:\n"
    "        end.set()\n"
    "    return {'r': count}\n"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Open to everybody, as pytest's own folders are not."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as name:
        os.chmod(name, 0o755)
        install(Path(name))
        shutil.copy(RUNNER, name)
        yield Path(name)


@pytest.fixture
def secret(folder: Path) -> Iterator[Path]:
    """A file that everyone may read, in a folder that everyone may write to."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        os.chmod(name, 0o777)
        path = Path(name) / "secret.txt"
        path.write_text(SECRET)
        path.chmod(0o666)
        yield path


async def run(world: str, folder: Path, programs: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, tuple[str, str]]:
    program, as_nobody, left_out = WORLDS[world]
    if program is None:
        pytest.skip("NOT CHECKED: there is no Python here that every user can run")
    if as_nobody and os.geteuid() != 0:
        pytest.skip("NOT CHECKED: another user's sandbox, as only root can become one")
    done = await asyncio.to_thread(
        subprocess.run,
        [program, "-I", "-B", str(folder / RUNNER.name), str(folder), *left_out],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        check=False,
        user=NOBODY if as_nobody else None,
        group=NOBODY if as_nobody else None,
        extra_groups=[] if as_nobody else None,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["user"] == (NOBODY if as_nobody else os.geteuid())
    return answer["found"]


@pytest.mark.parametrize("world", WORLDS)
async def test_attacks_are_contained(world: str, folder: Path, secret: Path, visited: tuple[int, list[bytes]]) -> None:
    port, came = visited
    attacks = {**outward.FILES, **outward.NETWORK, **outward.PROCESSES}
    programs: dict[str, tuple[str, dict[str, Any]]] = {}
    inputs = {"path": str(secret), "port": port}
    for name, body in attacks.items():
        programs[name] = (main_of(body), inputs)
    column = os.uname().machine == "aarch64"
    for name, numbers in outward.SYSCALLS.items():
        programs[f"call of {name}"] = (SYSCALL.format(numbers[column]), inputs)
    programs["at the end"] = ("def main(a):\n    return {'r': a + 1}", {"a": 1})
    answers = await run(world, folder, programs)
    through = {name: text for name, (sign, text) in answers.items() if sign == "answer"}
    assert through == {"at the end": '{"r": 2}'}
    assert not [name for name, (_, text) in answers.items() if SECRET in text]
    assert came == []
    assert untouched(secret)


@pytest.mark.parametrize("world", WORLDS)
async def test_programs_run(world: str, folder: Path) -> None:
    programs: dict[str, tuple[str, dict[str, Any]]] = {
        "loaded ahead": ("import json, re, datetime, zoneinfo, decimal\ndef main():\n    return {'r': 1}", {}),
        "loaded late": ("import wave, email.mime.text\ndef main():\n    return {'r': wave.__name__}", {}),
        "a time zone": ("import zoneinfo\ndef main():\n    return {'r': str(zoneinfo.ZoneInfo('Asia/Taipei'))}", {}),
        "a codec": ("def main():\n    return {'r': '中'.encode('gbk').hex()}", {}),
        "threads": (THREADS, {}),
    }
    answers = await run(world, folder, programs)
    left_out = WORLDS[world][2]
    assert answers["loaded ahead"] == ["answer", '{"r": 1}']
    assert answers["a time zone"] == ["answer", '{"r": "Asia/Taipei"}']
    assert answers["a codec"] == ["answer", '{"r": "d6d0"}']
    if "landlock" in left_out:
        assert answers["loaded late"][0] == "error"
        assert "wave.py" in answers["loaded late"][1]
    else:
        assert answers["loaded late"] == ["answer", '{"r": "wave"}']
    # uncounted, they are bounded by memory, and where the user is not root by a number
    assert json.loads(answers["threads"][1])["r"] == 15 or "listener" in left_out


def test_an_interpreter_below_root_is_not_everybodys() -> None:
    if not sys.base_prefix.startswith("/root/") or Path("/root").stat().st_mode & 1:
        pytest.skip("this interpreter is everybody's")
    assert not Library().open_to_others()
