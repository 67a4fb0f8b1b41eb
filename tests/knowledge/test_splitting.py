"""Chunks are those of Dify's splitters.

`chunks.json` has texts and the chunks that Dify makes of them; `dify_chunks.jsonl` the same for whole rules, with
cleaning, parents and children, and for the answers of a model that writes questions. Three things differ on purpose:
separators outside ASCII work, a part without full stops keeps its blanks, and the letters that Dify takes for bytes
stay.
"""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import HeadraceError
from headrace.knowledge.process_rules import split
from headrace.knowledge.questions import pairs_in
from headrace.knowledge.splitting import split_automatic, split_custom, split_into_parents
from headrace.ports.knowledge import ProcessRule

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "chunks.json").read_text("utf-8"))
RULES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "dify_chunks.jsonl").read_text("utf-8").split("\n") if line
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_chunks_are_those_of_dify(case: dict[str, Any]) -> None:
    if case["mode"] == "automatic":
        chunks = split_automatic(case["text"])
    else:
        split_fixed = split_custom if case["mode"] == "custom" else split_into_parents
        chunks = split_fixed(case["text"], case["separator"], case["size"], case["overlap"])
    assert list(chunks) == case["chunks"]


@pytest.mark.parametrize("number", range(len(RULES)))
def test_documents_have_the_chunks_that_dify_gives_them(number: int) -> None:
    case = RULES[number]
    if case["mode"] == "questions":
        assert [list(pair) for pair in pairs_in(case["text"])] == case["chunks"]
        return
    pieces = list(split(case["text"], rule(case), "hierarchical_model" if "children" in case else "text_model"))
    if "children" in case:
        assert [[piece.content, list(piece.children)] for piece in pieces] == case["chunks"]
    else:
        assert [piece.content for piece in pieces] == case["chunks"]


def rule(case: dict[str, Any]) -> ProcessRule:
    rules: dict[str, Any] = {"pre_processing_rules": [{"id": name, "enabled": True} for name in case["cleaning"]]}
    for name, key in (("segmentation", "segmentation"), ("subchunk_segmentation", "children")):
        if key in case:
            separator, size, overlap = case[key]
            rules[name] = {"separator": separator, "max_tokens": size, "chunk_overlap": overlap}
    rules["parent_mode"] = case.get("parent_mode")
    return ProcessRule("rule", case["mode"], rules)


@pytest.mark.parametrize(
    ("separator", "text"),
    [
        ("。", "一。二"),
        ("\\u3002", "一。二"),
        ("\\x2a", "一*二"),
        ("\\\\", "一\\二"),
        ("\\d", "一\\d二"),  # no escape sequence
        ("\\", "一\\二"),
        ("\\U00110000", "一\\U00110000二"),  # no character
    ],
)
def test_separators_may_be_escape_sequences_and_of_any_script(separator: str, text: str) -> None:
    assert list(split_custom(text, separator, 50, 0)) == ["一", "二"]


def test_a_part_without_full_stops_keeps_its_blanks() -> None:
    words = " ".join(f"word{number}" for number in range(30))
    assert " ".join(split_custom(words, "\\n\\n", 50, 0)) == words


@pytest.mark.parametrize(("size", "overlap"), [(49, 0), (4001, 0), (0, 0), (-1, 0), (100, 101), (100, -1)])
def test_sizes_out_of_bounds_are_errors(size: int, overlap: int) -> None:
    with pytest.raises(HeadraceError, match=r"between 50 and 4000|between 0 and the chunk size"):
        list(split_custom("text", "\n\n", size, overlap))


HOSTILE = ["a" * 1_000_000, "a " * 500_000, ". " * 500_000, "\n" * 1_000_000, "。" * 1_000_000, "\n\n " * 300_000]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("overlap", [0, 50, 500])
def test_a_hostile_text_takes_time_in_proportion_to_its_length(text: str, overlap: int) -> None:
    began = time.process_time()
    deque(split_custom(text, "###", 4000, overlap), maxlen=0)
    deque(split_automatic(text), maxlen=0)
    assert time.process_time() - began < 60  # about 1 s


def test_chunks_that_multiply_a_text_are_an_error() -> None:
    with pytest.raises(HeadraceError, match="too many chunks"):
        deque(split_custom("。" * 1_000_000, "###", 4000, 4000), maxlen=0)
