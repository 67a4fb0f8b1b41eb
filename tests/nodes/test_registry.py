"""The node types there are: Headrace's own, and those of installed plugins."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from headrace.errors import HeadraceError
from headrace.node import Config, Context, Node, Result
from headrace.nodes import GROUP, registry

OWN = {
    "start",
    "end",
    "llm",
    "if-else",
    "code",
    "template-transform",
    "http-request",
    "variable-aggregator",
    "variable-assigner",
}


class Upper(Node[Config]):
    type = "upper"

    async def run(self, ctx: Context) -> Result:
        return Result({})


class Usurper(Upper):
    type = "llm"


class Nameless(Upper):
    type = ""


def plugin(value: str) -> EntryPoint:
    return EntryPoint("any", value if ":" in value else f"{__name__}:{value}", GROUP)


def test_own_types_are_known_by_their_names():
    known = registry(())
    assert known.keys() >= OWN
    assert all(name == node_class.type for name, node_class in known.items())


def test_a_plugin_brings_a_type():
    assert registry([plugin("Upper")])["upper"] is Upper


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Usurper", "Usurper: the node type 'llm' already exists"),
        ("Nameless", "Nameless is not a node type"),
        ("OWN", "OWN is not a node type"),
        ("Nobody", "Nobody cannot be imported: AttributeError"),
        ("no_such_module_anywhere:X", "no_such_module_anywhere:X cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_broken_plugin_is_named(value: str, message: str):
    with pytest.raises(HeadraceError, match=message):
        registry([plugin(value)])


def test_two_plugins_of_one_name_clash():
    with pytest.raises(HeadraceError, match="the node type 'upper' already exists"):
        registry([plugin("Upper"), plugin("Upper")])


def test_nothing_is_imported_before_somebody_asks():
    program = "import sys, headrace.nodes; sys.exit(any(name.startswith('headrace.nodes.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
