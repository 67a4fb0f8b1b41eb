"""Segments and child chunks, and what can be done with documents once they are indexed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from headrace.errors import NodeError
from tests.api.knowledge import Bases, bases_in, on_both
from tests.api.knowledge import database_url as database_url
from tests.knowledge.knowledge_base import PARENTS

TEXT = "The pump starts when the valve is open.\n\nThe motor needs oil."
RULE = {"mode": "custom", "rules": {"segmentation": {"separator": "\n\n", "max_tokens": 100}}}
GOOD = {
    "indexing_technique": "high_quality",
    "embedding_model": "small",
    "embedding_model_provider": "langgenius/openai/openai",
}
NOBODY = str(uuid4())


@pytest.fixture
async def bases(tmp_path: Path, database_url: str) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path, database_url=database_url) as running:
        yield running


async def contents(bases: Bases, document: str, query: str = "") -> list[str]:
    return [item["content"] for item in (await bases.good("GET", f"{document}/segments{query}"))["data"]]


@on_both
async def test_segments_are_listed_added_changed_and_removed(bases: Bases):
    base = await bases.create()
    document = await bases.indexed(base, TEXT, process_rule=RULE)
    assert await contents(bases, document) == ["The pump starts when the valve is open.", "The motor needs oil."]
    assert await contents(bases, document, "?keyword=MOTOR") == ["The motor needs oil."]
    assert await contents(bases, document, "?limit=1&page=2") == ["The motor needs oil."]
    assert len(await contents(bases, document, "?status=completed&status=error")) == 2
    assert await contents(bases, document, "?status=waiting") == []
    body = {"segments": [{"content": "A filter keeps sand away.", "keywords": ["filter", "sand"]}]}
    added = await bases.good("POST", f"{document}/segments", json=body)
    [segment] = added["data"]
    assert (segment["position"], segment["status"], segment["keywords"]) == (3, "completed", ["filter", "sand"])
    path = f"{document}/segments/{segment['id']}"
    assert (await bases.good("GET", path))["data"] == segment
    changed = await bases.good("POST", path, json={"segment": {"content": "A sieve.", "keywords": ["sieve"]}})
    assert (changed["data"]["content"], changed["data"]["keywords"]) == ("A sieve.", ["sieve"])
    disabled = (await bases.good("POST", path, json={"segment": {"enabled": False}}))["data"]
    assert (disabled["enabled"], disabled["content"]) == (False, "A sieve.")
    refused = await bases.error("POST", path, json={"segment": {"content": "x"}})
    assert refused[:2] == (400, "invalid_param")
    await bases.good("DELETE", path)
    assert await bases.error("GET", path) == (404, "not_found", "Segment not found.")
    assert len(await contents(bases, document)) == 2


@on_both
async def test_a_segment_of_many_words_is_found_by_the_first_ones(bases: Bases):
    base = await bases.create(**GOOD)
    document = await bases.indexed(base, TEXT, process_rule=RULE)
    rare = "".join(chr(0x20000 + number * 7919 % 0xA000) for number in range(100_000))  # more than PostgreSQL indexes
    body: Any = {"segments": [{"content": rare}]}
    [segment] = (await bases.good("POST", f"{document}/segments", json=body))["data"]
    assert (segment["status"], segment["error"]) == ("completed", None)
    model = {"search_method": "full_text_search", "reranking_enable": False, "score_threshold_enabled": False}
    body = {"query": rare[:2], "retrieval_model": {**model, "top_k": 1}}
    result = await bases.good("POST", f"{base}/retrieve", json=body)
    assert [record["segment"]["id"] for record in result["records"]] == [segment["id"]]


@on_both
async def test_a_segment_is_found_by_a_long_keyword(bases: Bases):
    base = await bases.create()
    document = await bases.indexed(base, TEXT, process_rule=RULE)
    keyword = "".join(f"{number:x}" for number in range(3_000))  # more than an index of PostgreSQL has in a row
    body = {"segments": [{"content": "A filter.", "keywords": [keyword, "filter"]}]}
    [segment] = (await bases.good("POST", f"{document}/segments", json=body))["data"]
    assert (segment["status"], segment["keywords"]) == ("completed", [keyword, "filter"])
    result = await bases.good("POST", f"{base}/retrieve", json={"query": "filter"})
    assert [record["segment"]["id"] for record in result["records"]] == [segment["id"]]


async def test_only_files_of_the_workspace_are_attached(bases: Bases):
    document = await bases.indexed(await bases.create(), TEXT, process_rule=RULE)
    elsewhere = await bases.of("elsewhere")
    files = [
        (await those.upload("/datasets/pipeline/file-upload", b"content", "pump.md")).json["id"]
        for those in (bases, elsewhere)
    ]
    body = {"segments": [{"content": "A filter.", "attachment_ids": files}]}
    [segment] = (await bases.good("POST", f"{document}/segments", json=body))["data"]
    assert [file["id"] for file in segment["attachments"]] == files[:1]
    stored = await bases.good("GET", f"{document}/segments/{segment['id']}")
    assert [file["id"] for file in stored["data"]["attachments"]] == files[:1]


BAD: list[Any] = [
    {},
    {"segments": []},
    {"segments": [{}]},
    {"segments": [{"content": ""}]},
    {"segments": [{"content": " "}]},
    {"segments": [{"content": "x", "keywords": "y"}]},
    {"segments": [{"content": "x"}] * 1001},
    {"segments": [{"content": "good"}, {"content": 7}]},
]


@pytest.mark.parametrize("body", BAD, ids=lambda value: str(value)[:40])
async def test_segments_that_are_not_valid_are_not_added(bases: Bases, body: Any):
    document = await bases.indexed(await bases.create(), TEXT, process_rule=RULE)
    assert (await bases.error("POST", f"{document}/segments", json=body))[:2] == (400, "invalid_param")
    assert len(await contents(bases, document)) == 2


async def test_a_document_that_is_being_indexed_takes_no_segments(bases: Bases):
    base = await bases.create()
    document = f"{base}/documents/{(await bases.write(base))['document']['id']}"
    body = {"segments": [{"content": "x"}]}
    not_yet = (404, "not_found", "Document is not completed.")
    assert await bases.error("POST", f"{document}/segments", json=body) == not_yet


@on_both
async def test_documents_are_disabled_and_archived(bases: Bases):
    base = await bases.create()
    document = await bases.indexed(base, TEXT, process_rule=RULE)
    ids = {"document_ids": [document.rpartition("/")[2]]}

    async def states() -> tuple[str, bool, int]:
        detail, dataset = await bases.good("GET", document), await bases.good("GET", base)
        return detail["display_status"], detail["enabled"], dataset["total_available_documents"]

    assert await states() == ("available", True, 1)
    await bases.good("PATCH", f"{base}/documents/status/disable", json=ids)
    assert await states() == ("disabled", False, 0)
    await bases.good("PATCH", f"{base}/documents/status/enable", json=ids)
    await bases.good("PATCH", f"{base}/documents/status/archive", json=ids)
    assert (await states())[0] == "archived"
    assert (await bases.error("DELETE", document))[:2] == (403, "archived_document_immutable")
    refused = await bases.error("POST", f"{document}/update-by-text", json={"name": "x", "text": "y"})
    assert refused[:2] == (403, "archived_document_immutable")
    await bases.good("PATCH", f"{base}/documents/status/un_archive", json=ids)
    assert await states() == ("available", True, 1)
    unknown = await bases.error("PATCH", f"{base}/documents/status/burn", json=ids)
    assert unknown == (400, "invalid_action", "Invalid action.")
    await bases.good("DELETE", document)
    assert (await bases.good("GET", f"{base}/documents"))["total"] == 0


@on_both
async def test_a_document_is_changed_by_text_and_by_file(bases: Bases):
    base = await bases.create()
    document = await bases.indexed(base, TEXT, process_rule=RULE)
    no_name = (400, "invalid_param", "name is required when text is provided.")
    assert await bases.error("POST", f"{document}/update-by-text", json={"text": "x"}) == no_name
    changed = await bases.good("POST", f"{document}/update_by_text", json={"name": "new", "text": "Other words."})
    assert (changed["document"]["name"], changed["document"]["indexing_status"]) == ("new", "waiting")
    busy = (400, "invalid_param", "Document is not available")
    assert await bases.error("POST", f"{document}/update-by-text", json={"name": "a", "text": "b"}) == busy
    await bases.index()
    assert await contents(bases, document) == ["Other words."]
    uploaded = await bases.upload(document, b"From a file.", "file.txt", "PATCH")
    assert (uploaded.status, uploaded.json["document"]["name"]) == (200, "file.txt")
    await bases.index()
    assert await contents(bases, document) == ["From a file."]
    again = await bases.upload(f"{document}/update-by-file", b"Again.", "again.md")
    assert again.json["batch"]
    await bases.index()
    replaced = await bases.write(base, "Once more.", original_document_id=document.rpartition("/")[2])
    assert replaced["document"]["id"] == document.rpartition("/")[2]
    await bases.index()
    assert await contents(bases, document) == ["Once more."]
    assert (await bases.good("GET", f"{base}/documents"))["total"] == 1


@on_both
async def test_child_chunks(bases: Bases):
    base = await bases.create(**GOOD)
    text = "Pumps.\nThey need oil.\n\nMotors.\nThey need power."
    document = await bases.indexed(base, text, doc_form="hierarchical_model", process_rule=PARENTS)
    [first, _] = (await bases.good("GET", f"{document}/segments"))["data"]
    assert [chunk["content"] for chunk in first["child_chunks"]] == ["Pumps.", "They need oil."]
    path = f"{document}/segments/{first['id']}/child_chunks"
    listed = await bases.good("GET", f"{path}?limit=1&keyword=oil")
    assert ([item["content"] for item in listed["data"]], listed["total"], listed["total_pages"]) == (
        ["They need oil."],
        1,
        1,
    )
    added = (await bases.good("POST", path, json={"content": "And water."}))["data"]
    assert (added["position"], added["type"], added["word_count"]) == (3, "customized", 10)
    changed = (await bases.good("PATCH", f"{path}/{added['id']}", json={"content": "And clean water."}))["data"]
    assert (changed["id"], changed["content"]) == (added["id"], "And clean water.")
    assert ["And clean water."] in bases.embeddings.calls
    await bases.good("DELETE", f"{path}/{added['id']}")
    gone = (404, "not_found", "Child chunk not found.")
    for id_ in (added["id"], NOBODY):
        assert await bases.error("PATCH", f"{path}/{id_}", json={"content": "x"}) == gone
        assert await bases.error("DELETE", f"{path}/{id_}") == gone
    for body in ({}, {"content": ""}, {"content": 7}):
        assert (await bases.error("POST", path, json=body))[:2] == (400, "invalid_param")


@on_both
async def test_questions_and_answers(bases: Bases):
    base = await bases.create(**GOOD)
    document = await bases.indexed(base, TEXT, doc_form="qa_model", process_rule=RULE)
    [first, _] = (await bases.good("GET", f"{document}/segments"))["data"]
    assert (first["content"], first["answer"] is not None) == ("What?", True)
    without = {"segments": [{"content": "Why?"}]}
    assert (await bases.error("POST", f"{document}/segments", json=without))[:2] == (400, "invalid_param")
    body = {"segments": [{"content": "Why?", "answer": "Because."}]}
    [added] = (await bases.good("POST", f"{document}/segments", json=body))["data"]
    assert (added["content"], added["answer"]) == ("Why?", "Because.")


async def test_a_model_that_fails_is_reported(bases: Bases):
    def fails(texts: Any) -> None:
        raise NodeError("The model is gone.", "InvokeBadRequestError")

    base = await bases.create(**GOOD)
    bases.embeddings.before = fails
    created = await bases.write(base)
    await bases.index()
    [status] = (await bases.good("GET", f"{base}/documents/{created['batch']}/indexing-status"))["data"]
    assert (status["indexing_status"], status["error"]) == ("error", "The model is gone.")
    missing = {**GOOD, "name": "x", "embedding_model_provider": "unknown"}
    assert (await bases.error("POST", "/datasets", json=missing))[:2] == (400, "provider_not_initialize")
