"""Both SDKs have a test for every line of `sdks/contract.md`, named by it, and none of a name that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent.parent
_PYTHON = _ROOT / "tests" / "sdk_python"
_NODE = _ROOT / "sdks" / "node" / "test"
_NAME = r"[a-z]+\.[a-z0-9]+(?:-[a-z0-9]+)*"


def _promised() -> list[str]:
    lines = [line for line in (_ROOT / "sdks" / "contract.md").read_text().splitlines() if line.startswith("- `")]
    return [name for line in lines for name in re.findall(rf"(?:^- |· )`({_NAME})`", line)]


def test_every_promise_is_made_once() -> None:
    promised = _promised()
    assert len(promised) > 80
    assert len(promised) == len(set(promised))


@pytest.mark.parametrize("name", _promised())
def test_python_keeps(name: str) -> None:
    text = "".join(path.read_text() for path in _PYTHON.glob("test_*.py"))
    assert re.search(rf"def test_{re.escape(re.sub('[.-]', '_', name))}\(", text), name


@pytest.mark.parametrize("name", _promised())
def test_node_keeps(name: str) -> None:
    text = "".join(path.read_text() for path in _NODE.glob("*.test.*"))
    assert re.search(rf"['\"`]{re.escape(name)}['\"` :]", text), name
