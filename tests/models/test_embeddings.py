"""Embedding and rerank models over HTTP."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.adapters.models.embeddings import EmbeddingClient
from headrace.adapters.models.rerank import RerankClient
from headrace.errors import NodeError
from tests.models.server import ModelServer, ReceivedRequest, Script

KEY = "sk-very-secret"


@pytest.fixture
async def embeddings(server: ModelServer) -> AsyncIterator[EmbeddingClient]:
    client = EmbeddingClient({"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY})
    yield client
    await client.aclose()


@pytest.fixture
async def reranker(server: ModelServer) -> AsyncIterator[RerankClient]:
    client = RerankClient({"COHERE_BASE_URL": f"{server.url}/v2", "COHERE_API_KEY": KEY})
    yield client
    await client.aclose()


def answering(body: Any, status: int = 200) -> Script:
    return lambda request: request.refuse(status, body)


async def test_embeddings_are_in_the_order_of_the_texts(server: ModelServer, embeddings: EmbeddingClient) -> None:
    data = [{"index": 1, "embedding": [0.5, -1]}, {"index": 0, "embedding": [2, 0.25]}]
    server.answer(answering({"data": data, "usage": {"total_tokens": 3}}))
    vectors = await embeddings.embed(["a", "b"], provider="langgenius/openai/openai", model="small")
    assert [list(vector) for vector in vectors] == [[2.0, 0.25], [0.5, -1.0]]
    request = server.requests[0]
    assert (request.path, request.body) == ("/v1/embeddings", {"model": "small", "input": ["a", "b"]})
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        [{"index": 0}],
        [{"embedding": [1]}],
        [{"index": 1, "embedding": [1]}],
        [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}],
        [{"index": 0, "embedding": "AAAA"}],
        [{"index": 0, "embedding": ["1"]}],
        [{"index": "0", "embedding": [1]}, {"index": 0, "embedding": [1]}],
        [[0, [1]]],
        "text",
    ],
)
async def test_what_is_not_embeddings_is_refused(data: Any, server: ModelServer, embeddings: EmbeddingClient) -> None:
    server.answer(answering({"data": data}))
    with pytest.raises(NodeError, match="openai sent a response that is not 1 embeddings") as error:
        await embeddings.embed(["a"], provider="openai", model="m")
    assert error.value.kind == "InvokeConnectionError"


@pytest.mark.parametrize("body", [b"[]", b"not JSON", b""])
async def test_what_is_not_an_object_is_refused(body: bytes, server: ModelServer, embeddings: EmbeddingClient) -> None:
    server.answer(answering(body))
    with pytest.raises(NodeError, match="not a JSON object"):
        await embeddings.embed(["a"], provider="openai", model="m")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "InvokeAuthorizationError"),
        (429, "InvokeRateLimitError"),
        (500, "InvokeServerUnavailableError"),
        (400, "InvokeBadRequestError"),
    ],
)
async def test_refusals(status: int, kind: str, server: ModelServer, embeddings: EmbeddingClient) -> None:
    server.answer(answering({"error": {"message": f"no, {KEY}"}}, status))
    with pytest.raises(NodeError, match=r"no, \*\*\*") as error:
        await embeddings.embed(["a"], provider="openai", model="m")
    assert error.value.kind == kind


async def test_a_provider_that_takes_few_texts(server: ModelServer) -> None:
    async def answer(request: ReceivedRequest) -> None:
        texts = request.body["input"]
        await request.refuse(200, {"data": [{"index": n, "embedding": [len(text)]} for n, text in enumerate(texts)]})

    server.answer(answer)
    client = EmbeddingClient({"TONGYI_API_KEY": KEY, "TONGYI_BASE_URL": server.url})
    vectors = await client.embed(["a" * (n + 1) for n in range(23)], provider="tongyi", model="v3")
    await client.aclose()
    assert [len(request.body["input"]) for request in server.requests] == [10, 10, 3]
    assert [vector[0] for vector in vectors] == [float(n + 1) for n in range(23)]


async def test_providers_that_are_not_configured() -> None:
    client = EmbeddingClient({"ANTHROPIC_API_KEY": KEY})
    assert "Set OPENAI_API_KEY" in (client.missing("langgenius/openai/openai") or "")
    assert "no text-embedding models" in (client.missing("anthropic") or "")
    assert "JINA_API_KEY" not in (client.missing("jina") or "")
    with pytest.raises(NodeError, match="provider_not_initialize"):
        await client.embed(["a"], provider="openai", model="m")


async def test_the_demo_model() -> None:
    client = EmbeddingClient({}, demo=True)
    assert client.missing("openai") is None
    invoice, copy, other, empty = await client.embed(
        ["the invoice is due", "The INVOICE is due", "apples", ""], provider="demo", model="demo"
    )
    assert invoice == copy
    assert invoice != other
    assert all(math.hypot(*vector) == pytest.approx(1.0) for vector in (invoice, other, empty))
    assert await RerankClient({}, demo=True).rerank("due apples", ["apples", "pears"], provider="demo", model="") == [
        0.5,
        0.0,
    ]


async def test_rerank(server: ModelServer, reranker: RerankClient) -> None:
    server.answer(answering({"results": [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]}))
    scores = await reranker.rerank("q", ["a", "b", "c"], provider="langgenius/cohere/cohere", model="rerank-v3.5")
    assert scores == [0.1, 0.0, 0.9]
    assert server.requests[0].path == "/v2/rerank"
    assert server.requests[0].body == {"model": "rerank-v3.5", "query": "q", "documents": ["a", "b", "c"], "top_n": 3}
    assert await reranker.rerank("q", [], provider="cohere", model="m") == []


@pytest.mark.parametrize(
    "results",
    [None, [{"index": 1, "relevance_score": 1}], [{"index": -1, "relevance_score": 1}], [{"index": 0}], [1], "x"],
)
async def test_what_is_not_a_ranking_is_refused(results: Any, server: ModelServer, reranker: RerankClient) -> None:
    server.answer(answering(json.loads(json.dumps({"results": results}))))
    with pytest.raises(NodeError, match="cohere sent a response that is not a ranking"):
        await reranker.rerank("q", ["a"], provider="cohere", model="m")
