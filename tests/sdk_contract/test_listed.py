"""Both SDKs have a test for every line of `sdks/contract.md`, named after it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent.parent
_PYTHON = _ROOT / "tests" / "sdk_python"
_NODE = _ROOT / "sdks" / "node" / "test"
_NAME = r"[a-z]+\.[a-z0-9]+(?:-[a-z0-9]+)*"


def _guarantees() -> list[str]:
    lines = [line for line in (_ROOT / "sdks" / "contract.md").read_text().splitlines() if line.startswith("- `")]
    return [name for line in lines for name in re.findall(rf"(?:^- |· )`({_NAME})`", line)]


def test_every_guarantee_is_listed_once() -> None:
    guarantees = _guarantees()
    assert len(guarantees) > 80
    assert len(guarantees) == len(set(guarantees))


@pytest.mark.parametrize("name", _guarantees())
def test_python_has_a_test(name: str) -> None:
    text = "".join(path.read_text() for path in _PYTHON.glob("test_*.py"))
    assert re.search(rf"def test_{re.escape(re.sub('[.-]', '_', name))}\(", text), name


@pytest.mark.parametrize("name", _guarantees())
def test_node_has_a_test(name: str) -> None:
    text = "".join(path.read_text() for path in _NODE.glob("*.test.*"))
    assert re.search(rf"['\"`]{re.escape(name)}['\"` :]", text), name
