"""Documentation that follows from the code, does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from headrace.kernel.graph import BODY_STARTS
from headrace.nodes import registry
from tests.official.described import ALL
from tests.official.ours import HERE

ROOT = Path(__file__).parents[2]
COMPATIBILITY = (ROOT / "docs" / "compatibility.md").read_text("utf-8")


def test_what_is_generated_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for file, text in generate.generated().items():
        assert file.read_text("utf-8") == text, f"{file.name} is out of date: make docs"


def told(name: str) -> dict[str, str]:
    """What the page says of each row of a table: done, partial or not."""
    table = COMPATIBILITY.partition(f"<!-- {name}:")[2].partition("<!-- end of")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (done|partial|not) \|", table, re.MULTILINE))


def test_every_node_type_that_runs_is_said_to():
    there = {name for name, state in told("nodes").items() if state != "not"}
    assert there == {*registry(()), *BODY_STARTS}


def test_every_endpoint_that_answers_is_said_to():
    there = {name for name, state in told("endpoints").items() if state != "not"}
    assert there == {f"{each.method} /v1{each.path}" for each in HERE}
    assert set(told("knowledge").values()) == {"not"}
    assert len(told("endpoints")) + len(told("knowledge")) == len(ALL)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
