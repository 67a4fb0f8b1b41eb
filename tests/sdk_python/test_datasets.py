"""The contract's `datasets`."""

from __future__ import annotations

import io
import json
import pathlib
import re
from typing import Any

import pytest
from headrace_client import (
    ConflictError,
    File,
    IndexingFailedError,
    NotFoundError,
    PollingPlan,
    ServerError,
    UsageError,
    ValidationError,
    WaitTimeoutError,
)
from headrace_client.dataset_models import Dataset, Retrieved

from tests.official.ours import KNOWLEDGE
from tests.sdk_contract.dify_datasets import KNOWLEDGE_KEY, RESPONSES
from tests.sdk_python.clients import Fault, Maker, collect
from tests.server.process import Serve

SAME = {"PATCH /datasets/{dataset_id}/documents/{document_id}"}  # as `update-by-file`, which old servers have, too
BASE, DOCUMENT, SEGMENT, CHUNK = "b-1", "d-1", "s-1", "c-1"
BUSY = {"status": 503, "body": {"code": "busy", "message": "busy", "status": 503}}
CUSTOM: Any = {
    "mode": "hierarchical",
    "rules": {
        "pre_processing_rules": [{"id": "remove_extra_spaces", "enabled": True}],
        "segmentation": {"separator": "\n", "max_tokens": 100},
        "parent_mode": "paragraph",
        "subchunk_segmentation": {"separator": ".", "max_tokens": 50},
    },
}


def operations(calls: list[str]) -> set[str]:
    """The operations of the official description that were called."""
    called: set[str] = set()
    for call in calls:
        method, _, path = call.partition(" ")
        fits = [
            item.name
            for item in KNOWLEDGE
            if item.method == method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", f"/v1{item.path}"), path)
        ]
        called.add(min(fits, key=lambda name: name.count("{")))
    return called


