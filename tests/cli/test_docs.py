"""The generated parts of the documentation are up to date, and its links work."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from headrace.cli import cli
from headrace.nodes import registry
from tests.official.described import ALL
from tests.official.ours import HERE, KNOWLEDGE

ROOT = Path(__file__).parents[2]
COMPATIBILITY = (ROOT / "docs" / "compatibility.md").read_text("utf-8")


def test_what_is_generated_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for file, text in generate.generated().items():
        assert file.read_text("utf-8") == text, f"{file.name} is out of date; run `make docs`"


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


@pytest.mark.parametrize("command", [*commands(cli)], ids=lambda command: command.name)
def test_the_summary_of_a_command_is_a_sentence(command: click.Command):
    summary = command.get_short_help_str(80)
    assert re.fullmatch(r"[A-Z]\w*s\b.*[^.]\.", summary), summary


def rows(name: str) -> dict[str, str]:
    """The support of each row of a table: done, partial or not."""
    table = COMPATIBILITY.partition(f"<!-- {name}:")[2].partition("<!-- end of")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (done|partial|not) \|", table, re.MULTILINE))


def test_every_node_type_is_listed():
    supported = {name for name, state in rows("nodes").items() if state != "not"}
    assert supported == {*registry(())}


def test_every_endpoint_is_listed():
    supported = {name for name, state in rows("endpoints").items() if state != "not"}
    assert supported == {f"{operation.method} /v1{operation.path}" for operation in HERE}
    supported = {name for name, state in rows("knowledge").items() if state != "not"}
    assert supported == {f"{operation.method} /v1{operation.path}" for operation in KNOWLEDGE}
    assert len(rows("endpoints")) + len(rows("knowledge")) == len(ALL)


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text("utf-8")):
        if "://" not in target:
            linked = page.parent / target if target else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_every_page_is_listed():
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")


def test_the_chinese_readme_has_the_same_examples_and_links():
    """Only the comments of its examples are translated."""
    english, chinese = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh-Hant.md"))

    def commands(text: str) -> list[str]:
        blocks = re.findall(r"```(?:sh|python)\n(.*?)```", text, re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines() if not line.startswith("#")]
        return [re.sub(r" +# .*", "", line) for line in lines]

    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-Hant.md"}

    assert commands(chinese) == commands(english)
    assert links(chinese) == links(english)
