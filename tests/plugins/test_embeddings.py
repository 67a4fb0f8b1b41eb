"""Embedding and rerank models of plugins."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.adapters.models import PluginModels
from headrace.adapters.models.embeddings import EmbeddingClient
from headrace.adapters.models.rerank import RerankClient
from headrace.errors import NodeError
from tests.plugins.fakes import install, running

PROVIDER = "tests/fake/fake"


async def test_a_plugin_embeds_and_ranks(tmp_path: Path) -> None:
    install(tmp_path)
    async with running(tmp_path) as (_, plugins):
        models = PluginModels(plugins)
        embeddings, reranker = EmbeddingClient({}, models), RerankClient({}, models)
        vectors = await embeddings.embed(["a", "bc"], provider=PROVIDER, model="any")
        assert [list(vector) for vector in vectors] == [[1.0], [2.0]]
        assert await reranker.rerank("b", ["a", "b"], provider=PROVIDER, model="any") == [1.0, 1.0]
        assert embeddings.missing(PROVIDER) is None
        with pytest.raises(NodeError, match="OTHER_BASE_URL"):
            await embeddings.embed(["a"], provider="langgenius/other/other", model="m")
