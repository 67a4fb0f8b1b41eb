"""`/v1/datasets/{dataset_id}/retrieve`: what a search finds, in Dify's form."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import NodeError
from tests.api.knowledge import Bases, bases_in, on_both
from tests.api.knowledge import database_url as database_url
from tests.api.test_dataset_segments import GOOD, RULE, TEXT
from tests.knowledge.knowledge_base import PARENTS

SETTINGS = {
    "search_method": "semantic_search",
    "reranking_enable": False,
    "top_k": 2,
    "score_threshold_enabled": False,
}


@pytest.fixture
async def bases(tmp_path: Path, database_url: str) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path, database_url=database_url) as running:
        yield running


async def search(bases: Bases, base: str, query: str, **body: Any) -> list[str]:
    records = (await bases.good("POST", f"{base}/retrieve", json={"query": query, **body}))["records"]
    return [record["segment"]["content"] for record in records]


@on_both
async def test_keywords_find_segments(bases: Bases):
    base = await bases.create()
    document = await bases.indexed(base, TEXT, process_rule=RULE)
    answer = await bases.good("POST", f"{base}/hit-testing", json={"query": "Which motor?"})
    assert answer["query"] == {"content": "Which motor?"}
    [record] = answer["records"]
    assert (record["segment"]["content"], record["score"]) == ("The motor needs oil.", None)
    assert record["segment"]["document"]["name"] == "pump.md"
    assert await search(bases, base, "unicorn") == []
    assert (await bases.good("GET", document))["hit_count"] == 1


@on_both
async def test_what_is_disabled_or_archived_is_not_found(bases: Bases):
    base = await bases.create()
    document = await bases.indexed(base, TEXT, process_rule=RULE)
    ids = {"document_ids": [document.rpartition("/")[2]]}
    for action, undo in (("disable", "enable"), ("archive", "un_archive")):
        await bases.good("PATCH", f"{base}/documents/status/{action}", json=ids)
        assert await search(bases, base, "motor") == []
        await bases.good("PATCH", f"{base}/documents/status/{undo}", json=ids)
        assert await search(bases, base, "motor") == ["The motor needs oil."]
    segment = (await bases.good("GET", f"{document}/segments?keyword=motor"))["data"][0]["id"]
    await bases.good("POST", f"{document}/segments/{segment}", json={"segment": {"enabled": False}})
    assert await search(bases, base, "motor") == []


@on_both
async def test_metadata_chooses_documents(bases: Bases):
    base = await bases.create()
    field = (await bases.good("POST", f"{base}/metadata", json={"type": "string", "name": "language"}))["id"]
    for language in ("en", "de"):
        document = await bases.indexed(base, f"The motor in {language}.", f"{language}.md")
        entry = {"id": field, "name": "language", "value": language}
        operation = {"document_id": document.rpartition("/")[2], "metadata_list": [entry]}
        await bases.good("POST", f"{base}/documents/metadata", json={"operation_data": [operation]})
    conditions = {"conditions": [{"name": "language", "comparison_operator": "is", "value": "de"}]}
    model = {**SETTINGS, "metadata_filtering_conditions": conditions}
    assert await search(bases, base, "motor", retrieval_model=model) == ["The motor in de."]
    assert len(await search(bases, base, "motor")) == 2


@on_both
async def test_child_chunks_find_their_segment(bases: Bases):
    base = await bases.create(**GOOD)
    text = "Pumps.\nThey need oil.\n\nMotors.\nThey need power."
    await bases.indexed(base, text, doc_form="hierarchical_model", process_rule=PARENTS)
    answer = await bases.good("POST", f"{base}/retrieve", json={"query": "oil", "retrieval_model": SETTINGS})
    for record in answer["records"]:
        assert record["score"] == max(chunk["score"] for chunk in record["child_chunks"])
    assert len({record["segment"]["id"] for record in answer["records"]}) == len(answer["records"]) > 0


BAD: list[tuple[Any, str]] = [
    ({}, "query: "),
    ({"query": 7}, "query: "),
    ({"query": "x" * 251}, "query: "),
    ({"query": "x", "retrieval_model": {"search_method": "magic"}}, "retrieval_model."),
    ({"query": "x", "retrieval_model": {**SETTINGS, "top_k": 0}}, "retrieval_model.top_k: "),
    ({"query": "x", "retrieval_model": {**SETTINGS, "metadata_filtering_conditions": {"conditions": [{}]}}}, "ret"),
]


@pytest.mark.parametrize(("body", "where"), BAD, ids=lambda value: str(value)[:40])
async def test_what_is_no_search(bases: Bases, body: Any, where: str):
    status, code, message = await bases.error("POST", f"{await bases.create()}/retrieve", json=body)
    assert (status, code) == (400, "invalid_param")
    assert message.startswith(where), message


async def test_a_base_without_documents_has_nothing(bases: Bases):
    assert await search(bases, await bases.create(), "motor") == []
    assert await search(bases, await bases.create("Open", indexing_technique=None), "motor") == []


async def test_a_model_that_fails_is_named(bases: Bases):
    base = await bases.create(**GOOD)
    await bases.indexed(base, TEXT, process_rule=RULE)

    def fails(texts: Any) -> None:
        raise NodeError("The model is gone.", "InvokeBadRequestError")

    bases.embeddings.before = fails
    refused = await bases.error("POST", f"{base}/retrieve", json={"query": "motor"})
    assert refused == (400, "completion_request_error", "The model is gone.")
