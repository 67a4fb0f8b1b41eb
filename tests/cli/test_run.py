"""`headrace run`: outputs on stdout, the rest on stderr, and an exit code that tells how it went."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import forking
from tests.background import running
from tests.cli.conftest import Invoke
from tests.cli.flows import code, environ, field, flow, headrace, llm

DOUBLE = "def main(x):\n    return {'y': x * 2}\n"
FAIL = "def main():\n    raise ValueError('no such luck')\n"


def test_outputs_are_json_on_stdout(tmp_path: Path):
    file = flow(
        tmp_path / "double.yml",
        code(DOUBLE, {"x": ("start", "n")}, y="number"),
        variables=[field("n", "number")],
        outputs={"y": ("code", "y")},
    )
    done = headrace("run", file, "-i", "n=21", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"y": 42})
    assert [line.split(",")[0] for line in done.stderr.splitlines()] == [
        "Start: running",
        "Start: succeeded",
        "Compute: running",
        "Compute: succeeded",
        "End: running",
        "End: succeeded",
    ]
    assert os.listdir(tmp_path) == ["double.yml"]  # a run leaves nothing behind


def test_inputs_of_every_type_can_be_typed(tmp_path: Path, invoke: Invoke):
    variables = [
        field("text"),
        field("num", "number"),
        field("chk", "checkbox"),
        field("obj", "json_object"),
        field("doc", "file", allowed_file_types=["document"], allowed_file_upload_methods=["local_file"]),
        field("docs", "file-list", allowed_file_types=["document"], allowed_file_upload_methods=["local_file"]),
    ]
    file = flow(tmp_path / "all.yml", variables=variables)
    notes = tmp_path / "筆記.txt"
    notes.write_text("hello")
    arguments = ["-i", "text=a=b 漢字", "-i", "num=12.5", "-i", "chk=true", "-i", 'obj={"a": [1]}']
    uploads = ["--file", f"doc={notes}", "--file", f"docs={notes}", "--file", f"docs={notes}"]
    done = invoke("run", file, *arguments, *uploads)
    assert done.exit_code == 0, done.stderr
    outputs = json.loads(done.stdout)
    assert (outputs["text"], outputs["num"], outputs["obj"]) == ("a=b 漢字", 12.5, {"a": [1]})
    assert outputs["chk"] in (True, 1)
    assert (outputs["doc"]["filename"], outputs["doc"]["size"], outputs["doc"]["type"]) == ("筆記.txt", 5, "document")
    assert [file["filename"] for file in outputs["docs"]] == ["筆記.txt", "筆記.txt"]


@pytest.mark.parametrize("how", ["argument", "file", "stdin"])
def test_inputs_as_one_object(tmp_path: Path, invoke: Invoke, how: str):
    file = flow(tmp_path / "echo.yml", variables=[field("a"), field("b")])
    text = '{"a": "1", "b": "2"}'
    (tmp_path / "inputs.json").write_text(text)
    inputs = {"argument": text, "file": "@inputs.json", "stdin": "@-"}[how]
    done = invoke("run", file, "--inputs", inputs, "-i", "b=3", input=text)
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"a": "1", "b": "3"})


def test_json_tells_the_events_one_a_line(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "ask.yml", llm(), variables=[field("query")], outputs={"text": ("llm", "text")})
    done = invoke("run", file, "-i", "query=hi", "--demo-model", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    names = [event["event"] for event in events]
    assert (names[0], names[-1]) == ("workflow_started", "workflow_finished")
    streamed = "".join(event["data"]["text"] for event in events if event["event"] == "text_chunk")
    assert streamed == events[-1]["data"]["outputs"]["text"] != ""
    assert {event["workflow_run_id"] for event in events} == {events[-1]["data"]["id"]}


def test_a_failed_run_names_the_node_and_its_error(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "fails.yml", code(FAIL, y="string"), outputs={"y": ("code", "y")})
    done = invoke("run", file)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "Error: the run failed at node 'Compute' (code): ValueError: no such luck"
    assert "Traceback" not in done.stderr


def iteration_of(mode: str) -> list[dict[str, Any]]:
    """A code node that makes a list, and a parallel iteration over it whose code fails at the last item."""
    return [
        {**code("def main():\n    return {'list': ['1', '0']}", list="array[string]"), "id": "make", "title": "Make"},
        {
            "id": "each",
            "type": "iteration",
            "title": "Each",
            "start_node_id": "begin",
            "iterator_selector": ["make", "list"],
            "output_selector": ["code", "whole"],
            "output_type": "array[number]",
            "is_parallel": True,
            "parallel_nums": 2,
            "error_handle_mode": mode,
        },
        {"id": "begin", "type": "iteration-start", "title": "", "parentId": "each"},
        {
            **code("def main(item):\n    return {'whole': 1 / int(item)}", {"item": ("each", "item")}, whole="number"),
            "parentId": "each",
        },
    ]


def test_an_error_in_a_parallel_iteration_names_the_item(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "f.yml", *iteration_of("terminated"), outputs={"all": ("each", "output")})
    done = invoke("run", file)
    assert done.exit_code == 1
    received = "Error: the run failed at node 'Compute' (code): Item 1: ZeroDivisionError: division by zero"
    assert done.stderr.splitlines()[-1] == received


def test_a_failed_run_does_not_name_a_node_whose_failure_was_passed_over(tmp_path: Path, invoke: Invoke):
    last = {**code("def main():\n    raise ValueError('no such luck')", x="string"), "id": "last", "title": "Last"}
    file = flow(tmp_path / "f.yml", *iteration_of("continue-on-error"), last, outputs={"all": ("each", "output")})
    done = invoke("run", file)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "Error: the run failed at node 'Last' (last): ValueError: no such luck"


def test_a_model_without_credentials_says_what_to_set(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "ask.yml", llm("deepseek"), variables=[field("query")], outputs={"t": ("llm", "text")})
    done = invoke("run", file, "-i", "query=hi")
    assert done.exit_code == 1
    assert "DEEPSEEK_API_KEY" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "nmae=x"], "the workflow has no input 'nmae': it has name, obj"),
        (["-i", "name"], "-i name: must be NAME=VALUE"),
        (["-i", "name=a", "-i", "name=b"], "-i name: is given more than once"),
        (["-i", "obj={"], "-i obj: is of type json_object, so its value must be JSON"),
        (["--inputs", "[1]"], "--inputs: must be a JSON object"),
        (["--inputs", "{"], "--inputs: is not JSON"),
        (
            ["--inputs", '{"obj": {"a": ' + "[" * 900 + "]" * 900 + "}}"],
            "--inputs: is nested more than 100 levels deep",
        ),
        (["-i", 'obj={"a": ' + "[" * 200 + "]" * 200 + "}"], "-i obj: is nested more than 100 levels deep"),
        (["--inputs", "@nowhere"], "--inputs @nowhere: cannot be read: No such file or directory"),
        (["--file", "name=x.txt"], "--file name: the input is of type text-input, not a file"),
        ([], "the input 'name' is missing: -i name=... (text-input, at most 10 characters)"),
        (["-i", "name=12345678901"], "name in input form must be less than 10 characters"),
    ],
)
def test_bad_inputs_are_reported_in_a_line(tmp_path: Path, invoke: Invoke, arguments: list[str], message: str):
    variables = [field("name", required=True, max_length=10), field("obj", "json_object")]
    done = invoke("run", flow(tmp_path / "f.yml", variables=variables), *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: ")


def test_missing_inputs_are_asked_for_on_a_terminal(tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch):
    fields = [
        field("name", required=True),
        field("kind", "select", required=True, options=["a", "b"]),
        field("sure", "checkbox", required=True),
        field("notes", "file", required=True),
        field("given", required=True),
        field("other"),
    ]
    outputs = {one["variable"]: ("start", one["variable"]) for one in fields if one["type"] != "file"}
    file = flow(tmp_path / "f.yml", variables=fields, outputs=outputs)
    (tmp_path / "notes.txt").write_text("hello")
    monkeypatch.setattr("headrace.cli.input_options.on_terminal", lambda: True)
    answers = "\n".join(["", "礁溪", "c", "b", "y", "gone.txt", "notes.txt", ""])
    done = invoke("run", file, "-i", "given=x", input=answers)
    assert json.loads(done.stdout) == {"name": "礁溪", "kind": "b", "sure": True, "given": "x", "other": None}
    assert "kind (select, one of a, b): " in done.stderr

    ended = invoke("run", file, "-i", "given=x", input="礁溪\n")
    assert (ended.exit_code, ended.stdout) == (130, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "the file is empty"),
        (b"just words", "is it an app exported by Dify?"),
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_workflow(tmp_path: Path, invoke: Invoke, content: bytes | None, message: str):
    file = tmp_path / "flow.yml"
    if content is not None:
        file.write_bytes(content)
    done = invoke("run", file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert "flow.yml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_is_no_workflow(tmp_path: Path, invoke: Invoke):
    done = invoke("run", tmp_path)
    assert (done.exit_code, "Is a directory" in done.stderr) == (2, True)


def test_ctrl_c_stops_the_run(tmp_path: Path):
    file = flow(tmp_path / "ask.yml", llm(), variables=[field("query")], outputs={"text": ("llm", "text")})
    command = ["run", str(file), "-i", f"query={'word ' * 80}", "--demo-model", "--json"]
    pipe = subprocess.PIPE
    with running(forking.start(command, cwd=tmp_path, env=environ(), stdout=pipe, stderr=pipe)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "text_chunk":
                break
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "Stopped.\n"
    assert json.loads(rest.splitlines()[-1])["data"]["status"] == "stopped"


def test_settings_from_the_environment_that_make_no_sense(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "f.yml")
    done = invoke("run", file, HEADRACE_MAX_STEPS="many", HEADRACE_PORT="70000")
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Error: HEADRACE_PORT: ")
    assert lines[1].startswith("Error: HEADRACE_MAX_STEPS: ")


@pytest.mark.parametrize("depth", [260, 900])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_output_that_is_nested_too_deep_fails_its_node(tmp_path: Path, depth: int, as_json: bool):
    file = tmp_path / "deep.yml"
    file.write_text(DEEP.format(depth=depth))
    done = headrace("run", file, *(["--json"] if as_json else []), cwd=tmp_path)
    assert done.returncode == 1
    assert "Error: the run failed at node 'Code' (c): The output is nested more than 250 levels deep." in done.stderr
    assert "Traceback" not in done.stderr
    assert "RecursionError" not in done.stderr


DEEP = """
app: {{mode: workflow, name: deep}}
kind: app
version: 0.5.0
workflow:
  environment_variables: []
  features: {{}}
  graph:
    nodes:
    - {{id: s, data: {{type: start, title: Start, variables: []}}}}
    - id: c
      data:
        type: code
        title: Code
        code_language: python3
        code: "def main():\\n    x = 1\\n    for _ in range({depth}):\\n        x = [x]\\n    return {{'a': x}}\\n"
        variables: []
        outputs: {{a: {{type: boolean}}}}
    - {{id: e, data: {{type: end, title: End, outputs: [{{variable: a, value_selector: [c, a]}}]}}}}
    edges:
    - {{id: a, source: s, sourceHandle: source, target: c}}
    - {{id: b, source: c, sourceHandle: source, target: e}}
"""


def test_a_title_neither_controls_the_terminal_nor_forges_lines(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "f.yml", llm("deepseek"), variables=[field("query")])
    file.write_text(file.read_text().replace("title: Write", 'title: "a\\e]0;b\\a\\nEnd: succeeded"'))
    done = invoke("run", file, "-i", "query=x")
    assert done.exit_code == 1
    assert "\x1b" not in done.stderr
    assert not any(line.startswith("End") for line in done.stderr.splitlines())
