"""The contract of a node type, as a third party meets it."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import pytest
from pydantic import Field

import headrace.node
from headrace.apps.requirements import missing_requirements
from headrace.cli.generating.outputs import output_fields
from headrace.dsl.load import inspect as inspect_file
from headrace.errors import NodeError
from headrace.node import SELECTOR, C, Config, ContainerNode, Context, Node, OutputType, Result, SelectorField
from headrace.nodes import registry
from headrace.ports.services import Resources
from tests.engine.worlds import NOTHING
from tests.nodes.plain import run

D = TypeVar("D", bound=Config)
E = TypeVar("E")


class GreetConfig(Config):
    name: str = "you"


class Greeting(Node[D]):
    async def run(self, ctx: Context) -> Result:
        return Result({})


class Greet(Greeting[GreetConfig]):
    type = "greet"


class Politely(Greet):
    type = "greet-politely"


class Paired(Greeting[C], Generic[E, C]):
    pass


class Pair(Paired[int, GreetConfig]):
    type = "pair"


def example() -> str:
    """The example in the docstring of `headrace.node`, with the imports that it needs."""
    documentation = inspect.getdoc(headrace.node) or ""
    code = [line for line in documentation.splitlines() if not line or line.startswith("    ")]
    return "from headrace.errors import NodeError\nfrom headrace.node import Config, Context, Node, Result\n" + (
        textwrap.dedent("\n".join(code))
    )


async def test_the_example_in_the_docstring_runs():
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example(), "example", "exec", dont_inherit=True), names)
    shout = cast("type[Node[Config]]", names["Shout"])
    assert shout.Config is names["ShoutConfig"]
    result = await run(shout, {"text": "hello {{#start.name#}}"}, {"start": {"name": "Ann"}})
    assert result == Result({"text": "HELLO ANN"}, inputs={"text": "hello Ann"})
    with pytest.raises(NodeError, match="nothing to shout") as failed:
        await run(shout, {"text": ""})
    assert failed.value.kind == "EmptyText"


def test_type_checkers_see_the_config_of_the_example(tmp_path: Path):
    probe = "\n\ndef probe(node: Shout) -> None:\n    reveal_type(node.config.text)\n    node.config.txet\n"
    (tmp_path / "shout.py").write_text(example() + probe)
    (tmp_path / "mypy.ini").write_text("[mypy]\n")
    source = Path(headrace.node.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports", "silent", "shout.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(source), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Revealed type is "str"' in done.stdout.replace("builtins.", ""), done.stdout + done.stderr
    assert '"ShoutConfig" has no attribute "txet"' in done.stdout
    assert "Found 1 error" in done.stdout


@pytest.mark.parametrize("cls", [Greet, Politely, Pair])
def test_the_config_is_found_through_generic_bases(cls: type[Node[Config]]):
    assert cls.Config is GreetConfig


def test_a_subclass_of_a_node_type_may_narrow_its_config():
    class NamedConfig(GreetConfig):
        name: str

    class GreetByName(Greet):
        Config = NamedConfig

    assert GreetByName.Config is NamedConfig


def test_a_class_that_is_generic_still_has_no_config():
    assert not hasattr(Greeting, "Config")
    assert not hasattr(ContainerNode, "Config")


def test_a_class_without_a_type_argument_is_named():
    with pytest.raises(TypeError, match=r"Bare must name its config model, as in Node\[BareConfig\]"):

        class Bare(Node):  # pyright: ignore[reportMissingTypeArgument, reportUnusedClass]
            async def run(self, ctx: Context) -> Result:
                return Result({})


def test_a_type_argument_that_is_not_a_config_model_is_refused():
    with pytest.raises(TypeError, match="Wrong must name its config model"):

        class Wrong(Node[int]):  # pyright: ignore[reportInvalidTypeArguments, reportUnusedClass]
            async def run(self, ctx: Context) -> Result:
                return Result({})


class Quote(Config):
    source: SelectorField
    sources: Annotated[list[list[str]], SELECTOR] = Field(default_factory=list[list[str]])
    optional: SelectorField | None = None
    names: Sequence[str] = ()


class CollectConfig(Config):
    text: str = ""
    quotes: Sequence[Quote] = ()


class Collect(Node[CollectConfig]):
    type = "collect"

    async def run(self, ctx: Context) -> Result:
        return Result({})

    def outputs_schema(self) -> Mapping[str, OutputType]:
        return {"text": OutputType("string")}

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        return ("set COLLECT_KEY",)


def test_a_node_reads_its_selectors_and_what_its_texts_refer_to():
    quote = {"source": ["a", "x"], "sources": [["b", "y"], ["c", "z"]], "optional": ["d", "v"], "names": ["e", "w"]}
    config = CollectConfig.model_validate({"text": "{{#f.u#}} and {{#g.t.k#}}", "quotes": [quote]})
    assert [*Collect(config).reads()] == [
        (("f", "u"), ("text",)),
        (("g", "t", "k"), ("text",)),
        (("a", "x"), ("quotes", 0, "source")),
        (("b", "y"), ("quotes", 0, "sources", 0)),
        (("c", "z"), ("quotes", 0, "sources", 1)),
        (("d", "v"), ("quotes", 0, "optional")),
    ]


APP = """
app: {mode: workflow, name: x}
workflow:
  graph:
    nodes:
      - {id: start, data: {type: start, title: Start, variables: []}}
      - {id: c, data: {type: collect, title: Collect, quotes: [{source: [gone, x]}]}}
      - {id: end, data: {type: end, title: End, outputs: [{variable: a, value_selector: [c, text]},
          {variable: b, value_selector: [c, words]}]}}
    edges: [{source: start, target: c}, {source: c, target: end}]
