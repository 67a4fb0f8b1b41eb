"""What a plugin's process may do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headrace.adapters.plugins.confine import environment, interpreter_folders
from headrace.adapters.sandbox.landlock import Ruleset
from headrace.ports.services import Tool
from tests.plugins.fakes import answer, find, install, running

needs_landlock = pytest.mark.skipif(
    sys.platform != "linux" or not Ruleset().exists, reason="this kernel has no Landlock"
)


@pytest.fixture
async def tool(tmp_path: Path) -> AsyncGenerator[Tool]:
    install(tmp_path)
    (tmp_path / "headrace.db").write_text("the runs of others")
    async with running(tmp_path, {"FAKE_API_KEY": "k", "OPENAI_API_KEY": "not for plugins"}) as (tools, _):
        yield await find(tools)


async def test_it_has_an_environment_of_its_own(tool: Tool, tmp_path: Path) -> None:
    process = json.loads(await answer(tool, "process"))
    home = tmp_path / "plugin-data" / "tests" / "fake" / "home"
    variables = process["variables"]
    assert "OPENAI_API_KEY" not in variables
    assert "FAKE_API_KEY" not in variables
    assert (variables["HOME"], variables["TMPDIR"]) == (str(home), str(home / "tmp"))
    assert variables["INSTALL_METHOD"] == "local"
    assert process["folder"].endswith("0.0.1-0123456789ab/source")
    assert await answer(tool, "umask") == "0o77"


async def test_it_may_write_to_its_home(tool: Tool, tmp_path: Path) -> None:
    file = tmp_path / "plugin-data" / "tests" / "fake" / "home" / "tmp" / "a.txt"
    assert await answer(tool, "open", path=str(file), mode="w") == f"opened {file}"
    assert file.stat().st_mode & 0o077 == 0


@needs_landlock
async def test_it_may_not_open_other_files(tool: Tool, tmp_path: Path) -> None:
    (tmp_path / "plugin-data" / "tests" / "fake" / "storage").mkdir(parents=True)
    installed = tmp_path / "plugins" / "tests" / "fake" / "0.0.1-0123456789ab"
    for path, mode in (
        (tmp_path / "headrace.db", "r"),
        (installed / "source" / "main.py", "a"),
        (installed / "source" / "new.py", "w"),
        (installed / "installed.json", "r"),
        (tmp_path / "plugin-data" / "tests" / "fake" / "storage", "r"),
        ("/etc/shadow", "r"),
        (f"/proc/{os.getpid()}/environ", "r"),
        (f"/proc/{os.getpid()}/mem", "r"),
        (tmp_path / "new", "w"),
    ):
        assert await answer(tool, "open", path=str(path), mode=mode) == "PermissionError"
    assert await answer(tool, "open", path="/proc/cpuinfo", mode="r") == "opened /proc/cpuinfo"


async def test_it_may_read_the_tokenizers_of_the_server(tmp_path: Path) -> None:
    install(tmp_path)
    file = tmp_path / "tokenizers" / "gpt2"
    file.parent.mkdir()
    file.write_text("vocabulary")
    async with running(tmp_path, {"FAKE_API_KEY": "k", "TIKTOKEN_CACHE_DIR": str(file.parent)}) as (tools, _):
        tool = await find(tools)
        assert json.loads(await answer(tool, "process"))["variables"]["TIKTOKEN_CACHE_DIR"] == str(file.parent)
        assert await answer(tool, "open", path=str(file), mode="r") == f"opened {file}"


async def test_its_memory_is_bounded(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path, memory=200 * 1024 * 1024) as (tools, _):
        tool = await find(tools)
        assert await answer(tool, "allocate", size=300 * 1024 * 1024) == "MemoryError"
        assert await answer(tool, "allocate", size=1024) == "1024"


def test_the_variables_of_proxies_are_passed_on() -> None:
    environ = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "intranet", "SECRET": "s", "PATH": "/usr/bin"}
    variables = environment(Path("/home"), Path("/home/tmp"), Path("/e/bin/python"), environ)
    assert variables["HTTPS_PROXY"] == "http://proxy:3128"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "intranet,127.0.0.1,localhost"
    assert variables["PATH"] == "/e/bin:/usr/bin"
    assert "SECRET" not in variables


def test_the_folders_of_an_interpreter(tmp_path: Path) -> None:
    base = tmp_path / "python" / "bin" / "python3"
    base.parent.mkdir(parents=True)
    base.touch()
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(base)
    assert interpreter_folders(python) == (str(tmp_path / "environment"), str(tmp_path / "python"))
    python.unlink()
    python.symlink_to("/bin/true")  # resolves to /usr/bin where /bin is a link
    assert "/" not in interpreter_folders(python)