async def test_datasets_every_operation_is_there(make: Maker, faulty_headrace: Fault, headrace: Serve) -> None:
    """On Headrace: from an empty knowledge base with child chunks to what a search finds in it."""
    faulty_headrace.script()
    client = make(headrace.keys["knowledge"], faulty_headrace.url, real_time=True)
    polling = PollingPlan(first=0.02, longest=0.2, timeout=60)
    datasets = client.datasets
    name = f"Manuals {make.kind}"
    created = await datasets.create_dataset(name, indexing_technique="high_quality", description="All")
    assert isinstance(created, Dataset)
    assert created.response is not None
    base = created.id
    with pytest.raises(ConflictError):
        await datasets.create_dataset(name)
    text = "The pump starts. It needs oil.\nThe motor stops."
    settings: Any = {"doc_form": "hierarchical_model", "process_rule": CUSTOM}
    written = await datasets.create_document_by_text(base, "pump", text, **settings)
    uploaded = await datasets.create_document_by_file(base, File(b"The valve is open.", "valve.md"))
    document = written.document.id
    statuses = await datasets.wait_until_indexed(base, written, polling=polling, raise_on_failure=True)
    assert [(status.id, status.indexing_status) for status in statuses] == [(document, "completed")]
    await datasets.wait_until_indexed(base, uploaded.batch, polling=polling, raise_on_failure=True)
    assert [item.id async for item in datasets.list_datasets(keyword=name, include_all=True)] == [base]
    assert {item.name async for item in datasets.list_documents(base)} == {"pump", "valve.md"}
    segments = [segment async for segment in datasets.list_segments(base, document, status=["completed"])]
    assert [segment.content for segment in segments] == ["The pump starts. It needs oil.", "The motor stops."]
    [added] = await datasets.create_segments(base, document, [{"content": "A filter.", "keywords": ["filter"]}])
    changed = await datasets.update_segment(base, document, added.id, content="A sieve keeps sand away.", enabled=True)
    assert (changed.content, (await datasets.get_segment(base, document, added.id)).status) == (
        "A sieve keeps sand away.",
        "completed",
    )
    chunk = await datasets.create_child_chunk(base, document, added.id, "A sieve")
    chunk = await datasets.update_child_chunk(base, document, added.id, chunk.id, "Sand")
    assert chunk.content == "Sand"
    assert "Sand" in [item.content async for item in datasets.list_child_chunks(base, document, added.id)]
    retrieved = await datasets.retrieve(base, "Sand")
    assert isinstance(retrieved, Retrieved)
    assert retrieved.records[0].segment.content == "A sieve keeps sand away."
    assert retrieved.records[0].segment.document.name == "pump"
    assert retrieved.records[0]["segment"]["content"] == "A sieve keeps sand away.", "as a mapping, too"
    await datasets.delete_child_chunk(base, document, added.id, chunk.id)
    await datasets.delete_segment(base, document, added.id)
    field = await datasets.create_metadata_field(base, "language")
    field = await datasets.rename_metadata_field(base, field.id, "lang")
    values: Any = [{"id": field.id, "name": "lang", "value": "en"}]
    await datasets.update_document_metadata(
        base, [{"document_id": document, "metadata_list": values, "partial_update": True}]
    )
    await datasets.switch_built_in_fields(base, on=True)
    fields = await datasets.get_metadata_fields(base)
    assert [(item.name, item.count) for item in fields.doc_metadata] == [("lang", 1)]
    assert fields.built_in_field_enabled
    assert "document_name" in [item.name for item in await datasets.get_built_in_fields(base)]
    detail = await datasets.get_document(base, document, metadata="all")
    assert ("lang", "en") in [(value.name, value.value) for value in detail.doc_metadata]
    await datasets.delete_metadata_field(base, field.id)
    tag = await datasets.rename_tag((await datasets.create_tag(f"tag {make.kind}")).id, f"device {make.kind}")
    await datasets.bind_tags(base, [tag.id])
    assert [item.id for item in await datasets.get_dataset_tags(base)] == [tag.id]
    assert [item.id async for item in datasets.list_datasets(tag_ids=[tag.id, tag.id])] == [base]
    await datasets.unbind_tags(base, [tag.id])
    assert tag.id in [item.id for item in await datasets.get_tags()]
    await datasets.delete_tag(tag.id)
    await datasets.update_document_status(base, [document], "disable")
    assert (await datasets.update_document_status(base, [document], "enable")).result == "success"
    assert (await datasets.get_document_url(base, document)).startswith("http")
    assert (await datasets.download_documents(base, [document])).startswith(b"PK")
    again = await datasets.update_document_by_text(base, document, name="pump 2", text="The pump stops.")
    await datasets.wait_until_indexed(base, again, polling=polling, raise_on_failure=True)
    file = io.BytesIO(b"The valve is shut.")
    again = await datasets.update_document_by_file(base, uploaded.document.id, file, filename="valve 2.md")
    await datasets.wait_until_indexed(base, again, polling=polling, raise_on_failure=True)
    assert {item.name async for item in datasets.list_documents(base, keyword="2")} == {"pump 2", "valve 2.md"}
    assert (await datasets.update_dataset(base, description="Fewer")).description == "Fewer"
    assert (await datasets.get_dataset(base)).description == "Fewer"
    providers = await datasets.get_models()
    assert "demo" in [model.model for provider in providers for model in provider.models]
    await pipelines(datasets, base)
    await datasets.delete_document(base, document)
    await datasets.delete_dataset(base)
    with pytest.raises(NotFoundError):
        await datasets.get_dataset(base)
    expected = {item.name for item in KNOWLEDGE} - SAME
    assert operations(faulty_headrace.calls()) == expected


async def pipelines(datasets: Any, base: str) -> None:
    file = await datasets.upload_pipeline_file(b"Steam.\nWater.", filename="steam.md")
    [plugin] = await datasets.get_datasource_plugins(base)
    run = await datasets.run_pipeline(base, plugin.node_id, [{"reference": file.id}])
    assert [document.name for document in run.documents] == ["steam.md"]
    await datasets.wait_until_indexed(base, run, polling=PollingPlan(first=0.02, timeout=60), raise_on_failure=True)
    with pytest.raises(ValidationError, match="nothing to run"):
        await collect(datasets.stream_datasource_node(base, plugin.node_id, "local_file"))


