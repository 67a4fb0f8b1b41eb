"""`headrace generate`: modules that run, are typed, and cannot be broken by what a file says."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from headrace.cli.generating import form_of, module
from headrace.dsl.load import load
from headrace.nodes import registry
from tests.cli.conftest import Invoke
from tests.cli.flows import code, environ, field, flow, headrace
from tests.server.process import Serve

ROOT = Path(__file__).parents[2]
PRODUCT = ROOT / "examples" / "product-detail" / "product-detail.yml"
CHAT = ROOT / "tests" / "data" / "apps" / "chat_simple.yml"

ALL_FIELDS = [
    field("title", required=True, max_length=5, label='"""The title"""\\'),
    field("body", "paragraph", default="none\nsaid"),
    field("tone", "select", options=["plain", 'so "nice"', "a" * 90], required=True),
    field("count", "number", default="3"),
    field("loud", "checkbox", default=True),
    field("picture", "file", required=True, allowed_file_types=["image"]),
    field("papers", "file-list", max_length=2),
    field("options", "json_object"),
    field(
        "shape",
        "json_object",
        json_schema={
            "type": "object",
            "required": ["class"],
            "properties": {
                "class": {"enum": ["a", "b"], "description": "Which one"},
                "size": {"type": ["number", "null"]},
                "parts": {"type": "array", "items": {"type": "object", "properties": {"2nd": {"type": "integer"}}}},
                "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
        },
    ),
    field("class"),
    field("名稱"),
    field("2nd"),
    field("a b"),
    field("a-b"),
    field("_hidden"),
    field("model_dump"),
    field("model_name"),
    field("str", default="x"),
]

USER = """
from pathlib import Path
from headrace_client import AsyncClient, Client
from made import Inputs, Outputs, outputs_of, run, run_async, stream, stream_async

def main(client: Client) -> str:
    inputs = Inputs(product_name="Tea")
    outputs: Outputs = run(client, inputs, user="me")
    with stream(client, inputs) as events:
        text = "".join(event.text for event in events)
    return outputs.description + outputs.image_url + outputs_of(events.run).prompt_id + text

async def main_async(client: AsyncClient) -> str:
    outputs = await run_async(client, Inputs(product_name="Tea"))
    async for event in stream_async(client, Inputs(product_name="Tea")):
        print(event.text)
    return outputs.description
"""

WRONG = """
from made import Inputs, Outputs

Inputs()
Inputs(product_name=1)
Inputs(product="Tea")

def wrong(outputs: Outputs) -> int:
    return outputs.description
"""

CALLER = """
import asyncio, json, sys
from headrace_client import AsyncClient, Client
import made

url, key = sys.argv[1:]
inputs = made.Inputs(product_name="Thermos Bottle")

async def again():
    async with AsyncClient(key, url) as client:
        stream = made.stream_async(client, inputs)
        await stream.until_done()
        return await made.run_async(client, inputs), made.outputs_of(stream.run)

with Client(key, url) as client:
    told = [made.run(client, inputs, user="me")]
    with made.stream(client, inputs) as stream:
        text = "".join(event.text for event in stream)
    told += [made.outputs_of(stream.run), *asyncio.run(again())]
