"""Rerank models of every provider: `/rerank` as Jina and Cohere have it, those of plugins, and the demo model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.adapters.models.endpoint import Endpoint
from headrace.adapters.models.failures import CONNECTION
from headrace.adapters.models.json_tasks import JsonTasks
from headrace.adapters.models.plugins import PluginModels
from headrace.adapters.models.providers import last_part
from headrace.adapters.models.slots import Slot, unlimited
from headrace.content.words import index_terms, query_terms
from headrace.errors import NodeError

_TYPE = "rerank"
_BASES = {"cohere": "https://api.cohere.com/v2"}


class RerankClient(JsonTasks):
    """Implements `Rerank`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        plugins: PluginModels | None = None,
        *,
        demo: bool = False,
        slot: Slot = unlimited,
    ) -> None:
        super().__init__(environ, plugins, type_=_TYPE, bases=_BASES, demo=demo, slot=slot)

    async def rerank(self, query: str, texts: Sequence[str], *, provider: str, model: str) -> Sequence[float]:
        """See `Rerank.rerank`. A text that the provider leaves out has the score 0."""
        if not texts:
            return []
        endpoint = self.endpoint(provider)
        if endpoint is None:
            return [_demo_score(query, text) for text in texts]
        if isinstance(endpoint, Endpoint):
            body = {"model": model, "query": query, "documents": texts, "top_n": len(texts)}
            answer = await self.post(endpoint, model, "rerank", body)
            return _scores(answer.get("results"), len(texts), provider, "relevance_score")
        model_spec = await endpoint.find(provider, _TYPE, model)
        fields = {"query": query, "docs": texts, "score_threshold": None, "top_n": len(texts)}
        answer = await endpoint.result(model_spec, _TYPE, "invoke_rerank", fields, "")
        return _scores(answer.get("docs"), len(texts), provider, "score")


def _scores(results: object, count: int, provider: str, field: str) -> list[float]:
    scores = [0.0] * count
    try:
        for result in cast("list[Any]", results):
            index = result["index"]
            if not 0 <= index < count:
                raise ValueError
            scores[index] = float(result[field])
    except (KeyError, TypeError, ValueError) as error:
        raise NodeError(f"{last_part(provider)} sent a response that is not a ranking.", CONNECTION) from error
    return scores


def _demo_score(query: str, text: str) -> float:
    """The share of the query's words that a text has. It calls no model."""
    words, terms = query_terms(query), frozenset(index_terms(text))
    return sum(word in terms for word in words) / len(words) if words else 0.0
