"""The command lines of the README and the documentation: each is accepted as it is written, and run if it can be run
here. docs/cli.md has the help of every command (tests/cli/test_docs.py)."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from headrace.cli import cli
from tests.cli.conftest import Invoke
from tests.cli.flows import field, flow
from tests.cli.parsing import parse_command_line

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV") or shutil.which("uv") or shutil.which(ROOT / "build" / "uv" / "bin" / "uv")
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("sdks/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    ROOT / "deploy" / "README.md",
]
PROSE = [page for page in [*PAGES, ROOT / "README.zh-Hant.md"] if page.name != "cli.md"]  # that one is generated

NOT_HEADRACE = {
    "make": "its targets are run by tests/test_example.py, and before every merge",
    "docker": "needs a daemon; tests/deploy/test_image.py does the steps of the image by hand",
    "pip": "from a registry; tests/deploy/test_image.py installs the wheel with its extras",
    "python": "downloads the table of a tokenizer",
    "python3": "makes an environment, as tests/deploy/test_image.py does",
    "uv": "tests/test_docs_adding_a_node.py, and the image's steps",
    "npm": "tests/sdk_node builds and installs the package",
    "npx": "from a registry; tests/mcp_node uses the same client library",
    "curl": "tests/test_docs_getting_started.py runs those of that page, tests/test_collection.py all requests",
    "pytest": "tests/test_docs_adding_a_node.py runs it",
    "temporal": "tests/temporal runs the command that adds search attributes, and starts servers",
    "cd": "only changes the folder",
    "cp": "copies a file of the reader",
    "mkdir": "makes a folder",
    ".": "activates the environment",
    "export": "sets a variable",
    "examples/collection/curl/runs.sh": "tests/test_collection.py runs it",
}
NOT_RUN = {
    "serve": "it runs until it is stopped: tests/cli/test_serve.py and tests/deploy start it",
    "plugins add": "from a marketplace: tests/plugins has one of its own",
    "plugins info": "of a plugin that is installed: tests/plugins",
    "lint build/count.yml": "tests/test_docs_adding_a_node.py",
    "run build/count.yml": "tests/test_docs_adding_a_node.py",
    "tools call audio/asr": "calls a model: tests/tools",
}


class Line(NamedTuple):
    """A command line in a block of a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def lines() -> Iterator[Line]:
    """The commands in the shell blocks of all pages, without comments and assignments."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words:
                    end = next((at for at, word in enumerate(words) if word in ("&&", "||", ";", "|")), len(words))
                    command, words = words[:end], words[end + 1 :]
                    while command and re.fullmatch(r"[A-Za-z_]+=.*", command[0]):
                        del command[0]
                    if command[:2] == ["docker", "exec"]:
                        command = command[3:]
                    if command:
                        yield Line(str(page.relative_to(ROOT)), (command[0].strip("("), *command[1:]))


LINES = [line for line in lines() if line.words[0] == "headrace"]


@pytest.mark.parametrize("line", LINES, ids=str)
def test_every_command_line_is_accepted(line: Line):
    parse_command_line(line.words)


def test_every_other_program_has_a_reason():
    programs = {line.words[0] for line in lines()} - {"headrace"}
    assert programs == {*NOT_HEADRACE}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_in_prose_exist(page: Path):
    for code in re.findall(
        r"(?<!`)`headrace( [^`]*)`", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    ):
        command: click.Command = cli
        for word in code.replace("...", "").split():
            if word.startswith("-"):
                known = {option for parameter in command.params for option in parameter.opts}
                assert word.partition("=")[0] in {*known, "-h", "--help"}, f"headrace{code}"
            elif isinstance(command, click.Group):
                assert word in command.commands, f"headrace{code}"
                command = command.commands[word]


def installed(program: str) -> set[str]:
    """What `program install` is given in the blocks and in the prose of all pages."""
    commands = [
        part for page in PROSE for part in re.findall(rf"\b{program} install ([^`#\n]+)", page.read_text("utf-8"))
    ]
    return {word.removeprefix("dify-client@file:") for part in commands for word in shlex.split(part)}


def test_the_python_packages_that_are_installed_are_here_with_their_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    built = "./build/word-count"  # tests/test_docs_adding_a_node.py makes it
    own = {f".[{extra}]" for extra in extras}
    assert installed("pip") == {*own, "./sdks/python", built}
    assert (ROOT / "sdks" / "python" / "pyproject.toml").exists()


def test_the_python_packages_that_are_installed_work_together(tmp_path: Path):
    """By uv's pip, which takes the lines as pip does, and fetches nothing twice; without the console's pages, which
    other tests build."""
    assert UV is not None, "uv makes an environment to install into"
    clone, python = tmp_path / "clone", tmp_path / "venv" / "bin" / "python"
    for folder in ("src", "sdks/python"):
        shutil.copytree(ROOT / folder, clone / folder, ignore=shutil.ignore_patterns("static", "__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE", "web/hatch_build.py"):
        clone.joinpath(file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, clone / file)
    run = partial(subprocess.run, cwd=clone, capture_output=True, text=True, check=True)
    try:
        run([UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"])
        run([UV, "pip", "install", "--quiet", "--python", python, *sorted(installed("pip") - {"./build/word-count"})])
        run([python, "-c", "import headrace_client, jwt, opentelemetry.sdk, psycopg, pypdfium2"])
        assert run([python.with_name("headrace"), "--version"]).stdout.startswith("headrace ")
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr)


def test_the_node_package_that_is_installed_is_the_one_that_npm_packs():
    package = json.loads((ROOT / "sdks" / "node" / "package.json").read_text("utf-8"))
    assert installed("npm") == {f"headrace/sdks/node/{package['name']}-{package['version']}.tgz"}


@pytest.mark.parametrize("line", [line for line in lines() if line.words[0] in ("make", "docker", "cd")], ids=str)
def test_files_and_targets_that_other_programs_are_given_exist(line: Line):
    program, *words = line.words
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert {word for word in words if "=" not in word} <= {*targets}
    elif program == "cd":
        folder = words[0].removeprefix("headrace/")  # the clone's own
        assert (ROOT / folder).is_dir() or (ROOT / line.page).with_name(folder).is_dir()
    elif "-f" in words:
        assert (ROOT / words[words.index("-f") + 1]).is_file()


RUN = [line for line in LINES if not any(" ".join(line.words[1:]).startswith(prefix) for prefix in NOT_RUN)]


def test_every_reason_is_needed():
    for prefix in NOT_RUN:
        assert any(" ".join(line.words[1:]).startswith(prefix) for line in LINES)


@pytest.mark.parametrize("page", dict.fromkeys(line.page for line in RUN))
def test_the_commands_of_a_page(page: str, tmp_path: Path, invoke: Invoke):
    query = field("query", required=True)
    flow(tmp_path / "flow.yml", variables=[query], name="my app")
    flow(tmp_path / "support.yml", variables=[query])
    flow(tmp_path / "report.yml", variables=[query])
    flow(tmp_path / "old.yml", variables=[query], name="my app")
    flow(tmp_path / "new.yml", variables=[query, field("more")], name="my app")
    (tmp_path / "in.jsonl").write_text('{"inputs": {"query": "hello"}}\n')
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    keys = [invoke("apps", "add", name).exit_code for name in ("flow.yml", "support.yml")]
    assert keys == [0, 0]
    key = invoke("keys", "create", "support").stdout.strip()
    for line in RUN:
        if line.page == page:
            words = [{"APP": "my app", "KEY": key}.get(word, word) for word in line.words[1:]]
            done = invoke(*words)
            different = words[0] == "diff"  # exits with 1 then, as `diff` does
            assert done.exit_code == different, f"{line}\n{done.stderr}"
            if words[:2] == ["keys", "rotate"]:
                key = done.stdout.strip()
