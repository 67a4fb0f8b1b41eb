"""The Node.js there are for the tests: on the PATH and of the extra. Where one lacks, its tests say loudly so."""

import shutil
import sys

import pytest

from headrace.adapters.sandbox import LocalSandbox, node_program
from headrace.adapters.sandbox.node import NodePool
from headrace.adapters.sandbox.node_program import NodeProgram, NoNode
from headrace.adapters.sandbox.workers import MEGABYTE

WHERE = ("path", "extra")


def program(where: str) -> NodeProgram:
    """Skips the test where there is none."""
    if sys.platform != "linux":
        pytest.skip("Node.js is confined on Linux only")
    path = shutil.which("node") if where == "path" else node_program.bundled()
    if path is None:
        pytest.skip(f"NOT TESTED: there is no Node.js ({where}); install Node.js 20 or later, or headrace[node]")
    node = node_program.inspect(path)
    if node.major < node_program.OLDEST:
        pytest.skip(f"NOT TESTED: {path} is Node.js {node.version}")
    return node


def any_program() -> NodeProgram:
    """Whatever is found. Skips the test where there is none."""
    try:
        return node_program.find_node()
    except NoNode as error:
        pytest.skip(f"NOT TESTED: {error}")


def no_program() -> NodeProgram:
    raise NoNode("there is no Node.js on the PATH")


def without_node(memory: int = 256 * MEGABYTE) -> LocalSandbox:
    """A sandbox as it is where Node.js lacks."""
    return LocalSandbox(memory=memory, node=NodePool(find=no_program))
