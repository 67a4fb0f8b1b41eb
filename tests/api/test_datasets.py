"""`/v1/datasets`: knowledge bases, their tags and the fields of their metadata."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from headrace.access.keys import Rights
from tests.api.knowledge import Bases, bases_in, on_both
from tests.api.knowledge import database_url as database_url

RETRIEVAL = {
    "search_method": "hybrid_search",
    "reranking_enable": False,
    "reranking_mode": "weighted_score",
    "weights": {"keyword_setting": {"keyword_weight": 0.3}},
    "top_k": 3,
    "score_threshold_enabled": True,
    "score_threshold": 0.4,
}
NOBODY = str(uuid4())


@pytest.fixture
async def bases(tmp_path: Path, database_url: str) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path, database_url=database_url) as running:
        yield running


@on_both
async def test_a_knowledge_base_is_created_changed_and_removed(bases: Bases):
    body = {"name": "Manuals", "description": "All", "indexing_technique": "economy", "retrieval_model": RETRIEVAL}
    created = await bases.good("POST", "/datasets", json=body)
    assert (created["name"], created["description"], created["permission"]) == ("Manuals", "All", "only_me")
    assert (created["document_count"], created["embedding_available"], created["tags"]) == (0, True, [])
    model = created["retrieval_model_dict"]
    assert (model["search_method"], model["top_k"], model["score_threshold"]) == ("keyword_search", 3, 0.4)
    path = f"/datasets/{created['id']}"
    assert await bases.good("GET", path) == created
    changed = await bases.good("PATCH", path, json={"name": "Guides", "permission": "all_team_members"})
    assert (changed["name"], changed["permission"], changed["description"]) == ("Guides", "all_team_members", "All")
    assert changed["partial_member_list"] == []
    assert (await bases.call("DELETE", path)).status == 204
    for method in ("GET", "DELETE"):
        assert await bases.error(method, path) == (404, "not_found", "Dataset not found.")


@on_both
async def test_names_are_unique_in_a_workspace(bases: Bases):
    path = await bases.create("Manuals")
    other = await bases.create("Guides")
    taken = "The dataset name already exists. Please modify your dataset name."
    assert await bases.error("POST", "/datasets", json={"name": "Manuals"}) == (409, "dataset_name_duplicate", taken)
    assert (await bases.error("PATCH", other, json={"name": "Manuals"}))[:2] == (400, "invalid_param")
    await bases.good("PATCH", path, json={"name": "Manuals"})
    await (await bases.of("elsewhere")).create("Manuals")


BAD = [
    ({}, "name: "),
    ({"name": ""}, "name: "),
    ({"name": "\0"}, "name: "),
    ({"name": "x" * 41}, "name: "),
    ({"name": 7}, "name: "),
    ({"name": "x", "description": "x" * 401}, "description: "),
    ({"name": "x", "indexing_technique": "cheap"}, "indexing_technique: "),
    ({"name": "x", "permission": "everybody"}, "permission: "),
    ({"name": "x", "provider": "external"}, "provider: "),
    ({"name": "x", "retrieval_model": {**RETRIEVAL, "top_k": 0}}, "retrieval_model.top_k: "),
    ({"name": "x", "retrieval_model": {**RETRIEVAL, "top_k": "3"}}, "retrieval_model.top_k: "),
    ({"name": "x", "retrieval_model": {**RETRIEVAL, "score_threshold": 2}}, "retrieval_model.score_threshold: "),
    ({"name": "x", "retrieval_model": {"search_method": "hybrid_search"}}, "retrieval_model."),
]


@pytest.mark.parametrize(("body", "where"), BAD, ids=lambda value: str(value)[:40])
async def test_a_body_that_is_not_valid_creates_nothing(bases: Bases, body: Any, where: str):
    status, code, message = await bases.error("POST", "/datasets", json=body)
    assert (status, code) == (400, "invalid_param")
    assert message.startswith(where), message
    assert (await bases.good("GET", "/datasets"))["total"] == 0


@on_both
async def test_the_list_has_pages_keywords_and_tags(bases: Bases):
    paths = [await bases.create(f"base {number}") for number in range(3)]
    page = await bases.good("GET", "/datasets?limit=2")
    assert ([item["name"] for item in page["data"]], page["has_more"], page["total"]) == (["base 2", "base 1"], True, 3)
    last = await bases.good("GET", "/datasets?limit=2&page=2&include_all=true")
    assert ([item["name"] for item in last["data"]], last["has_more"], last["page"]) == (["base 0"], False, 2)
    assert (await bases.good("GET", "/datasets?limit=9999"))["limit"] == 100
    assert [item["name"] for item in (await bases.good("GET", "/datasets?keyword=E%201"))["data"]] == ["base 1"]
    assert (await bases.good("GET", "/datasets?keyword=%25"))["total"] == 0
    tags = [(await bases.good("POST", "/datasets/tags", json={"name": name}))["id"] for name in ("a", "b")]
    for path, bound in zip(paths, (tags, tags[:1]), strict=False):
        body = {"tag_ids": bound, "target_id": path.rpartition("/")[2]}
        await bases.good("POST", "/datasets/tags/binding", json=body)
    with_second = await bases.good("GET", f"/datasets?tag_ids={tags[1]}")
    assert [item["name"] for item in with_second["data"]] == ["base 0"]
    assert {tag["name"] for tag in with_second["data"][0]["tags"]} == {"a", "b"}
    assert (await bases.good("GET", f"/datasets?tag_ids={tags[0]}&tag_ids={tags[1]}"))["total"] == 2
    for query in ("page=0", "page=x", "limit=0", "include_all=perhaps"):
        assert (await bases.error("GET", f"/datasets?{query}"))[:2] == (400, "invalid_param"), query


async def test_only_knowledge_keys_open_knowledge_bases(bases: Bases):
    path = await bases.create()
    access = bases.running.apps.access
    refused = (401, "unauthorized", "Access token is invalid")
    for rights in (Rights("default"), Rights("default", frozenset({"manage"}))):
        other = bases.calling((await access.create(rights, "test"))[1])
        for method, target in (("GET", "/datasets"), ("GET", path), ("DELETE", path), ("GET", "/datasets/tags")):
            assert await other.error(method, target) == refused
    nobody = bases.calling(None)
    assert (await nobody.error("GET", "/datasets"))[:2] == (401, "unauthorized")
    assert (await bases.error("GET", "/info"))[0] == 401
    await bases.good("GET", path)


async def test_paths_and_methods_that_there_are_not(bases: Bases):
    path = await bases.create()
    for method, target, status in (
        ("PUT", "/datasets", 405),
        ("PUT", path, 405),
        ("GET", f"{path}/retrieve/", 404),
        ("GET", f"{path}/nothing", 404),
        ("GET", "/datasets/nope", 404),
        ("GET", "/datasetsx", 404),
    ):
        assert (await bases.error(method, target))[0] == status, target


async def test_a_plan_limits_the_requests_of_its_workspace(tmp_path: Path):
    plans = "plans: {small: {requests_per_minute: 1}}\nworkspaces: {small: small}"
    async with bases_in(tmp_path, plans) as bases:
        small = await bases.of("small")
        await small.good("GET", "/datasets")
        assert (await small.error("GET", "/datasets"))[:2] == (429, "rate_limit_error")
        for _ in range(2):
            await bases.good("GET", "/datasets")


# ------------------------------------------------------------------------------------------------------------- tags


@on_both
async def test_tags(bases: Bases):
    path = await bases.create()
    target = path.rpartition("/")[2]
    tag = await bases.good("POST", "/datasets/tags", json={"name": "product"})
    assert tag == {"id": tag["id"], "name": "product", "type": "knowledge", "binding_count": "0"}
    taken = (400, "invalid_param", "Tag name already exists")
    assert await bases.error("POST", "/datasets/tags", json={"name": "product"}) == taken
    for _ in range(2):
        await bases.good("POST", "/datasets/tags/binding", json={"tag_ids": [tag["id"], NOBODY], "target_id": target})
    assert await bases.good("GET", "/datasets/tags") == [{**tag, "binding_count": "1"}]
    assert await bases.good("GET", f"{path}/tags") == {"data": [{"id": tag["id"], "name": "product"}], "total": 1}
    renamed = await bases.good("PATCH", "/datasets/tags", json={"tag_id": tag["id"], "name": "device"})
    assert renamed == {**tag, "name": "device", "binding_count": "1"}
    await bases.good("POST", "/datasets/tags/unbinding", json={"tag_id": tag["id"], "target_id": target})
    assert (await bases.good("GET", f"{path}/tags"))["total"] == 0
    await bases.good("DELETE", "/datasets/tags", json={"tag_id": tag["id"]})
    assert await bases.good("GET", "/datasets/tags") == []


@on_both
async def test_a_keyword_may_be_long(bases: Bases):
    base = await bases.create()
    document = await bases.indexed(base, "The pump starts.")
    for path in ("/datasets", f"{base}/documents", f"{document}/segments"):
        assert (await bases.good("GET", f"{path}?keyword={'%25' * 10_000}"))["total"] == 0
        too_long = (400, "invalid_param", "keyword: String should have at most 10000 characters")
        assert await bases.error("GET", f"{path}?keyword={'x' * 10_001}") == too_long


@on_both
async def test_many_tags_are_taken_at_once(bases: Bases):
    path = await bases.create()
    target = path.rpartition("/")[2]
    tag = await bases.good("POST", "/datasets/tags", json={"name": "product"})
    await bases.good("POST", "/datasets/tags/binding", json={"tag_ids": [tag["id"]], "target_id": target})
    more = [str(number) for number in range(70_000)]  # than one statement of any database can name
    body = {"tag_ids": [*more, tag["id"]], "target_id": target}
    await bases.good("POST", "/datasets/tags/unbinding", json=body)
    assert (await bases.good("GET", f"{path}/tags"))["total"] == 0


async def test_what_is_no_tag_and_no_target(bases: Bases):
    path = await bases.create()
    target = path.rpartition("/")[2]
    elsewhere = await bases.of("elsewhere")
    theirs = (await elsewhere.good("POST", "/datasets/tags", json={"name": "theirs"}))["id"]
    for tag in (theirs, NOBODY, "nope"):
        gone = (404, "not_found", "Tag not found")
        assert await bases.error("PATCH", "/datasets/tags", json={"tag_id": tag, "name": "x"}) == gone
        assert await bases.error("DELETE", "/datasets/tags", json={"tag_id": tag}) == gone
    await bases.good("POST", "/datasets/tags/binding", json={"tag_ids": [theirs], "target_id": target})
    assert (await bases.good("GET", f"{path}/tags"))["total"] == 0
    for body in ({"tag_ids": [], "target_id": target}, {"target_id": target}):
        for path in ("/datasets/tags/binding", "/datasets/tags/unbinding"):
            assert (await bases.error("POST", path, json=body))[:2] == (400, "invalid_param")
    for unknown in (NOBODY, "nope"):
        body = {"tag_ids": [theirs], "target_id": unknown}
        assert await bases.error("POST", "/datasets/tags/binding", json=body) == (404, "not_found", "Dataset not found")
    assert (await elsewhere.good("GET", "/datasets/tags"))[0]["binding_count"] == "0"


# --------------------------------------------------------------------------------------------------------- metadata


@on_both
async def test_fields_of_metadata(bases: Bases):
    path = await bases.create()
    field = await bases.good("POST", f"{path}/metadata", json={"type": "number", "name": "year"})
    assert field == {"id": field["id"], "name": "year", "type": "number"}
    for name in ("year", "upload_date"):
        body = {"type": "string", "name": name}
        assert (await bases.error("POST", f"{path}/metadata", json=body))[:2] == (400, "invalid_param")
    for body in ({"type": "date", "name": "x"}, {"type": "string", "name": ""}, {"type": "string", "name": "x" * 256}):
        assert (await bases.error("POST", f"{path}/metadata", json=body))[:2] == (400, "invalid_param")
    at = f"{path}/metadata/{field['id']}"
    assert (await bases.good("PATCH", at, json={"name": "release"}))["name"] == "release"
    listed = {"doc_metadata": [{**field, "name": "release", "count": 0}], "built_in_field_enabled": False}
    assert await bases.good("GET", f"{path}/metadata") == listed
    assert await bases.good("POST", f"{path}/metadata/built-in/enable") == {"result": "success"}
    assert (await bases.good("GET", f"{path}/metadata"))["built_in_field_enabled"]
    names = [item["name"] for item in (await bases.good("GET", f"{path}/metadata/built-in"))["fields"]]
    assert names == ["document_name", "uploader", "upload_date", "last_update_date", "source"]
    assert (await bases.error("POST", f"{path}/metadata/built-in/toggle"))[:2] == (400, "invalid_param")
    await bases.good("DELETE", at)
    assert (await bases.error("DELETE", at))[:2] == (404, "not_found")


@on_both
async def test_values_of_documents(bases: Bases):
    path = await bases.create()
    year = (await bases.good("POST", f"{path}/metadata", json={"type": "number", "name": "year"}))["id"]
    language = (await bases.good("POST", f"{path}/metadata", json={"type": "string", "name": "language"}))["id"]
    document = (await bases.write(path))["document"]["id"]

    async def change(*entries: Any, document: str = document, partial: bool = False) -> Any:
        operation = {"document_id": document, "metadata_list": list(entries), "partial_update": partial}
        return await bases.call("POST", f"{path}/documents/metadata", json={"operation_data": [operation]})

    async def values() -> dict[str, Any]:
        detail = await bases.good("GET", f"{path}/documents/{document}?metadata=only")
        assert set(detail) == {"id", "doc_type", "doc_metadata"}
        return {item["name"]: item["value"] for item in detail["doc_metadata"]}

    await change({"id": year, "name": "year", "value": 2026})
    await change({"id": language, "name": "language", "value": "de"}, partial=True)
    assert await values() == {"year": 2026, "language": "de"}
    assert [item["count"] for item in (await bases.good("GET", f"{path}/metadata"))["doc_metadata"]] == [1, 1]
    wrong = [
        await change({"id": year, "name": "year", "value": "soon"}),
        await change({"id": language, "name": "language", "value": 7}),
        await change({"id": language, "name": "language", "value": []}),
        await change({"id": NOBODY, "name": "x", "value": "y"}),
        await change({"id": language, "name": "language", "value": "fr"}, document=NOBODY),
    ]
    assert [answer.status for answer in wrong] == [400, 400, 400, 404, 400]
    assert await values() == {"year": 2026, "language": "de"}
    await change({"id": language, "name": "language", "value": "fr"})
    assert await values() == {"language": "fr"}
    await bases.good("POST", f"{path}/metadata/built-in/enable")
    assert (await values())["document_name"] == "pump.md"
    assert "doc_metadata" not in await bases.good("GET", f"{path}/documents/{document}?metadata=without")
    wrong_part = await bases.error("GET", f"{path}/documents/{document}?metadata=half")
    assert wrong_part == (400, "invalid_metadata", "Invalid metadata value: half")