assert told[1].description in text
print(json.dumps([each.model_dump() for each in told]))
"""


def imported(folder: Path, source: str) -> ModuleType:
    path = folder / "made.py"
    path.write_text(source, "utf-8")
    spec = importlib.util.spec_from_file_location("made", path)
    assert spec is not None
    assert spec.loader is not None
    generated_module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generated_module)
    return generated_module


def generated(file: Path, **options: Any) -> str:
    workflow = load(file.read_text("utf-8"), registry(()), str(file))
    form = form_of(workflow)
    assert form is not None
    return module(workflow, form, file.name, **options)


def tool(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `made.py`: the example's module."""
    folder = tmp_path_factory.mktemp("product")
    done = headrace("generate", PRODUCT, "--output", "made.py", "--async", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_it_runs_against_a_server(product: Path, tmp_path: Path) -> None:
    with Serve(tmp_path, [PRODUCT], environ(HEADRACE_DEMO_MODEL="1")) as server:
        command = [sys.executable, "-W", "error", "-c", CALLER, server.url, server.keys["product-detail"]]
        done = subprocess.run(command, cwd=product, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    assert len(outputs) == 4
    for output in outputs:
        assert "Thermos Bottle" in output["description"]
        assert output["image_url"].startswith("data:image/svg+xml,")
    assert len({output["prompt_id"] for output in outputs}) == 4


def test_users_code_is_typed(product: Path, tmp_path: Path) -> None:
    (product / "user.py").write_text(USER)
    (product / "wrong.py").write_text(WRONG)
    fine = tool("mypy", "--strict", "--python-version", "3.10", "made.py", "user.py", cwd=product)
    assert fine.returncode == 0, fine.stdout
    wrong = tool("mypy", "--strict", "--python-version", "3.10", "wrong.py", cwd=product)
    assert {line.split(":")[1] for line in wrong.stdout.splitlines() if "error:" in line} == {"4", "5", "6", "9"}


def test_modules_are_strictly_typed_and_formatted(product: Path) -> None:
    """The example's, that of a chat, and that of a workflow with inputs of every kind."""
    (product / "chat.py").write_text(generated(CHAT, asynchronous=True), "utf-8")
    file = flow(product / "all.yml", variables=ALL_FIELDS, name='"""', description="\\\nimport os\x1b\u202e")
    (product / "everything.py").write_text(generated(file, asynchronous=True), "utf-8")
    modules = ["made.py", "chat.py", "everything.py"]
    options = {"include": modules, "pythonVersion": "3.10", "typeCheckingMode": "strict"}
    (product / "pyrightconfig.json").write_text(json.dumps(options))
    for command in (
        ["mypy", "--strict", "--python-version", "3.10", *modules],
        ["basedpyright", "-p", ".", "--pythonpath", sys.executable],
        ["ruff", "format", "--isolated", "--check", *modules],
        ["ruff", "format", "--isolated", "--check", "--line-length", "120", *modules],
        ["ruff", "check", "--isolated", "--select", "E,F,W,I,UP,B", "--line-length", "120", *modules],
    ):
        done = tool(*command, cwd=product)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_file_makes_the_same_module(product: Path, tmp_path: Path, invoke: Invoke) -> None:
    generated_module = (product / "made.py").read_text("utf-8")
    assert invoke("generate", PRODUCT, "--async").stdout == generated_module
    assert "headrace generate product-detail.yml --async" in generated_module.split('"""')[1]
    assert "run_async" not in invoke("generate", PRODUCT).stdout


def test_what_a_form_takes(tmp_path: Path) -> None:
    file = flow(tmp_path / "all.yml", variables=ALL_FIELDS, outputs={})
    generated_module = imported(tmp_path, generated(file))
    picture = io.BytesIO(b"x")
    least = generated_module.Inputs(title="five!", tone="plain", picture=picture)
    assert generated_module.values_of(least) == {
        "title": "five!",
        "tone": "plain",
        "picture": picture,
        "body": "none\nsaid",
        "count": 3,
        "loud": True,
        "str": "x",
    }
    shape = generated_module.Shape(class_="a", parts=[generated_module.PartsItem(value_2nd=2)], more=1)
    all_ = generated_module.Inputs(
        title="t",
        tone='so "nice"',
        picture="https://example.org/a.png",
        papers=[b"x", Path("a.pdf")],
        shape=shape,
        class_="c",
        名稱="n",
        value_2nd="2",
        a_b="1",
        a_b_2="2",
        hidden="h",
        model_dump_="d",
        model_name="m",
        str_="s",
    )
    received = generated_module.values_of(all_)
    assert received["shape"] == {"class": "a", "parts": [{"2nd": 2}], "more": 1}
    assert received["papers"] == [b"x", Path("a.pdf")]
    by_name = {"class": "c", "名稱": "n", "2nd": "2", "a b": "1", "a-b": "2", "_hidden": "h", "model_dump": "d"}
    assert by_name.items() <= received.items()
    assert (
        generated_module.Inputs.model_validate({"title": "t", "tone": "plain", "picture": b"", "class": "c"}).class_
        == "c"
    )
    for wrong in (
        {"title": "longer"},
        {"tone": "rude"},
        {"picture": "a.png"},
        {"papers": [b"", b"", b""]},
        {"unknown": 1},
        {"count": "many"},
        {"shape": {"class": "c"}},
    ):
        with pytest.raises(ValidationError):
            generated_module.Inputs(**{"title": "t", "tone": "plain", "picture": b"", **wrong})


def test_outputs_that_some_run_lacks_may_be_none(tmp_path: Path) -> None:
    source = generated(branching(tmp_path / "branching.yml"))
    fields = source.partition("class Outputs(")[2].partition("def ")[0]
    assert dict(re.findall(r"^    (\w+): (.+?)(?: = None)?$", fields, re.MULTILINE)) == {
        "query": "str | None",
        "needed": "str",
        "often": "str | None",
        "joined": "str",
        "count": "int | float | None",
        "files": "list[OutputFile]",
        "run": "str | None",
        "part": "Any",
        "said": "bool | None",
        "only_here": "str | None",
    }
    imported(tmp_path, source)


def test_what_is_put_out_of_other_types_is_reported(tmp_path: Path) -> None:
    generated_module = imported(tmp_path, generated(PRODUCT))
    from headrace_client import RunFailedError, WorkflowRun

    def run(**more: Any) -> WorkflowRun:
        return WorkflowRun.model_validate({"id": "r", "workflow_run_id": "r", "status": "succeeded", **more})

    good = {"description": "d", "prompt_id": "p", "image_url": "i", "new": 1}
    assert generated_module.outputs_of(run(outputs=good)).model_extra == {"new": 1}
    with pytest.raises(ValidationError, match="image_url"):
        generated_module.outputs_of(run(outputs={**good, "image_url": None}))
    with pytest.raises(RunFailedError):
        generated_module.outputs_of(run(status="failed", error="no"))
    for unfinished in (None, run(status="running")):
        with pytest.raises(ValueError, match="not ended"):
            generated_module.outputs_of(unfinished)


def test_chats_and_completions(tmp_path: Path) -> None:
    chat = imported(tmp_path, generated(CHAT, asynchronous=True))
    assert not hasattr(chat, "Outputs")
    assert callable(chat.send)
    assert callable(chat.send_async)
    document = {
        "app": {"name": "Complete", "mode": "completion"},
        "kind": "app",
        "version": "0.5.0",
        "model_config": {
            "model": {"provider": "openai", "name": "gpt", "mode": "chat", "completion_params": {}},
            "pre_prompt": "About {{topic}}",
            "user_input_form": [{"paragraph": {"label": "Topic", "variable": "topic", "required": True}}],
        },
    }
    (tmp_path / "complete.yml").write_text(yaml.safe_dump(document))
    complete = imported(tmp_path, generated(tmp_path / "complete.yml"))
    assert complete.values_of(complete.Inputs(topic="tea")) == {"topic": "tea"}
    assert callable(complete.complete)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ['"""', '\\"', "\\", 'x"', "'''\"", "\nimport os\n", "{}", "{given}", "\u202e", "\x00", "a" * 200, "None", "self"]
)


@settings(max_examples=30)
@given(names=st.lists(TEXTS, max_size=6, unique=True), text=TEXTS, option=TEXTS, source=TEXTS)
def test_no_text_breaks_out(names: list[str], text: str, option: str, source: str, tmp_path_factory: Any) -> None:
    fields = [field(name, label=text, default=text, description=text) for name in names]
    fields.append(field("chosen", "select", options=[option, text], required=True))
    wires = dict.fromkeys([*names, "chosen"])
    nodes = [
        {"id": "start", "data": {"type": "start", "title": text, "variables": fields}},
        {"id": "end", "data": {"type": "end", "outputs": [{"variable": name} for name in wires]}},
    ]
    document = {
        "app": {"name": text, "description": f"{text} {option}", "mode": "workflow"},
        "workflow": {"graph": {"nodes": nodes, "edges": [{"source": "start", "target": "end"}]}, "features": {}},
    }
    workflow = load(json.dumps(document), registry(()), "x")
    form = form_of(workflow)
    assert form is not None
    generated_module: dict[str, Any] = {"__name__": "made"}
    exec(
        compile(module(workflow, form, source, asynchronous=True), "made", "exec", dont_inherit=True), generated_module
    )
    values = {name: "v" for name in names if name != "chosen"} | {"chosen": option}
    assert generated_module["values_of"](generated_module["Inputs"].model_validate(values)) == values
    received = generated_module["Outputs"].model_validate(values)
    assert received.model_dump(by_alias=True) == values


def test_what_cannot_be_loaded_or_written(tmp_path: Path, invoke: Invoke) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text("hello: 1")
    done = invoke("generate", bad, "--output", "made.py")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {bad}: the file has neither `app` nor `workflow`")
    assert not (tmp_path / "made.py").exists()
    assert invoke("generate", tmp_path / "none.yml").exit_code == 2
    assert invoke("generate").exit_code == 2
    source_file = flow(tmp_path / "a.yml")
    before = source_file.read_text("utf-8")
    done = invoke("generate", source_file, "--output", source_file)
    assert done.exit_code == 2
    assert "was not generated by" in done.stderr
    assert source_file.read_text("utf-8") == before
    for _ in range(2):
        assert invoke("generate", source_file, "-o", "made.py").exit_code == 0
    done = invoke("generate", source_file, "-o", tmp_path / "no folder" / "made.py")
    assert (done.exit_code, "no folder" in done.stderr) == (1, True)


def test_what_a_trigger_begins_takes_no_inputs(tmp_path: Path, invoke: Invoke) -> None:
    file = flow(tmp_path / "triggered.yml")
    file.write_text(file.read_text("utf-8").replace("type: start", "type: trigger-schedule"), "utf-8")
    done = invoke("generate", file)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"Error: {file}: starts with a node of type trigger-schedule, so it has no form\n"


def branching(path: Path) -> Path:
    """start -> if-else -> (a | b) -> joined -> end, and a second end behind b."""
    text = code("def main():\n    return {'text': 'x', 'count': 1}", text="string", count="number")
    case = {"case_id": "true", "logical_operator": "and", "conditions": []}
    nodes: list[dict[str, Any]] = [
        {"id": "start", "type": "start", "variables": [field("query"), field("needed", required=True)]},
        {"id": "choose", "type": "if-else", "cases": [case]},
        {**text, "id": "a"},
        {**text, "id": "b"},
        {"id": "joined", "type": "variable-aggregator", "variables": [["a", "text"], ["b", "text"]]},
        {"id": "end", "type": "end", "outputs": ENDS},
        {"id": "other", "type": "end", "outputs": [*ENDS, {"variable": "only_here", "value_selector": ["b", "text"]}]},
    ]
    ways = [
        ("start", "source", "choose"),
        ("choose", "true", "a"),
        ("choose", "false", "b"),
        ("a", "source", "joined"),
        ("b", "source", "joined"),
        ("joined", "source", "end"),
        ("joined", "source", "other"),
    ]
    edges = [{"source": a, "sourceHandle": handle, "target": b} for a, handle, b in ways]
    shaped = [{"id": node["id"], "data": {k: v for k, v in node.items() if k != "id"}} for node in nodes]
    document = {
        "app": {"name": "branching", "mode": "workflow"},
        "kind": "app",
        "version": "0.5.0",
        "workflow": {"graph": {"nodes": shaped, "edges": edges}, "features": {}},
    }
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


ENDS = [
    {"variable": "query", "value_selector": ["start", "query"]},
    {"variable": "needed", "value_selector": ["start", "needed"]},
    {"variable": "often", "value_selector": ["a", "text"]},
    {"variable": "joined", "value_selector": ["joined", "output"]},
    {"variable": "count", "value_selector": ["b", "count"]},
    {"variable": "files", "value_selector": ["sys", "files"]},
    {"variable": "run", "value_selector": ["nowhere", "text"], "value_type": "string"},
    {"variable": "part", "value_selector": ["a", "text", "more"]},
    {"variable": "said", "value_selector": ["nowhere", "x"], "value_type": "boolean"},
]
