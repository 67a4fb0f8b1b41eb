"""Knowledge bases: the official description, held against ours and against the responses of one that is used."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.api.knowledge import Bases, bases_in
from tests.official.described import ALL, Described, SchemaCheck
from tests.official.ours import KNOWLEDGE, ours
from tests.official.test_official import as_documented

BY_NAME = {item.name: item for item in KNOWLEDGE}
BASE, DOCUMENT = "/datasets/{dataset_id}", "/datasets/{dataset_id}/documents/{document_id}"
SEGMENT = f"{DOCUMENT}/segments/{{segment_id}}"

# Statuses of the official description that no response here has: limits are refused with 429, embedding models are
# checked before anything is stored, so that nothing that only reads or removes needs one, and a search that fails says
# why with 400.
NEVER = {
    "POST /datasets": {403},
    f"GET {SEGMENT}": {400},
    f"DELETE {SEGMENT}": {400},
    f"DELETE {SEGMENT}/child_chunks/{{child_chunk_id}}": {400},
    f"POST {BASE}/retrieve": {500},
    f"POST {BASE}/pipeline/run": {500},
}
# Fields that are null in Dify, too, where the description has a type without null.
NULL = {"data_source_type", "author_name", "doc_form", "external_knowledge_info", "external_retrieval_model"}
NULL |= {"icon_info", "summary_index_setting", "embedding_model", "embedding_model_provider", "updated_by"}
NULL |= {"reranking_model", "weights", "score_threshold", "answer", "tsne_position", "doc_metadata", "score"}


@pytest.fixture
async def bases(tmp_path: Path) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path) as running:
        yield running


def test_all_operations_are_here():
    described = [item for item in ALL if "/datasets" in item.path or "/model-types/" in item.path]
    assert {item.name for item in described} == BY_NAME.keys()
    assert len(described) > 40


@pytest.mark.parametrize("operation", KNOWLEDGE, ids=lambda item: item.name)
def test_it_is_described_as_officially(operation: Described):
    assert as_documented(operation) == set()
    mine = ours(operation)
    assert mine is not None
    assert operation.answers.keys() - {int(status) for status in mine["responses"]} == NEVER.get(operation.name, set())


async def test_responses_are_as_described(bases: Bases):
    """Each operation that returns something, once it has something to return."""
    checks: dict[str, SchemaCheck] = {}

    async def good(name: str, path: str, **request: Any) -> Any:
        operation = BY_NAME[name]
        body = await bases.good(operation.method, path, **request)
        checks.setdefault(name, SchemaCheck()).value(operation.answers[operation.good]["application/json"], body)
        return body

    created = await good("POST /datasets", "/datasets", json={"name": "Manuals", "indexing_technique": "economy"})
    base = f"/datasets/{created['id']}"
    field = await good(f"POST {BASE}/metadata", f"{base}/metadata", json={"type": "string", "name": "language"})
    await good(f"PATCH {BASE}/metadata/{{metadata_id}}", f"{base}/metadata/{field['id']}", json={"name": "lang"})
    tag = await good("POST /datasets/tags", "/datasets/tags", json={"name": "product"})
    await bases.good("POST", "/datasets/tags/binding", json={"tag_ids": [tag["id"]], "target_id": created["id"]})
    await good("PATCH /datasets/tags", "/datasets/tags", json={"tag_id": tag["id"], "name": "device"})
    text = {"name": "pump.md", "text": "The pump starts.", "process_rule": {"mode": "automatic"}}
    written = await good(f"POST {BASE}/document/create-by-text", f"{base}/document/create-by-text", json=text)
    document = f"{base}/documents/{written['document']['id']}"
    await bases.index()
    entry = {"id": field["id"], "name": "lang", "value": "en"}
    operation = {"document_id": written["document"]["id"], "metadata_list": [entry]}
    await good(f"POST {BASE}/documents/metadata", f"{base}/documents/metadata", json={"operation_data": [operation]})
    segments = {"segments": [{"content": "A filter.", "keywords": ["filter"]}]}
    added = await good(f"POST {DOCUMENT}/segments", f"{document}/segments", json=segments)
    segment = f"{document}/segments/{added['data'][0]['id']}"
    await good(f"POST {SEGMENT}", segment, json={"segment": {"content": "A sieve."}})
    for name, path in (
        ("GET /datasets", "/datasets"),
        (f"GET {BASE}", base),
        ("GET /datasets/tags", "/datasets/tags"),
        (f"GET {BASE}/tags", f"{base}/tags"),
        (f"GET {BASE}/metadata", f"{base}/metadata"),
        (f"GET {BASE}/metadata/built-in", f"{base}/metadata/built-in"),
        (f"GET {BASE}/documents", f"{base}/documents"),
        (f"GET {DOCUMENT}", document),
        (f"GET {DOCUMENT}/download", f"{document}/download"),
        (f"GET {BASE}/documents/{{batch}}/indexing-status", f"{base}/documents/{written['batch']}/indexing-status"),
        (f"GET {DOCUMENT}/segments", f"{document}/segments"),
        (f"GET {SEGMENT}", segment),
        (f"GET {SEGMENT}/child_chunks", f"{segment}/child_chunks"),
        ("GET /workspaces/current/models/model-types/{model_type}", "/workspaces/current/models/model-types/rerank"),
    ):
        await good(name, path)
    retrieved = await good(f"POST {BASE}/retrieve", f"{base}/retrieve", json={"query": "pump"})
    assert retrieved["records"]
    await good(f"PATCH {BASE}", base, json={"description": "All"})
    problems = {f"{name}: {problem}" for name, check in checks.items() for problem in check.problems}
    unknown = {problem for problem in problems if problem.rpartition(": ")[0].split(".")[-1].split(" ")[-1] not in NULL}
    assert unknown == set()
    assert problems, "the list of fields that are null is needed"
    missing = {f"{name}: {field}" for name, item in checks.items() for field in item.all() - item.problems}
    assert {item for item in missing if "partial_member_list" not in item} == set()
