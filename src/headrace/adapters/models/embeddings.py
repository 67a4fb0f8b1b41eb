"""Embedding models of every provider: OpenAI's `/embeddings`, those of plugins, and the demo model."""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.adapters.models.endpoint import Endpoint
from headrace.adapters.models.failures import CONNECTION
from headrace.adapters.models.json_tasks import JsonTasks
from headrace.adapters.models.plugins import PluginModels
from headrace.adapters.models.providers import last_part
from headrace.adapters.models.slots import Slot, unlimited
from headrace.content.words import index_terms
from headrace.errors import NodeError
from headrace.ports.knowledge import Vector

_TYPE = "text-embedding"
_MOST_TEXTS = {"tongyi": 10, "siliconflow": 32}  # in one call
_DEMO_DIMENSION = 256


class EmbeddingClient(JsonTasks):
    """Implements `Embeddings`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        plugins: PluginModels | None = None,
        *,
        demo: bool = False,
        slot: Slot = unlimited,
    ) -> None:
        super().__init__(environ, plugins, type_=_TYPE, demo=demo, slot=slot)

    async def embed(self, texts: Sequence[str], *, provider: str, model: str, query: bool = False) -> Sequence[Vector]:
        """See `Embeddings.embed`."""
        endpoint = self.endpoint(provider)
        if endpoint is None:
            return [_demo_vector(text) for text in texts]
        most = _MOST_TEXTS.get(last_part(provider), len(texts))
        vectors: list[Vector] = []
        for start in range(0, len(texts), most):
            part = texts[start : start + most]
            if isinstance(endpoint, Endpoint):
                answer = await self.post(endpoint, model, "embeddings", {"model": model, "input": part})
                vectors += _vectors(answer.get("data"), len(part), provider)
            else:
                fields = {"texts": part, "input_type": "query" if query else "document"}
                model_spec = await endpoint.find(provider, _TYPE, model)
                answer = await endpoint.result(model_spec, _TYPE, "invoke_text_embedding", fields, "")
                items = [{"index": n, "embedding": item} for n, item in enumerate(_items(answer.get("embeddings")))]
                vectors += _vectors(items, len(part), provider)
        return vectors


def _items(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _vectors(data: object, count: int, provider: str) -> list[Vector]:
    """The vectors in the order of their texts. NodeError if they are not the vectors of so many texts."""
    try:
        items = sorted(_items(data), key=lambda item: item["index"])
        vectors = [array("f", item["embedding"]) for item in items]
        if [item["index"] for item in items] == list(range(count)):
            return vectors
    except (KeyError, TypeError, OverflowError):
        pass
    raise NodeError(f"{last_part(provider)} sent a response that is not {count} embeddings.", CONNECTION)


def _demo_vector(text: str) -> Vector:
    """A vector of the words of a text: texts that share words are similar. It calls no model."""
    vector = array("f", bytes(4 * _DEMO_DIMENSION))
    for term in index_terms(text) or [text]:
        place = zlib.crc32(term.encode("utf-8", "replace"))
        vector[place % _DEMO_DIMENSION] += 1.0 if place & 0x10000 else -1.0
    if not any(vector):  # words that cancel each other
        vector[0] = 1.0
    length = math.hypot(*vector)
    return array("f", [number / length for number in vector])