"""


def test_lint_and_generate_use_what_a_third_party_says():
    flow, problems = inspect_file(APP, {**registry(()), "collect": Collect})  # pyright: ignore[reportArgumentType]
    assert flow is not None
    assert [(problem.node, problem.field, problem.message) for problem in problems] == [
        ("Collect", "quotes.0.source", "'gone.x' is read, but there is no node 'gone'"),
        ("End", "outputs.1.value_selector", "'c.words' is read, but 'Collect' has no output 'words'"),
    ]
    [missing] = missing_requirements(flow, NOTHING)
    assert (missing.node, missing.message) == ("Collect", "set COLLECT_KEY")
    assert [(field.name, field.type) for field in output_fields(flow)] == [("a", "str"), ("b", "Any")]


# -------------------------------------------------------------------------------- nobody else knows them by their names

SOURCE = Path(headrace.node.__file__).parent
BASIC_APPS = SOURCE / "dsl" / "basic_apps.py"  # writes a graph in Dify's format: the names are that format's
ORDINARY_WORDS = {"agent", "start", "end", "answer", "code", "loop", "iteration", "assigner", "tool"}
# Dify's name for a parameter that a model fills in is `llm`, and so is that of a kind of models, for plugins and in the
# API of knowledge bases
OF_TOOLS = ("ports/services/tool*.py", "adapters/tools/**/*.py")
OF_PLUGINS = ("adapters/plugins/**/*.py", "adapters/models/plugin*.py", "api/http/params.py")


def names_of_node_types(file: Path) -> Iterator[str]:
    """The node types that a module has by name. Of those that are words of every day, only where a type is compared."""
    types = registry(()).keys()
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in types - ORDINARY_WORDS:
            yield f"{file.relative_to(SOURCE)}:{node.lineno}: {node.value}"
        elif isinstance(node, ast.Compare) and any(
            isinstance(item, ast.Attribute) and item.attr in ("type", "node_type") for item in ast.walk(node)
        ):
            compared = [item for item in ast.walk(node) if isinstance(item, ast.Constant)]
            yield from (
                f"{file.relative_to(SOURCE)}:{item.lineno}: {item.value}" for item in compared if item.value in types
            )


def test_only_the_nodes_know_node_types_by_name():
    examples = [file for file in SOURCE.rglob("*.py") if file.stem.endswith("_docs") or file.parent.name == "schemas"]
    of_others = [file for pattern in OF_TOOLS + OF_PLUGINS for file in SOURCE.glob(pattern)]
    exempt = {*examples, *of_others, *(SOURCE / "nodes").rglob("*.py"), BASIC_APPS}
    files = [file for file in SOURCE.rglob("*.py") if file not in exempt]
    assert [name for file in files for name in names_of_node_types(file)] == []


def test_a_comparison_with_a_node_type_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    file = tmp_path / "module.py"
    file.write_text('a = spec.type == "loop"\nb = {"llm"}\nc = {"end": 1}\nd = spec.type in ("end", "x")\n')
    assert [*names_of_node_types(file)] == ["module.py:1: loop", "module.py:4: end", "module.py:2: llm"]
