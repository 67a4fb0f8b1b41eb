"""Knowledge bases under `/api/v1/knowledge`: their state, and pausing, resuming and renaming documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.api.declared import check_response
from tests.api.knowledge import Bases, bases_in
from tests.knowledge.knowledge_base import RULE

BASES = "/api/v1/knowledge/bases"
GOOD = {"indexing_technique": "high_quality", "embedding_model": "small", "embedding_model_provider": "p/p/p"}


@pytest.fixture
async def bases(tmp_path: Path) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path) as opened:
        yield opened


async def ask(bases: Bases, method: str, path: str, status: int = 200, **request: Any) -> Any:
    answer = await bases.caller(method, f"{BASES}{path}", **request)
    assert answer.status == status, answer
    check_response(method, f"{BASES}{path.partition('?')[0]}", answer.status, answer.json)
    return answer.json


async def test_bases_are_listed_with_the_state_of_their_documents(bases: Bases):
    manuals = await bases.create("Manuals", description="of pumps")
    await bases.indexed(manuals, "one\ntwo\nthree", process_rule=RULE)
    await bases.write(manuals, "four", "later.md")
    await bases.create("Empty")
    page = await ask(bases, "GET", "?limit=1")
    assert (page["total"], [base["name"] for base in page["data"]]) == (2, ["Empty"])
    (found,) = (await ask(bases, "GET", "?keyword=manu"))["data"]
    assert found == await ask(bases, "GET", f"/{found['id']}")
    expected = {
        "name": "Manuals",
        "description": "of pumps",
        "technique": "economy",
        "documents": 2,
        "available_documents": 1,
        "indexing_documents": 1,
        "paused_documents": 0,
        "failed_documents": 0,
        "chunks": 3,
        "words": 11,
    }
    assert {name: found[name] for name in expected} == expected


async def test_a_document_is_paused_and_resumed(bases: Bases):
    base = await bases.create(**GOOD)
    id_ = base.rpartition("/")[2]
    written = await bases.write(base, "\n".join("abcdefghij" * 3), process_rule=RULE)
    document = f"/{id_}/documents/{written['document']['id']}"
    await ask(bases, "POST", f"{document}/resume", 400)

    paused = await ask(bases, "POST", f"{document}/pause")
    assert (paused["status"], paused["chunks"]) == ("paused", 0)
    await bases.index()
    assert (await ask(bases, "GET", document))["status"] == "paused"
    assert (await ask(bases, "GET", f"/{id_}"))["paused_documents"] == 1
    refused = await ask(bases, "POST", f"{document}/pause", 400)
    assert (refused["code"], refused["message"]) == ("document_indexing", "The document is not being indexed.")
    assert (await ask(bases, "POST", f"{document}/resume"))["status"] == "queuing"
    await bases.index()
    done = await ask(bases, "GET", document)
    assert (done["status"], done["chunks"], done["indexed_chunks"], done["hits"]) == ("available", 30, 30, 0)
    await ask(bases, "POST", f"{document}/resume", 400)


async def test_documents_are_filtered_by_name_and_state(bases: Bases):
    base = await bases.create()
    id_ = base.rpartition("/")[2]
    for number in range(3):
        await bases.indexed(base, f"text {number}", f"pump {number}.md")
    await bases.write(base, "text", "motor.md")
    page = await ask(bases, "GET", f"/{id_}/documents?keyword=PUMP&limit=2")
    assert (page["total"], [item["name"] for item in page["data"]]) == (3, ["pump 2.md", "pump 1.md"])
    assert [item["name"] for item in (await ask(bases, "GET", f"/{id_}/documents?status=queuing"))["data"]] == [
        "motor.md"
    ]
    assert (await ask(bases, "GET", f"/{id_}/documents?status=nonsense", 400))["code"] == "invalid_param"
    assert (await ask(bases, "GET", f"/{id_}/documents?page=99"))["data"] == []
    assert (await ask(bases, "GET", f"/{id_}/documents?keyword=%00%25"))["data"] == []


async def test_a_document_is_renamed_and_stays_indexed(bases: Bases):
    path = await bases.indexed(await bases.create(), "text")
    document = path.removeprefix("/datasets")
    for name in ("Pompe Nº 2 🔧 — 泵", "x" * 255):
        renamed = await ask(bases, "PATCH", document, json={"name": name})
        assert (renamed["name"], renamed["status"]) == (name, "available")
    for wrong in ({}, {"name": ""}, {"name": None}, {"name": "x" * 256}, {"name": 7}, {"name": "x", "text": "y"}):
        assert (await ask(bases, "PATCH", document, 400, json=wrong))["code"] == "invalid_param", wrong
    assert (await ask(bases, "PATCH", document, json={"name": "a\0b"}))["name"] == "ab"
    base, id_ = path.removeprefix("/datasets/").split("/documents/")
    await bases.good("PATCH", f"/datasets/{base}/documents/status/archive", json={"document_ids": [id_]})
    assert (await ask(bases, "PATCH", document, 403, json={"name": "x"}))["code"] == "archived_document_immutable"


@pytest.mark.parametrize("id_", ["nonsense", "%00", "..%2F..", "é", "'%20OR%201=1", "x" * 5000])
async def test_what_is_no_id_leads_nowhere(bases: Bases, id_: str):
    base = (await bases.create()).rpartition("/")[2]
    for method, path in (
        ("GET", f"/{id_}"),
        ("GET", f"/{id_}/documents"),
        ("GET", f"/{base}/documents/{id_}"),
        ("POST", f"/{base}/documents/{id_}/pause"),
    ):
        answer = await bases.caller(method, f"{BASES}{path}")
        assert answer.status == 404, (path, answer)
