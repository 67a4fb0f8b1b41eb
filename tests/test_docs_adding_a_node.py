"""docs/adding-a-node.md works as written: the test writes its files and runs its commands, in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.flows import environ

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-node.md").read_text("utf-8")
COPIED = ("src", "docs", "tests", "examples", "Makefile", "pyproject.toml")
UV = os.environ.get("UV") or shutil.which("uv") or shutil.which(ROOT / "build" / "uv" / "bin" / "uv")
CHANGED = "src/headrace/nodes tests/nodes docs"
# Commands of the page that are run in another way: in this test's environment, and of `make quick`, which takes long,
# only what the page's files can break.
COMMANDS = {
    ". .venv/bin/activate": "true",
    "make docs": "make docs UV=true RUN=",
    "make quick": f"ruff check {CHANGED} && ruff format --check {CHANGED} && lint-imports && "
    "basedpyright src/headrace/nodes/word_count.py && "
    "pytest -q tests/nodes/test_registry.py tests/cli/test_docs.py::test_what_is_generated_is_up_to_date",
    "uv pip install ./build/word-count": f"{UV} pip install --quiet --no-deps --target build/site ./build/word-count",
}


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def step(title: str) -> str:
    """The text of a section of the page."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with the files of the page."""
    for name in COPIED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("node_modules", "dist", ".venv")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    for name, content in re.findall(r"^`([^`]+)`:\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    return tmp_path


def apply(file: Path, title: str) -> None:
    """Makes the change to a file that a step shows as a diff."""
    (diff,) = blocks("diff", step(title))
    lines = diff.splitlines(keepends=True)
    before = "".join(line.removeprefix(" ") for line in lines if not line.startswith("+"))
    after = "".join(re.sub(r"^[ +]", "", line) for line in lines)
    text = file.read_text("utf-8")
    assert text.count(before) == 1, before
    file.write_text(text.replace(before, after), "utf-8")


def execute(project: Path, title: str) -> None:
    """Runs the commands of a step; the last one prints the JSON that the page shows, if it shows any."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    clean = environ(PATH=path, PYTHONPATH=f"{project}/src:{project}/build/site")
    output = ""
    for command in "".join(blocks("sh", step(title))).splitlines():
        done = subprocess.run(
            ["bash", "-c", COMMANDS.get(command, command)],
            cwd=project,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        output = done.stdout
    for example in blocks("json", step(title)):
        assert json.loads(output) == json.loads(example)


def test_a_node_type_of_headrace(project: Path):
    apply(project / "src" / "headrace" / "nodes" / "__init__.py", "2. The registration")
    execute(project, "3. Try it")
    execute(project, "4. The test")
    execute(project, "5. The documentation")
    assert "| `word-count` | done | counts words and characters; not in Dify |" in (
        project / "docs" / "compatibility.md"
    ).read_text("utf-8")


def test_a_plugin(project: Path):
    assert UV is not None, "uv builds the plugin's package"
    package = project / "build" / "word-count"
    shutil.copy(project / "src" / "headrace" / "nodes" / "word_count.py", package)
    execute(project, "As a plugin")


def test_no_command_is_left_out():
    commands = "".join(blocks("sh")).splitlines()
    executed = [
        line
        for title in ("3. Try it", "4. The test", "5. The documentation", "As a plugin")
        for line in "".join(blocks("sh", step(title))).splitlines()
    ]
    assert commands == [". .venv/bin/activate", *executed]
    assert COMMANDS.keys() <= set(commands)
