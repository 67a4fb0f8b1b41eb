"""`/v1/datasets/{dataset_id}/documents`: by text and by file, listed, changed, downloaded."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.api.knowledge import AUTOMATIC, Bases, bases_in, on_both
from tests.api.knowledge import database_url as database_url
from tests.official.world import multipart

NOBODY = str(uuid4())
CUSTOM = {
    "mode": "custom",
    "rules": {
        "pre_processing_rules": [{"id": "remove_extra_spaces", "enabled": True}],
        "segmentation": {"separator": "\n\n", "max_tokens": 100, "chunk_overlap": 0},
    },
}


@pytest.fixture
async def bases(tmp_path: Path, database_url: str) -> AsyncGenerator[Bases]:
    async with bases_in(tmp_path, database_url=database_url) as running:
        yield running


@on_both
async def test_a_document_by_text(bases: Bases):
    base = await bases.create()
    created = await bases.write(base, process_rule=CUSTOM)
    document, batch = created["document"], created["batch"]
    assert (document["name"], document["position"], document["doc_form"]) == ("pump.md", 1, "text_model")
    assert (document["data_source_type"], document["created_from"]) == ("upload_file", "api")
    assert document["data_source_detail_dict"]["upload_file"]["size"] == len("The pump starts.")
    [status] = (await bases.good("GET", f"{base}/documents/{batch}/indexing-status"))["data"]
    assert status["id"] == document["id"]
    detail = await bases.good("GET", f"{base}/documents/{document['id']}")
    assert detail["document_process_rule"]["rules"]["segmentation"]["max_tokens"] == 100
    assert detail["dataset_process_rule"]["mode"] == "custom"
    assert detail["data_source_info"] == document["data_source_detail_dict"]
    unknown = await bases.error("GET", f"{base}/documents/nobatch/indexing-status")
    assert unknown == (404, "not_found", "Documents not found.")


@on_both
async def test_a_document_by_file_is_downloaded_again(bases: Bases):
    base = await bases.create()
    content = "# Pumpe\n\nGrüße".encode()
    created = await bases.upload(f"{base}/document/create-by-file", content, process_rule=AUTOMATIC)
    document = created.json["document"]
    assert document["data_source_detail_dict"]["upload_file"]["extension"] == "md"
    url = (await bases.good("GET", f"{base}/documents/{document['id']}/download"))["url"]
    answer = await bases.caller("GET", "/files/" + url.partition("/files/")[2], headers={"Authorization": ""})
    assert (answer.status, answer.body) == (200, content)
    again = (await bases.upload(f"{base}/document/create_by_file", b"other", process_rule=AUTOMATIC)).json["document"]
    body = {"document_ids": [document["id"], again["id"], document["id"]]}
    archive = await bases.call("POST", f"{base}/documents/download-zip", json=body)
    assert (archive.status, archive.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(archive.body)) as bundle:
        assert {name: bundle.read(name) for name in bundle.namelist()} == {"pump.md": content, "pump (1).md": b"other"}


async def test_what_cannot_be_downloaded(bases: Bases):
    base = await bases.create()
    document = (await bases.write(base))["document"]["id"]
    gone = (404, "not_found", "Document not found.")
    for ids in ([NOBODY], [document, NOBODY], ["nope"]):
        assert await bases.error("POST", f"{base}/documents/download-zip", json={"document_ids": ids}) == gone
    for ids in ([], [str(uuid4()) for _ in range(101)]):
        refused = await bases.error("POST", f"{base}/documents/download-zip", json={"document_ids": ids})
        assert refused[:2] == (400, "invalid_param")
    assert await bases.error("GET", f"{base}/documents/{NOBODY}/download") == gone


FORMS: list[tuple[tuple[bytes, dict[str, str]], tuple[int, str]]] = [
    (multipart({}, None), (400, "no_file_uploaded")),
    (multipart({}, ("", "text/plain", b"x")), (400, "filename_not_exists_error")),
    (multipart({}, ("virus.exe", "text/plain", b"x")), (415, "unsupported_file_type")),
    (multipart({}, ("noextension", "text/plain", b"x")), (415, "unsupported_file_type")),
    (multipart({}, ("large.txt", "text/plain", b"x" * (15 * 1024 * 1024 + 1))), (413, "file_too_large")),
    (multipart({"data": "{"}, ("a.txt", "text/plain", b"x")), (400, "bad_request")),
    (multipart({"data": "[]"}, ("a.txt", "text/plain", b"x")), (400, "bad_request")),
    (multipart({"data": '{"doc_form": "table"}'}, ("a.txt", "text/plain", b"x")), (400, "invalid_param")),
    ((b"--x", {"Content-Type": "multipart/form-data; boundary=x"}), (400, "bad_request")),
    ((b"{}", {"Content-Type": "application/json"}), (400, "no_file_uploaded")),
]


@pytest.mark.parametrize(("form", "error"), FORMS, ids=lambda value: str(value)[-40:])
async def test_forms_that_are_not_valid_store_nothing(bases: Bases, form: Any, error: tuple[int, str]):
    base = await bases.create()
    body, headers = form
    refused = await bases.error("POST", f"{base}/document/create-by-file", body=body, headers=headers)
    assert refused[:2] == error
    assert (await bases.good("GET", f"{base}/documents"))["total"] == 0


async def test_one_file_at_a_time(bases: Bases):
    base = await bases.create()
    body, headers = multipart({}, ("a.txt", "text/plain", b"x"))
    second = b'Content-Disposition: form-data; name="other"; filename="b.txt"\r\n\r\ny'
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    body = b"--" + boundary + b"\r\n" + second + b"\r\n" + body
    refused = await bases.error("POST", f"{base}/document/create-by-file", body=body, headers=headers)
    assert refused == (400, "too_many_files", "Only one file is allowed.")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name: "),
    ({"name": "x" * 256}, "name: "),
    ({"text": 7}, "text: "),
    ({"doc_form": "table"}, "doc_form: "),
    ({"doc_form": "qa_model"}, ""),
    ({"process_rule": {"mode": "magic"}}, "process_rule.mode: "),
    ({"process_rule": {"mode": "custom"}}, ""),
    ({"process_rule": {"mode": "custom", "rules": {"segmentation": {"separator": "x", "max_tokens": 10}}}}, ""),
    ({"process_rule": {"mode": "custom", "rules": {"segmentation": {"max_tokens": "many"}}}}, "process_rule.rules."),
]


@pytest.mark.parametrize(("fields", "where"), BAD, ids=lambda value: str(value)[:50])
async def test_texts_that_are_not_valid_store_nothing(bases: Bases, fields: dict[str, Any], where: str):
    base = await bases.create()
    body = {"name": "pump.md", "text": "The pump starts.", **fields}
    status, code, message = await bases.error("POST", f"{base}/document/create-by-text", json=body)
    assert (status, code) == (400, "invalid_param"), message
    assert message.startswith(where), message
    assert (await bases.good("GET", f"{base}/documents"))["total"] == 0


@on_both
async def test_the_first_document_decides(bases: Bases):
    path = f"/datasets/{(await bases.good('POST', '/datasets', json={'name': 'Open'}))['id']}"
    body = {"name": "a", "text": "x", "process_rule": AUTOMATIC}
    refused = await bases.error("POST", f"{path}/document/create-by-text", json=body)
    assert refused == (400, "invalid_param", "indexing_technique is required.")
    await bases.good("POST", f"{path}/document/create-by-text", json={**body, "indexing_technique": "economy"})
    dataset = await bases.good("GET", path)
    assert (dataset["indexing_technique"], dataset["doc_form"], dataset["document_count"]) == (
        "economy",
        "text_model",
        1,
    )
    await bases.good("POST", f"{path}/document/create-by-text", json=body)
    other = {**body, "doc_form": "hierarchical_model"}
    assert (await bases.error("POST", f"{path}/document/create-by-text", json=other))[:2] == (400, "invalid_param")


@on_both
async def test_the_list_has_pages_keywords_and_states(bases: Bases):
    base = await bases.create()
    for number in range(3):
        await bases.write(base, name=f"part {number}")
    page = await bases.good("GET", f"{base}/documents?limit=2")
    assert [item["name"] for item in page["data"]] == ["part 2", "part 1"]
    assert (page["has_more"], page["total"], page["limit"], page["page"]) == (True, 3, 2, 1)
    assert [item["name"] for item in (await bases.good("GET", f"{base}/documents?keyword=T%200"))["data"]] == ["part 0"]
    assert (await bases.good("GET", f"{base}/documents?status=archived"))["total"] == 0
    assert (await bases.good("GET", f"{base}/documents?limit=1000"))["limit"] == 100
    for query in ("status=lost", "page=0", "limit=x"):
        assert (await bases.error("GET", f"{base}/documents?{query}"))[:2] == (400, "invalid_param")


async def test_ids_that_lead_nowhere(bases: Bases):
    base = await bases.create()
    document = (await bases.write(base))["document"]["id"]
    elsewhere = await bases.of("elsewhere")
    other = await elsewhere.create()
    for method, path in (
        ("GET", f"{base}/documents/{NOBODY}"),
        ("DELETE", f"{base}/documents/{NOBODY}"),
        ("POST", f"{base}/documents/{NOBODY}/segments"),
        ("GET", f"{base}/documents/{document}/segments/{NOBODY}"),
        ("GET", f"{base}/documents/{document}/segments/{NOBODY}/child_chunks"),
    ):
        assert (await bases.error(method, path, json={}))[:2] == (404, "not_found")
    for path in (base, f"{base}/documents/{document}", f"{base}/tags", f"{base}/metadata"):
        assert await elsewhere.error("GET", path) == (404, "not_found", "Dataset not found.")
    assert await elsewhere.error("GET", f"{other}/documents/{document}") == (404, "not_found", "Document not found.")
    refused = await elsewhere.error("PATCH", f"{base}/documents/status/archive", json={"document_ids": [document]})
    assert refused == (404, "not_found", "Dataset not found.")
    assert (await bases.good("GET", f"{base}/documents/{document}"))["archived"] is False


@on_both
async def test_documents_that_come_at_once_each_get_a_position(bases: Bases):
    base = await bases.create()
    await asyncio.gather(*(bases.write(base, name=f"part {number}") for number in range(12)))
    listed = (await bases.good("GET", f"{base}/documents"))["data"]
    assert sorted(item["position"] for item in listed) == list(range(1, 13))


RUN: dict[str, Any] = {
    "inputs": {},
    "datasource_type": "local_file",
    "start_node_id": "local_file",
    "is_published": True,
    "response_mode": "streaming",
}


async def test_a_pipeline_makes_documents_of_local_files(bases: Bases):
    base = await bases.create()
    files = [(await bases.upload("/datasets/pipeline/file-upload", text, name)).json for text, name in FILES]
    assert [(file["name"], file["size"]) for file in files] == [("pump.md", 16), ("motor.md", 16)]
    [plugin] = await bases.good("GET", f"{base}/pipeline/datasource-plugins")
    assert (plugin["node_id"], plugin["datasource_type"]) == ("local_file", "local_file")
    infos = [{"reference": files[0]["id"], "name": "Pumps"}, {"related_id": files[1]["id"]}]
    run = await bases.good("POST", f"{base}/pipeline/run", json={**RUN, "datasource_info_list": infos})
    assert [(item["name"], item["indexing_status"]) for item in run["documents"]] == [
        ("Pumps", "waiting"),
        ("motor.md", "waiting"),
    ]
    await bases.index()
    statuses = (await bases.good("GET", f"{base}/documents/{run['batch']}/indexing-status"))["data"]
    assert {item["id"]: item["indexing_status"] for item in statuses} == {
        item["id"]: "completed" for item in run["documents"]
    }
    [record] = (await bases.good("POST", f"{base}/retrieve", json={"query": "motor"}))["records"]
    assert record["segment"]["content"] == "The motor stops."
    detail = await bases.good("GET", f"{base}/documents/{run['documents'][0]['id']}")
    assert detail["created_from"] == "rag-pipeline"


FILES = ((b"The pump starts.", "pump.md"), (b"The motor stops.", "motor.md"))


async def test_a_pipeline_has_no_other_datasource(bases: Bases):
    base = await bases.create()
    file = (await bases.upload("/datasets/pipeline/file-upload", b"x")).json["id"]
    infos = [{"reference": file}]

    async def refused(**changes: Any) -> str:
        body = {**RUN, "datasource_info_list": infos, **changes}
        status, code, message = await bases.error("POST", f"{base}/pipeline/run", json=body)
        assert (status, code) == (400, "invalid_param")
        return message

    assert "Only local_file is available" in await refused(datasource_type="online_document")
    assert "no draft" in await refused(is_published=False)
    assert "only datasource node is local_file" in await refused(start_node_id="1719288585006")
    assert "datasource_info_list" in await refused(datasource_info_list=[])
    for reference in ("", "x", "../x", "0" * 8, str(uuid4())):
        assert "File not found" in await refused(datasource_info_list=[*infos, {"reference": reference}])
    draft = await bases.error("GET", f"{base}/pipeline/datasource-plugins?is_published=false")
    assert draft[:2] == (400, "invalid_param")
    node = f"{base}/pipeline/datasource/nodes/local_file/run"
    body: Any = {"inputs": {}, "datasource_type": "local_file", "is_published": True}
    assert "nothing to run" in (await bases.error("POST", node, json=body))[2]
    assert (await bases.good("GET", f"{base}/documents"))["total"] == 0, "all files or none"


async def test_a_pipeline_reads_no_file_of_another_workspace_or_app(bases: Bases):
    other = await bases.of("other")
    theirs = (await other.upload("/datasets/pipeline/file-upload", b"secret")).json["id"]
    base = await bases.create()
    document = (await bases.write(base, "x"))["document"]
    for file in (theirs, document["data_source_info"]["upload_file_id"]):
        body = {**RUN, "datasource_info_list": [{"reference": file}]}
        assert "File not found" in (await bases.error("POST", f"{base}/pipeline/run", json=body))[2]


async def test_models_are_those_that_are_used(bases: Bases):
    rerank = {"reranking_provider_name": "langgenius/jina/jina", "reranking_model_name": "jina-reranker-v2"}
    model = {"search_method": "semantic_search", "reranking_enable": True, "top_k": 3, "score_threshold_enabled": False}
    await bases.create(retrieval_model={**model, "reranking_model": rerank})
    [provider] = (await bases.good("GET", "/workspaces/current/models/model-types/rerank"))["data"]
    assert (provider["provider"], provider["models"][0]["model"]) == ("langgenius/jina/jina", "jina-reranker-v2")
    assert await bases.good("GET", "/workspaces/current/models/model-types/llm") == {"data": []}
    assert (await bases.error("GET", "/workspaces/current/models/model-types/dream"))[:2] == (400, "invalid_param")


async def test_settings_of_a_form_are_json(bases: Bases):
    base = await bases.create()
    body, headers = multipart({"data": json.dumps({"doc_language": "German"})}, ("a.md", "text/markdown", b"x"))
    created = await bases.good("POST", f"{base}/document/create-by-file", body=body, headers=headers)
    detail = await bases.good("GET", f"{base}/documents/{created['document']['id']}")
    assert (detail["doc_language"], detail["document_process_rule"]["mode"]) == ("German", "automatic")
