"""docs/getting-started.md works as written: the test runs its commands, against a workflow and a chat app."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.flows import Server, environ

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "getting-started.md").read_text("utf-8")
URL = "http://127.0.0.1:8040"  # as the page has it
INSTALLING = "1. Install"  # the environment of this test is installed already
FLOW = """
kind: app
version: 0.5.0
app: {name: my app, mode: workflow}
workflow:
  graph:
    nodes:
      - id: start
        data:
          type: start
          title: Start
          variables: [{variable: query, label: query, type: text-input, required: true, max_length: 1000}]
      - id: end
        data: {type: end, title: End, outputs: [{variable: text, value_selector: [start, query], value_type: string}]}
    edges: [{id: a, source: start, target: end, sourceHandle: source, targetHandle: target}]
"""


def blocks(language: str, title: str) -> list[str]:
    """The code blocks of a language in a section of the page."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a workflow and a chat app."""
    (tmp_path / "flow.yml").write_text(FLOW, "utf-8")
    shutil.copy(ROOT / "examples" / "collection" / "chat.yml", tmp_path)
    return tmp_path


def shell(command: str, folder: Path, key: str = "") -> str:
    """The output of a command, which must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command.replace("export KEY=app-...\n", "")],
        cwd=folder,
        env=environ(PATH=path, KEY=key),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_a_file_is_checked_and_run(folder: Path):
    (check,) = blocks("sh", "3. Check it")
    assert "no problems" in shell(check, folder)
    (run,) = blocks("sh", "5. Run it once")
    assert json.loads(shell(run, folder)) == {"text": "hello"}


def test_a_served_app_is_called_and_changed(folder: Path):
    assert blocks("sh", "6. Serve it") == ["headrace serve flow.yml\n"]
    server = Server("flow.yml", "chat.yml", cwd=folder, HEADRACE_DEMO_MODEL="1")
    try:
        keys = {app["mode"]: app["key"] for app in server.ready["apps"]}
        workflow, chat = (command.replace(URL, server.url) for command in blocks("sh", "7. Call it"))
        assert json.loads(shell(workflow, folder, keys["workflow"]))["data"]["outputs"] == {"text": "hello"}
        assert '"event":"message_end"' in shell(chat, folder, keys["advanced-chat"])

        (program,) = blocks("python", "7. Call it")
        (folder / "call.py").write_text(program.replace(URL, server.url), "utf-8")
        assert shell("python call.py", folder, keys["workflow"]) == "succeeded {'text': 'hello'}\n"

        (folder / "flow.yml").write_text(FLOW.replace("variable: text", "variable: answer"), "utf-8")
        (change,) = blocks("sh", "8. Change it")
        assert re.findall(r"^([12]) ", shell(change, folder), re.MULTILINE) == ["2", "1"]
    finally:
        assert server.stop() == 0


def test_every_shell_gets_a_script_that_completes_commands(tmp_path: Path):
    sources = re.findall(r"_HEADRACE_COMPLETE=(\w+)_source headrace", PAGE)
    assert sources == ["bash", "zsh", "fish"]
    for name in sources:
        assert f"{name}_complete" in shell(f"_HEADRACE_COMPLETE={name}_source headrace", tmp_path)
    words = "COMP_WORDS='headrace ser' COMP_CWORD=1"
    assert shell(f"{words} _HEADRACE_COMPLETE=bash_complete headrace", tmp_path) == "plain,serve\n"


def test_no_command_is_left_out():
    titles = [title for title in re.findall(r"^## (.+)$", PAGE, re.MULTILINE) if blocks("sh", title)]
    executed = ["3. Check it", "5. Run it once", "6. Serve it", "7. Call it", "8. Change it"]
    assert titles == [INSTALLING, *executed[:1], "4. Set the credentials", *executed[1:]]