async def test_datasets_responses_of_dify(make: Maker, dify: str) -> None:
    """Every call against Dify's responses, with the nulls that Headrace does not send."""
    datasets = make(KNOWLEDGE_KEY, dify).datasets
    created = await datasets.create_dataset("Manuals")
    assert (created.indexing_technique, created.embedding_available) == (None, None)
    [base] = await collect(datasets.list_datasets())
    assert (base.author_name, base.icon_info["icon"]) == ("Peer", "📙")
    assert (await datasets.get_dataset(BASE)).tags[0].name == "product"
    assert (await datasets.update_dataset(BASE, name="M", partial_member_list=[])).partial_member_list == []
    written = await datasets.create_document_by_text(BASE, "pump", "The pump starts.")
    assert (written.document.tokens, written.batch) == (None, "20261121020514783921")
    for document in (
        await datasets.create_document_by_file(BASE, b"x"),
        await datasets.update_document_by_text(BASE, DOCUMENT, text="x", name="n"),
        await datasets.update_document_by_file(BASE, DOCUMENT, b"x"),
    ):
        assert document == written
    assert (await datasets.wait_until_indexed(BASE, written))[0].completed_at == 1795226716.5
    assert [item.name async for item in datasets.list_documents(BASE, status="available")] == ["pump.md"]
    assert (await datasets.get_document(BASE, DOCUMENT)).segment_count == 4
    assert await datasets.get_document_url(BASE, DOCUMENT) == "https://files.example.com/x?sign=y"
    assert await datasets.download_documents(BASE, [DOCUMENT]) == b"PK"
    assert (await datasets.update_document_status(BASE, [DOCUMENT], "archive")).result == "success"
    [segment] = await datasets.create_segments(BASE, DOCUMENT, [{"content": "x"}])
    assert segment.keywords is None
    assert await collect(datasets.list_segments(BASE, DOCUMENT)) == [segment]
    assert await datasets.get_segment(BASE, DOCUMENT, SEGMENT) == segment
    assert await datasets.update_segment(BASE, DOCUMENT, SEGMENT, content="x") == segment
    chunk = await datasets.create_child_chunk(BASE, DOCUMENT, SEGMENT, "x")
    assert await collect(datasets.list_child_chunks(BASE, DOCUMENT, SEGMENT)) == [chunk]
    assert await datasets.update_child_chunk(BASE, DOCUMENT, SEGMENT, CHUNK, "x") == chunk
    [record] = (await datasets.retrieve(BASE, "pump")).records
    assert (record.score, record.child_chunks[0].score) == (0.71, 0.83)
    field = await datasets.create_metadata_field(BASE, "language", "string")
    assert await datasets.rename_metadata_field(BASE, field.id, "language") == field
    assert (await datasets.get_metadata_fields(BASE)).doc_metadata[0].count == 2
    assert [item.type for item in await datasets.get_built_in_fields(BASE)] == ["string", "time"]
    assert (await datasets.switch_built_in_fields(BASE, on=False)).result == "success"
    assert (await datasets.update_document_metadata(BASE, [])).result == "success"
    assert (await datasets.create_tag("product")).binding_count == 0
    assert [tag.binding_count for tag in await datasets.get_tags()] == ["2"]
    assert (await datasets.rename_tag("t", "product")).name == "product"
    assert [tag.name for tag in await datasets.get_dataset_tags(BASE)] == ["product"]
    assert (await datasets.get_models("rerank"))[0].models[0].model == "text-embedding-3-small"
    assert (await datasets.upload_pipeline_file(b"x", filename="x.md")).created_at == "2026-11-21T02:05:14Z"
    [plugin] = await datasets.get_datasource_plugins(BASE)
    assert plugin.datasource_type == "local_file"
    events = await collect(datasets.stream_datasource_node(BASE, plugin.node_id, "online_document", inputs={"a": 1}))
    assert [event["event"] for event in events] == ["datasource_processing", "datasource_completed"]
    run = await datasets.run_pipeline(BASE, plugin.node_id, [{"reference": "f", "name": "pump.md"}])
    assert [document.indexing_status for document in run.documents] == ["waiting"]
    assert await datasets.wait_until_indexed(BASE, run)
    for nothing in (
        datasets.delete_dataset(BASE),
        datasets.delete_document(BASE, DOCUMENT),
        datasets.delete_segment(BASE, DOCUMENT, SEGMENT),
        datasets.delete_child_chunk(BASE, DOCUMENT, SEGMENT, CHUNK),
        datasets.delete_metadata_field(BASE, "f"),
        datasets.delete_tag("t"),
        datasets.bind_tags(BASE, ["t"]),
        datasets.unbind_tags(BASE, ["t"]),
    ):
        assert await nothing is None
    assert len(RESPONSES) == len(KNOWLEDGE) - len(SAME)


