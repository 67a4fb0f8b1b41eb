"""The decisions are numbered without gaps, and what refers to one by its number refers to the file of that number."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


def test_the_numbers_of_decisions_are_unique_and_contiguous() -> None:
    assert [path.name[:5] for path in DECISIONS] == [f"{number:04d}-" for number in range(1, len(DECISIONS) + 1)]


def test_a_decision_has_the_number_of_its_file_in_its_title() -> None:
    wrong = [path.name for path in DECISIONS if not path.read_text("utf-8").startswith(f"# {int(path.name[:4])}. ")]
    assert not wrong


def test_references_to_decisions_are_right() -> None:
    numbers = {path.name: int(path.name[:4]) for path in DECISIONS}
    texts = {path: path.read_text("utf-8") for path in DOCS.rglob("*.md")}
    links = [
        (path.name, int(number), target)
        for path, text in texts.items()
        for number, target in re.findall(r"\[[Dd]ecision\s+(\d+)\]\((?:decisions/)?(\d{4}-[^)#]+)", text)
    ]
    assert links
    assert not [link for link in links if numbers.get(link[2]) != link[1]]
    mentions = [int(number) for text in texts.values() for number in re.findall(r"\b[Dd]ecision\s+(\d+)", text)]
    assert set(mentions) <= set(numbers.values())
