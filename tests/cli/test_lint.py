"""`headrace lint`: every problem of every file, and an exit code that tells how bad it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.flows import field, flow, llm


def test_a_file_that_can_run(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "echo.yml", variables=[field("query")])
    done = invoke("lint", file)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{file}: no problems\n", "")


def test_what_is_missing_here(tmp_path: Path, invoke: Invoke):
    robot = {"id": "robot", "type": "robot-arm", "title": "Robot"}
    file = flow(tmp_path / "f.yml", llm("deepseek"), robot, variables=[field("query")])
    done = invoke("lint", file)
    assert done.exit_code == 1
    unknown, credentials = done.stdout.splitlines()
    assert "line " in unknown
    assert "node 'Robot'" in unknown
    assert "robot-arm" in unknown
    assert "node 'Write'" in credentials
    assert "DEEPSEEK_API_KEY" in credentials
    assert done.stderr == "2 problems in 1 of 1 file.\n"
    assert invoke("lint", file, DEEPSEEK_API_KEY="x").stdout == f"{unknown}\n"


def test_what_cannot_be_loaded(tmp_path: Path, invoke: Invoke):
    good = flow(tmp_path / "good.yml")
    bad = flow(tmp_path / "bad.yml")
    bad.write_text(bad.read_text().replace("type: start", "type: llm"))
    done = invoke("lint", good, bad, tmp_path / "gone.yml", good)
    assert done.exit_code == 2
    assert f"{good}: no problems" in done.stdout
    assert done.stdout.count("good.yml") == 1
    for file in (bad, tmp_path / "gone.yml"):
        assert f"{file}: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_files_of_a_folder(tmp_path: Path, invoke: Invoke):
    a, b = flow(tmp_path / "a.yml"), flow(tmp_path / "b.yaml")
    (tmp_path / "notes.txt").write_text("not a workflow")
    (tmp_path / "folder.yml").mkdir()
    done = invoke("lint", tmp_path, a)
    assert (done.exit_code, done.stdout) == (0, f"{a}: no problems\n{b}: no problems\n")
    empty = invoke("lint", a, tmp_path / "folder.yml")
    assert (empty.exit_code, empty.stderr) == (2, f"Error: {tmp_path / 'folder.yml'}: has no workflow files\n")


def test_json(tmp_path: Path, invoke: Invoke):
    good, bad = flow(tmp_path / "good.yml"), tmp_path / "bad.yml"
    bad.write_text("a: 1\na: 2\n")
    done = invoke("lint", good, bad, "--json")
    assert done.exit_code == 2
    fine, broken = json.loads(done.stdout)
    assert fine == {"file": str(good), "loads": True, "problems": []}
    assert (broken["file"], broken["loads"]) == (str(bad), False)
    assert any(problem["fatal"] for problem in broken["problems"])


def test_lint_leaves_nothing_behind(tmp_path: Path, invoke: Invoke):
    flow(tmp_path / "good.yml")
    invoke("lint", "good.yml")
    assert [file.name for file in tmp_path.iterdir()] == ["good.yml"]


def speech(model: object, **more: object) -> dict[str, object]:
    return {
        "id": "listen",
        "type": "tool",
        "title": "Listen",
        "provider_type": "builtin",
        "provider_id": "audio",
        "provider_name": "audio",
        "tool_name": "asr",
        "tool_parameters": {},
        "tool_configurations": {"model": model},
        **more,
    }


@pytest.mark.parametrize(
    "node",
    [
        speech("langgenius/openai/openai#whisper-1"),
        speech({"type": "constant", "value": "openai#whisper-1"}),
        speech(None, tool_parameters={"model": {"type": "mixed", "value": "openai#whisper-1"}}),
        {
            "id": "agent",
            "type": "agent",
            "title": "Agent",
            "agent_strategy_provider_name": "langgenius/agent/agent",
            "agent_strategy_name": "function_calling",
            "agent_parameters": {
                "model": {"type": "constant", "value": {"provider": "deepseek", "model": "deepseek-chat"}},
                "tools": {
                    "type": "constant",
                    "value": [
                        {
                            "type": "builtin",
                            "provider_name": "audio",
                            "tool_name": "tts",
                            "settings": {"model": {"value": "openai#tts-1"}},
                        }
                    ],
                },
            },
        },
    ],
)
def test_the_key_of_a_speech_model_is_missing(tmp_path: Path, invoke: Invoke, node: dict[str, object]):
    file = flow(tmp_path / "f.yml", node)
    assert "OPENAI_API_KEY" in invoke("lint", file, DEEPSEEK_API_KEY="x").stdout
    assert "no problems" in invoke("lint", file, DEEPSEEK_API_KEY="x", OPENAI_API_KEY="x").stdout


@pytest.mark.parametrize(
    "model", ["", None, "whisper-1", {"type": "variable", "value": ["start", "model"]}, 5, ["a#b"]]
)
def test_a_speech_model_that_is_not_named_needs_no_key(tmp_path: Path, invoke: Invoke, model: object):
    done = invoke("lint", flow(tmp_path / "f.yml", speech(model), variables=[field("model")]))
    assert "API_KEY" not in done.stdout


def test_files_are_tools_of_each_other(tmp_path: Path, invoke: Invoke):
    caller = {**speech(None), "provider_type": "workflow", "provider_id": "7d0e3d3a", "tool_name": "called"}
    first = flow(tmp_path / "caller.yml", {**caller, "provider_name": "called"})
    second = flow(tmp_path / "called.yml")
    assert invoke("lint", first, second).exit_code == 0
    assert "The tool 'called' is a workflow: serve an app of that name" in invoke("lint", first).stdout


def test_a_missing_key_is_reported_once(tmp_path: Path, invoke: Invoke):
    again = {**llm("deepseek"), "id": "again", "title": "Write more"}
    file = flow(tmp_path / "f.yml", llm("deepseek"), again, variables=[field("query")])
    done = invoke("lint", file)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{file}: node 'Write': model provider 'deepseek' is not configured.")
    assert line.endswith("(also for 'Write more')")
    assert (invoke("lint", file, "--no-credentials").exit_code, done.exit_code) == (0, 1)


def test_annotations_of_github(tmp_path: Path, invoke: Invoke):
    name = "a:b,c%.yml"
    file = flow(tmp_path / name, llm("deepseek"), variables=[field("query")])
    (tmp_path / "words.yml").write_text("just\nwords")
    done = invoke("lint", name, "words.yml", "--format", "github")
    warning, error = done.stdout.splitlines()
    place = "::warning file=a%3Ab%2Cc%25.yml,line=1,title=headrace lint::node 'Write': model provider 'deepseek'"
    assert warning.startswith(place)
    assert error.startswith("::error file=words.yml,line=1,title=headrace lint::")
    assert done.exit_code == 2
    assert file.exists()


def test_sarif(tmp_path: Path, invoke: Invoke):
    robot = {"id": "robot", "type": "robot-arm", "title": "Robot"}
    flow(tmp_path / "機器 人.yml", robot)
    (tmp_path / "words.yml").write_text("just words")
    done = invoke("lint", "機器 人.yml", tmp_path / "words.yml", "--format", "sarif")
    report = json.loads(done.stdout)
    assert (report["version"], done.exit_code) == ("2.1.0", 2)
    (run,) = report["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    known, words = run["results"]
    assert (known["level"], words["level"]) == ("warning", "error")
    assert {known["ruleId"], words["ruleId"]} == rules
    at = [result["locations"][0]["physicalLocation"] for result in (known, words)]
    assert at[0]["artifactLocation"]["uri"] == "%E6%A9%9F%E5%99%A8%20%E4%BA%BA.yml"
    assert at[0]["region"]["startLine"] > 1
    assert at[1]["artifactLocation"]["uri"] == (tmp_path / "words.yml").as_uri()


HOSTILE = 'title: "a\\e]0;b\\a\\n/x.yml: no problems"'


@pytest.mark.parametrize("form", ["text", "github"])
def test_names_in_a_file_neither_control_the_terminal_nor_forge_lines(form: str, tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "f.yml", llm("deepseek"), variables=[field("query")])
    file.write_text(file.read_text().replace("title: Write", HOSTILE))
    (line,) = invoke("lint", file, "--format", form).stdout.splitlines()
    assert "a\\x1b]0;b\\x07\\x0a/x.yml" in line


@pytest.mark.parametrize(
    ("form", "named"), [("text", "\ufffd"), ("json", "\ufffd"), ("github", "\ufffd"), ("sarif", "%FF")]
)
def test_a_file_whose_name_is_not_text(form: str, named: str, tmp_path: Path, invoke: Invoke):
    file = Path("\udcff.yml")  # the byte FF
    (tmp_path / file).write_text("a: 1\n")
    done = invoke("lint", file, "--format", form)
    assert (done.exit_code, f"{named}.yml" in done.stdout) == (2, True)
