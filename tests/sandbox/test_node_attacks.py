"""A hundred hostile JavaScript programs, behind each set of walls and as each kind of user; see `node_attacks`."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import node_programs

ROOT = Path(__file__).parents[2]
NOBODY_ELSE = 65533
MORE = "HEADRACE_TEST_MORE" in os.environ  # a Node that root starts becomes nobody: the same walls as another user's
# without the listener nobody refuses to look at files: Landlock is not asked about that
LOOKING = {"size of a file", "existence of a file", "access", "realpath", "readlink"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that every user reaches, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o777)
        (path / "secret").write_text("hunter2-of-the-service")
        (path / "secret").chmod(0o666)
        yield path


@pytest.mark.parametrize(
    ("where", "leave_out", "user"),
    [
        ("path", "", 0),
        ("path", "landlock", NOBODY_ELSE),  # what holds without a wall holds with it, too
        ("path", "listener", NOBODY_ELSE),
        ("extra", "", NOBODY_ELSE),
        *([("path", "", NOBODY_ELSE), ("path", "landlock", 0), ("path", "listener", 0)] if MORE else []),
        *([("extra", "", 0)] if MORE else []),
    ],
)
async def test_nothing_gets_through(folder: Path, where: str, leave_out: str, user: int) -> None:
    node = node_programs.program(where).path
    if os.geteuid() != 0:
        if user == 0:
            pytest.skip("NOT TESTED as root: these tests are another user's")
        user = 0  # as who we are
    if user and (private := [str(folder) for folder in (ROOT, *ROOT.parents) if not folder.stat().st_mode & 1]):
        pytest.skip(f"NOT TESTED as another user, who cannot enter {private[-1]}")
    attack = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sandbox.node_attacks",
        node,
        str(folder),
        leave_out,
        str(user),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    answer, errors = await attack.communicate()
    assert not attack.returncode, errors.decode()
    body = json.loads(answer)
    assert body["uid"] == (user or os.geteuid())
    assert body["sound"] == ["R", '{"ok":1}']
    assert body["attacks"] > (60 if leave_out else 90)
    through = body["through"]
    if leave_out == "listener":
        for name in LOOKING:
            through.pop(name, None)
    assert through == {}
