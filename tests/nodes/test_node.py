"""The contract of a node type, as a third party meets it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import pytest

import headrace.node
from headrace.errors import NodeError
from headrace.node import C, Config, ContainerNode, Context, Node, Result
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
        env={"MYPYPATH": str(source), "PATH": ""},
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
