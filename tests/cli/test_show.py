"""`headrace show`: what a file has, how its inputs are given, and what it lacks."""

from __future__ import annotations

import json
from pathlib import Path

from tests.api.chats import chatflow
from tests.cli.conftest import Invoke
from tests.cli.flows import field, flow, llm

INPUTS = [
    field("query", required=True, max_length=20),
    field("kind", "select", required=True, options=["short", "long"], label="Which kind"),
    field("picture", "file"),
    field("count", "number", default=3),
    field("more", "json_object"),
]
OPTIONS = ["-i query=...", "-i kind=...", "--file picture=PATH", "-i count=1", "-i more='{...}'"]


def asking(path: Path) -> Path:
    second = {**llm("deepseek"), "id": "again"}
    return flow(path, llm("deepseek"), second, variables=INPUTS, outputs={"t": ("llm", "text")}, description="Asks.")


def test_a_workflow(tmp_path: Path, invoke: Invoke):
    file = asking(tmp_path / "ask.yml")
    done = invoke("show", file)
    assert (done.exit_code, done.stderr) == (0, "")
    for text in (
        "ask (workflow)\nAsks.\n\nheadrace run ",
        "-i query=...         required  text-input, at most 20 characters\n",
        "-i kind=...          required  Which kind: select, one of short, long\n",
        "-i count=1                     number, default 3\n",
        "\n  llm    llm    Write\n",
        "\n  deepseek  any  Write (llm), Write (again)\n",
    ):
        assert text in done.stdout
    assert "Lacks:\n  node 'Write (llm)': model provider 'deepseek' is not configured." in done.stdout
    assert "(also for 'Write (again)')" in done.stdout
    assert "Lacks" not in invoke("show", file, DEEPSEEK_API_KEY="x").stdout


def test_json(tmp_path: Path, invoke: Invoke):
    described = json.loads(invoke("show", asking(tmp_path / "ask.yml"), "--json").stdout)
    assert [one["option"] for one in described["inputs"]] == OPTIONS
    assert [one["required"] for one in described["inputs"]] == [True, True, False, False, False]
    assert described["models"] == [{"provider": "deepseek", "model": "any", "nodes": ["Write (llm)", "Write (again)"]}]
    assert [node["id"] for node in described["nodes"]] == ["start", "llm", "again", "end"]


def test_a_chat_app_is_talked_to(tmp_path: Path, invoke: Invoke):
    file = tmp_path / "chat.yml"
    file.write_text(chatflow())
    assert f"headrace chat {file}\n" in invoke("show", file).stdout


def test_a_workflow_that_a_trigger_starts(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "nightly.yml")
    file.write_text(file.read_text().replace("type: start\n", "type: trigger-schedule\n", 1))
    done = invoke("show", file)
    assert (done.exit_code, "headrace run" in done.stdout) == (0, False)


def test_a_file_that_cannot_be_loaded(tmp_path: Path, invoke: Invoke):
    file = tmp_path / "bad.yml"
    file.write_text("a: 1\na: 2\n")
    done = invoke("show", file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {file}: ")
    assert [one.name for one in tmp_path.iterdir()] == ["bad.yml"]


def test_a_file_whose_name_is_not_text_or_has_spaces(tmp_path: Path, invoke: Invoke):
    flow(tmp_path / "a.yml").rename(tmp_path / "\udcff a.yml")  # the byte FF
    assert "headrace run '\ufffd a.yml'\n" in invoke("show", "\udcff a.yml").stdout
