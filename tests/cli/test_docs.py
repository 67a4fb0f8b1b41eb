"""Documentation that follows from the code, does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from headrace.api.app import create_app
from headrace.nodes import registry

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


def test_every_node_type_that_runs_is_said_to():
    done = set(re.findall(r"^\| `([\w-]+)` \| done", COMPATIBILITY, re.MULTILINE))
    assert done == set(registry(()))


def test_every_endpoint_that_answers_is_said_to():
    told = dict(re.findall(r"^\| `((?:GET|POST) /v1/\S+)` \| (done|not yet)", COMPATIBILITY, re.MULTILINE))
    paths = create_app(None, None, None).openapi()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if method != "head"}
    assert told.keys() == {each for each in there if " /v1/" in each}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