async def test_datasets_retrieve(make: Maker, faulty_dify: Fault) -> None:
    faulty_dify.script(BUSY)
    model: Any = {"search_method": "keyword_search", "reranking_enable": False, "top_k": 2}
    result = await make(KNOWLEDGE_KEY, faulty_dify.url).datasets.retrieve("d/1", "what", retrieval_model=model)
    assert result.records[0].segment.document.name == "pump.md"
    assert faulty_dify.bodies() == [{"query": "what", "retrieval_model": model}] * 2


async def test_datasets_lists_page_by_page(make: Maker, fault: Fault) -> None:
    tag = {"id": "1", "name": "a"}
    pages = [
        {"data": [{**tag, "id": str(number)}], "has_more": number < 3, "limit": 1, "total": 3, "page": number}
        for number in (1, 2, 3)
    ]
    fault.script(*({"status": 200, "body": page} for page in pages))
    datasets = make("dataset-x", fault.url).datasets
    assert [item.id async for item in datasets.list_datasets(limit=1, tag_ids=["a", "b"])] == ["1", "2", "3"]
    assert [request["query"]["page"] for request in fault.requests] == ["1", "2", "3"]
    chunk = {"id": "1", "content": "a"}  # child chunks have no has_more
    fault.script(
        *(
            {"status": 200, "body": {"data": [chunk], "total": 2, "total_pages": 2, "limit": 1, "page": page}}
            for page in (1, 2)
        )
    )
    assert len(await collect(datasets.list_child_chunks(BASE, DOCUMENT, SEGMENT, limit=1))) == 2
    assert len(fault.requests) == 2


# ---------------------------------------------------------------------------------------------------------- waiting


def statuses(*states: str, error: str | None = None) -> dict[str, Any]:
    documents = [{"id": str(number), "indexing_status": state, "error": error} for number, state in enumerate(states)]
    return {"status": 200, "body": {"data": documents}}


async def test_datasets_wait_until_indexed(make: Maker, fault: Fault) -> None:
    datasets = make("dataset-x", fault.url).datasets
    fault.script(statuses("waiting"), statuses("paused"), BUSY, statuses("indexing"), statuses("completed"))
    [document] = await datasets.wait_until_indexed(BASE, "batch")
    assert document.ended
    assert make.time.delays == [1, 1.5, 2.25, 1, 3.375], "as the plan says; 1 s before a failed request is repeated"
    with pytest.raises(UsageError):
        await datasets.wait_until_indexed(BASE, "")


async def test_datasets_documents_in_error(make: Maker, fault: Fault) -> None:
    datasets = make("dataset-x", fault.url).datasets
    ended = statuses("completed", "error", error="model is not configured")
    fault.script(statuses("indexing", "error"), ended, ended)
    documents = await datasets.wait_until_indexed(BASE, "batch")
    assert [document.indexing_status for document in documents] == ["completed", "error"]
    with pytest.raises(IndexingFailedError, match=r"1 of 2 documents .* 1: model is not configured") as raised:
        await datasets.wait_until_indexed(BASE, "batch", raise_on_failure=True)
    assert raised.value.documents[1].indexing_status == "error"


async def test_datasets_wait_ends_with_what_is_known(make: Maker, fault: Fault) -> None:
    datasets = make("dataset-x", fault.url).datasets
    fault.script(*[statuses("completed", "indexing")] * 10)
    with pytest.raises(WaitTimeoutError, match=r"after 10 seconds; 1 of 2 documents have ended") as raised:
        await datasets.wait_until_indexed(BASE, "batch", polling=PollingPlan(timeout=10))
    assert [document.indexing_status for document in raised.value.documents] == ["completed", "indexing"]
    assert make.time.now == 10


# --------------------------------------------------------------------------------------------------- files, retries


