"""Knowledge bases elsewhere: both protocols over loopback, and what becomes of servers that fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from headrace.adapters.knowledge import KnowledgeClient
from headrace.errors import HeadraceError, NodeError
from headrace.ports.services import DatasetDescription, Passage, Retrieval
from headrace.settings import Settings
from tests.http.servers import serve

ID = "c42e2a6e-40b3-4330-96f8-f1e4d768e8c9"
HIDDEN = "mJ3+x/9Qdw=="  # as a Dify hides ids in its exports
CONDITIONS = {"logical_operator": "and", "conditions": [{"name": "a", "comparison_operator": "is", "value": "b"}]}


@dataclass
class Server:
    """Says `answer` to every retrieval, and `about` of every knowledge base; remembers what it was asked."""

    url: str = ""
    answer: Any = None
    status: int = 200
    about: Any = None
    about_status: int = 200
    requests: list[tuple[str, str, str | None, Any]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def reply(self, request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else None
        self.requests.append((request.method, request.path, request.headers.get("Authorization"), body))
        if self.hold is not None:
            await self.hold.wait()
        received, status = (self.about, self.about_status) if request.method == "GET" else (self.answer, self.status)
        raw = received if isinstance(received, bytes) else json.dumps(received).encode()
        return web.Response(body=raw, status=status, content_type="application/json")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    created = Server()
    dataset = "/v1/datasets/{id}"
    paths = ("/retrieval", "/kb/retrieval", dataset, f"{dataset}/retrieve", f"{dataset}/metadata")
    async with serve(dict.fromkeys(paths, created.reply)) as created.url:
        yield created


@asynccontextmanager
async def client(**settings: Any) -> AsyncIterator[KnowledgeClient]:
    created = KnowledgeClient(environ={}, **settings)
    try:
        yield created
    finally:
        await created.aclose()


async def external(server: Server, dataset: str = "kb", **more: Any) -> Sequence[Passage]:
    async with client(url=server.url, key="sk-ext") as knowledge:
        return await knowledge.retrieve(Retrieval(dataset, "why?", **more))


async def dify(server: Server, **more: Any) -> Sequence[Passage]:
    async with client(dify_url=server.url, dify_key="dataset-secret") as knowledge:
        return await knowledge.retrieve(Retrieval(ID, more.pop("query", "why?"), **more))


async def refused(server: Server, ask: Any = external, **more: Any) -> str:
    with pytest.raises(NodeError) as raised:
        await ask(server, **more)
    assert raised.value.kind == "KnowledgeRetrievalNodeError"
    return str(raised.value)


# ----------------------------------------------------------------------------------------------------------- external


async def test_an_external_knowledge_api(server: Server) -> None:
    server.answer = {
        "records": [
            {"content": "It is so.", "score": 0.98, "title": "a.txt", "metadata": {"path": "s3://a", "document_id": 7}},
            {"content": "Or so.", "title": None, "metadata": None},
        ]
    }
    passages = await external(server, top_k=3, score_threshold=0.5, conditions=CONDITIONS)
    assert server.requests == [
        (
            "POST",
            "/retrieval",
            "Bearer sk-ext",
            {
                "knowledge_id": "kb",
                "query": "why?",
                "retrieval_setting": {"top_k": 3, "score_threshold": 0.5},
                "metadata_condition": CONDITIONS,
            },
        )
    ]
    first = {
        "_source": "knowledge",
        "dataset_id": "kb",
        "dataset_name": "kb",
        "document_id": "7",
        "document_name": "a.txt",
        "data_source_type": "external",
        "doc_metadata": {"path": "s3://a", "document_id": 7},
    }
    assert passages[0] == Passage("It is so.", "a.txt", 0.98, first)
    assert (passages[1].content, passages[1].title, passages[1].score) == ("Or so.", "", None)


async def test_without_threshold_key_or_conditions(server: Server) -> None:
    server.answer = {"records": []}
    async with client(url=f"{server.url}/kb/retrieval/") as knowledge:
        assert await knowledge.retrieve(Retrieval("kb", "why? \ud800")) == []
    _, path, authorization, body = server.requests[0]
    assert (path, authorization) == ("/kb/retrieval", None)
    assert body["retrieval_setting"] == {"top_k": 4, "score_threshold": 0.0}
    assert "metadata_condition" not in body


# --------------------------------------------------------------------------------------------------------------- dify

SEGMENT = {
    "id": "seg",
    "position": 2,
    "document_id": "doc",
    "content": "Dify is a platform.",
    "sign_content": "",
    "answer": "",
    "word_count": 9,
    "index_node_hash": "abc",
    "hit_count": 1,
    "document": {"id": "doc", "data_source_type": "upload_file", "name": "guide.txt", "doc_metadata": {"a": 1}},
}
ABOUT = {
    "name": "Docs",
    "retrieval_model_dict": {
        "search_method": "hybrid_search",
        "reranking_enable": True,
        "reranking_mode": "reranking_model",
        "reranking_model": {"reranking_provider_name": "cohere", "reranking_model_name": "r"},
        "weights": None,
        "top_k": 99,
        "score_threshold_enabled": True,
        "score_threshold": 0.9,
    },
}


async def test_a_real_dify(server: Server) -> None:
    server.about = ABOUT
    child = {"id": "c", "content": "x", "position": 1, "score": 0.5}
    server.answer = {
        "query": {"content": "why?"},
        "records": [
            {"segment": SEGMENT, "child_chunks": [child], "score": 0.92, "files": [{"id": "f"}], "summary": "short"},
            {"segment": {**SEGMENT, "content": "Q", "answer": "A"}, "child_chunks": None, "score": None},
        ],
    }
    passages = await dify(server, top_k=3, score_threshold=0.2, conditions=CONDITIONS)
    assert [request[:3] for request in server.requests] == [
        ("GET", f"/v1/datasets/{ID}", "Bearer dataset-secret"),
        ("POST", f"/v1/datasets/{ID}/retrieve", "Bearer dataset-secret"),
    ]
    assert server.requests[1][3] == {
        "query": "why?",
        "retrieval_model": {
            "search_method": "hybrid_search",
            "reranking_enable": True,
            "reranking_mode": "reranking_model",
            "reranking_model": {"reranking_provider_name": "cohere", "reranking_model_name": "r"},
            "top_k": 3,
            "score_threshold_enabled": True,
            "score_threshold": 0.2,
            "metadata_filtering_conditions": CONDITIONS,
        },
    }
    fields = {
        "_source": "knowledge",
        "dataset_id": ID,
        "dataset_name": "Docs",
        "document_id": "doc",
        "document_name": "guide.txt",
        "data_source_type": "upload_file",
        "segment_id": "seg",
        "child_chunks": [child],
        "segment_hit_count": 1,
        "segment_word_count": 9,
        "segment_position": 2,
        "segment_index_node_hash": "abc",
        "doc_metadata": {"a": 1},
    }
    assert passages[0] == Passage("Dify is a platform.", "guide.txt", 0.92, fields, "short", [{"id": "f"}])
    assert passages[1].content == "question:Q \nanswer:A"
    assert (passages[1].score, passages[1].metadata["child_chunks"]) == (None, [])


async def test_the_node_decides_over_the_base(server: Server) -> None:
    server.about, server.answer = ABOUT, {"records": []}
    await dify(server, settings={"reranking_enable": False})
    model = server.requests[1][3]["retrieval_model"]
    assert (model["reranking_enable"], model["search_method"]) == (False, "hybrid_search")
    assert (model["score_threshold_enabled"], model["score_threshold"]) == (False, None)


async def test_the_base_decides_where_the_node_leaves_it_to_it(server: Server) -> None:
    own = {"top_k": 7, "score_threshold_enabled": True, "score_threshold": 0.4}
    server.about = {**ABOUT, "retrieval_model_dict": {**ABOUT["retrieval_model_dict"], **own}}
    server.answer = {"records": []}
    await dify(server, settings={"reranking_enable": False}, top_k=2, score_threshold=0.9, by_own_settings=True)
    model = server.requests[1][3]["retrieval_model"]
    assert {name: model[name] for name in own} == own
    assert model["reranking_enable"] is True


async def test_what_servers_say_of_their_bases(server: Server) -> None:
    server.about = {**ABOUT, "description": "All about pumps"}
    async with client(dify_url=server.url, dify_key="k") as knowledge:
        assert await knowledge.describe(ID) == DatasetDescription("Docs", "All about pumps")
    server.about |= {
        "indexing_technique": "high_quality",
        "embedding_model_provider": "p",
        "embedding_model": "m",
        "total_available_documents": 0,
    }
    described = DatasetDescription("Docs", "All about pumps", "high_quality", ("p", "m"), has_documents=False)
    async with client(dify_url=server.url, dify_key="k") as knowledge:
        assert await knowledge.describe(ID) == described
        server.about |= {"total_available_documents": 1}
        assert await knowledge.describe(ID) == replace(described, has_documents=True)  # is asked for again until then
    server.about |= {"indexing_technique": None, "provider": "external", "total_available_documents": 0}
    async with client(dify_url=server.url, dify_key="k") as knowledge:
        external = await knowledge.describe(ID)
    assert (external.technique, external.has_documents) == ("", True)
    async with client(url=server.url) as knowledge:
        assert await knowledge.describe("kb") == DatasetDescription("kb", technique="")


async def test_an_old_dify_that_tells_nothing_of_its_bases(server: Server) -> None:
    server.about, server.about_status, server.answer = {}, 405, {"records": [{"segment": SEGMENT, "score": 1}]}
    passages = await dify(server)
    assert passages[0].metadata["dataset_name"] == ID
    assert server.requests[1][3]["retrieval_model"]["search_method"] == "semantic_search"


async def test_what_a_dify_says_of_a_base_is_remembered(server: Server) -> None:
    server.about, server.answer = ABOUT, {"records": []}
    async with client(dify_url=f"{server.url}/v1/", dify_key="k") as knowledge:
        for _ in range(3):
            await knowledge.retrieve(Retrieval(ID, "why?"))
    assert [request[0] for request in server.requests] == ["GET", "POST", "POST", "POST"]


async def test_a_query_longer_than_a_dify_takes_is_cut(server: Server) -> None:
    server.about, server.answer = ABOUT, {"records": []}
    await dify(server, query="ä" * 1000)
    assert server.requests[1][3]["query"] == "ä" * 250


# ---------------------------------------------------------------------------------------------------- which is where


async def test_the_external_server_is_asked_unless_the_ids_say_otherwise(server: Server) -> None:
    server.about, server.answer = ABOUT, {"records": []}
    ids = [f"{HIDDEN} = dify:{ID}", "old=new", "kb:1=external:x:y"]
    async with client(url=server.url, dify_url=server.url, dify_key="k", ids=ids) as knowledge:
        for dataset in (ID, "old", "kb:1", HIDDEN):
            assert knowledge.missing(dataset) is None
            await knowledge.retrieve(Retrieval(dataset, "why?"))
    request = [body.get("knowledge_id", path) for _, path, _, body in server.requests if body]
    assert request == [ID, "new", "x:y", f"/v1/datasets/{ID}/retrieve"]


async def fields(server: Server, **settings: Any) -> Sequence[str]:
    async with client(**settings or {"dify_url": server.url, "dify_key": "dataset-secret"}) as knowledge:
        return await knowledge.fields(ID)


async def test_the_metadata_fields_of_a_dify_knowledge_base(server: Server) -> None:
    names = [{"id": "1", "name": "author", "type": "string", "count": 3}, {"name": None}, {"id": "2"}, "x"]
    server.about = {"doc_metadata": names, "built_in_field_enabled": True}
    assert await fields(server) == ["author"]
    assert server.requests == [("GET", f"/v1/datasets/{ID}/metadata", "Bearer dataset-secret", None)]


@pytest.mark.parametrize(("status", "about"), [(404, {"code": "not_found"}), (200, {"doc_metadata": None}), (200, {})])
async def test_a_dify_that_has_no_metadata(server: Server, status: int, about: Any) -> None:
    server.about, server.about_status = about, status
    assert await fields(server) == []


async def test_an_external_server_has_no_way_to_say_its_fields(server: Server) -> None:
    assert await fields(server, url=server.url) == []
    assert server.requests == []


async def test_a_dify_that_keeps_its_metadata_to_itself(server: Server) -> None:
    server.about, server.about_status = {"code": "unauthorized", "message": "dataset-secret is no key"}, 401
    body = await refused(server, fields)
    assert body.startswith(f"Knowledge base '{ID}': ")
    assert "dataset-secret" not in body
    assert "(HTTP status 401)" in body


@pytest.mark.parametrize(
    ("settings", "dataset", "lacks"),
    [
        ({}, ID, "Set HEADRACE_DIFY_URL and HEADRACE_DIFY_DATASET_KEY"),
        ({"dify_url": "http://x"}, ID, "set HEADRACE_DIFY_DATASET_KEY"),
        ({"dify_url": "http://x", "dify_key": "k"}, HIDDEN, f"Add '{HIDDEN}=ID' to HEADRACE_KNOWLEDGE_IDS"),
        ({"dify_url": "http://x", "dify_key": "k", "ids": ["a=external:b"]}, "a", "set HEADRACE_KNOWLEDGE_URL"),
    ],
)
async def test_what_is_missing_is_reported(settings: dict[str, Any], dataset: str, lacks: str) -> None:
    async with client(**settings) as knowledge:
        message = knowledge.missing(dataset)
        assert message is not None
        assert lacks in message
        assert f"'{dataset}'" in message
        with pytest.raises(NodeError) as raised:
            await knowledge.retrieve(Retrieval(dataset, "why?"))
        assert str(raised.value) == message


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "example.com"},
        {"url": "http://"},
        {"dify_url": "http://x:0"},
        {"dify_url": "ftp://x"},
        {"url": "http://x?a=1"},
        {"key": "kéy"},
        {"dify_key": "a\nb"},
        {"ids": ["a"]},
        {"ids": ["=b"]},
        {"ids": ["a=dify:"]},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(HeadraceError, match="HEADRACE_"):
        KnowledgeClient(**settings)


def test_ids_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KNOWLEDGE_IDS", f"{HIDDEN}={ID}, a=b")
    assert Settings().knowledge_ids == [f"{HIDDEN}={ID}", "a=b"]


# ----------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (403, {"error_code": 1001, "error_msg": "Bad key sk-ext"}, "Bad key *** (HTTP status 403)"),
        (404, {"code": "not_found", "message": "Dataset not found.", "status": 404}, "not found. (HTTP status 404)"),
        (500, b"<html>", "the knowledge server answered 500 Internal Server Error. (HTTP status 500)"),
        (302, {}, "(HTTP status 302)"),
        (200, {"error_code": 2001, "error_msg": "No such knowledge"}, "No such knowledge"),
        (200, b"{", "not a JSON object"),
        (200, [], "not a JSON object"),
        (200, {}, "no list of records"),
        (200, {"records": None}, "no list of records"),
        (200, {"records": ["x"]}, "a record that is not an object"),
    ],
)
async def test_a_server_that_fails(server: Server, status: int, answer: Any, message: str) -> None:
    server.status, server.answer = status, answer
    error = await refused(server)
    assert error.startswith("Knowledge base 'kb': ")
    assert message in error


async def test_a_dify_that_refuses(server: Server) -> None:
    server.about, server.about_status = {"message": "Access token is invalid"}, 401
    assert "Access token is invalid (HTTP status 401)" in await refused(server, dify)
    server.about_status, server.status, server.answer = 404, 404, {"message": "Dataset not found."}
    assert f"'{ID}': Dataset not found. (HTTP status 404)" in await refused(server, dify)
    server.status, server.answer = 200, {"records": [{"score": 1}]}
    assert "a record without a segment" in await refused(server, dify)


async def test_a_server_that_does_not_answer(server: Server) -> None:
    server.hold = asyncio.Event()
    async with client(url=server.url, seconds=0.05) as knowledge:
        with pytest.raises(NodeError, match=r"'kb': no answer within 0\.05 seconds"):
            await knowledge.retrieve(Retrieval("kb", "why?"))
    server.hold.set()


async def test_a_server_that_is_not_there(server: Server) -> None:
    gone = Server(url="http://127.0.0.1:1")
    assert "Knowledge base 'kb': the knowledge server (127.0.0.1:1) could not be reached" in await refused(gone)


async def test_an_answer_that_never_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.adapters.knowledge._LARGEST", 1000)
    server.answer = {"records": [{"content": "x" * 2000}]}
    assert "a response of more than 1000 bytes" in await refused(server)