async def test_datasets_files_and_settings(make: Maker, faulty_dify: Fault, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pump.md"
    path.write_bytes(b"# Pump")
    settings: Any = {"indexing_technique": "economy", "process_rule": {"mode": "automatic"}}
    datasets = make(KNOWLEDGE_KEY, faulty_dify.url).datasets
    for file, name in (
        (path, "pump.md"),
        (b"# Pump", "file.txt"),
        (File(b"# Pump", "a.md"), "a.md"),
        (io.BytesIO(b"# Pump"), "file.txt"),
    ):
        faulty_dify.script()
        await datasets.create_document_by_file(BASE, file, **settings)
        [request] = faulty_dify.requests
        assert f'name="file"; filename="{name}"' in request["body"]
        assert "# Pump" in request["body"]
        data = re.search(r'name="data"\r\n\r\n(.*)\r\n', request["body"])
        assert data is not None
        assert json.loads(data[1]) == settings
    with pytest.raises(UsageError):
        await datasets.create_document_by_file(BASE, tmp_path / "none.md")


async def test_datasets_creating_is_not_repeated(make: Maker, faulty_dify: Fault) -> None:
    datasets = make(KNOWLEDGE_KEY, faulty_dify.url).datasets
    for call in (
        lambda: datasets.create_dataset("x"),
        lambda: datasets.create_document_by_text(BASE, "x", "x"),
        lambda: datasets.create_document_by_file(BASE, b"x"),
        lambda: datasets.update_document_by_text(BASE, DOCUMENT, text="x", name="x"),
        lambda: datasets.create_segments(BASE, DOCUMENT, []),
        lambda: datasets.create_child_chunk(BASE, DOCUMENT, SEGMENT, "x"),
        lambda: datasets.create_metadata_field(BASE, "x"),
        lambda: datasets.create_tag("x"),
        lambda: datasets.run_pipeline(BASE, "n", []),
    ):
        faulty_dify.script(BUSY)
        with pytest.raises(ServerError):
            await call()
        assert len(faulty_dify.requests) == 1


async def test_datasets_reading_and_changing_is_repeated(make: Maker, faulty_dify: Fault) -> None:
    datasets = make(KNOWLEDGE_KEY, faulty_dify.url).datasets
    for call in (
        lambda: datasets.get_dataset(BASE),
        lambda: datasets.update_dataset(BASE, description="x"),
        lambda: datasets.update_segment(BASE, DOCUMENT, SEGMENT, content="x"),
        lambda: datasets.update_document_metadata(BASE, []),
        lambda: datasets.bind_tags(BASE, ["t"]),
        lambda: datasets.delete_document(BASE, DOCUMENT),
    ):
        faulty_dify.script(BUSY, {"reset": True})
        await call()
        assert len(faulty_dify.requests) == 3


async def test_datasets_deleted_by_an_attempt_is_deleted(make: Maker, fault: Fault) -> None:
    gone = {"status": 404, "body": {"code": "not_found", "message": "Document not found.", "status": 404}}
    datasets = make("dataset-x", fault.url).datasets
    for lost in ({"reset": True}, BUSY):
        fault.script(lost, gone)
        await datasets.delete_document(BASE, DOCUMENT)
    fault.script(gone)
    with pytest.raises(NotFoundError):
        await datasets.delete_document(BASE, DOCUMENT)
    fault.script({"status": 429, "body": {}}, gone)
    with pytest.raises(NotFoundError):
        await datasets.delete_document(BASE, DOCUMENT)


async def test_datasets_responses_that_are_not_valid(make: Maker, fault: Fault) -> None:
    datasets = make("dataset-x", fault.url).datasets
    for body, call in (
        ({}, lambda: datasets.get_tags()),
        ([1], lambda: datasets.get_tags()),
        ([], lambda: datasets.get_dataset(BASE)),
        ({"data": 1}, lambda: datasets.get_segment(BASE, DOCUMENT, SEGMENT)),
        ({"data": [{}]}, lambda: datasets.get_indexing_status(BASE, "b")),
    ):
        fault.script({"status": 200, "body": body})
        with pytest.raises(ServerError):
            await call()
    for id_ in ("", ".", ".."):
        with pytest.raises(UsageError):
            await datasets.get_dataset(id_)
