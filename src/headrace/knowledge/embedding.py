"""Texts as vectors of length 1: in batches, each text once, and none that the cache has."""

from __future__ import annotations

import asyncio
import hashlib
import math
from array import array
from collections.abc import Callable, Sequence

from headrace.background import back_off
from headrace.errors import NodeError
from headrace.ports.knowledge import Vector
from headrace.ports.knowledge_store import EmbeddingCache
from headrace.ports.services.embeddings import Embeddings

BATCH = 64  # texts in one call
_TRANSIENT = frozenset({"InvokeConnectionError", "InvokeRateLimitError", "InvokeServerUnavailableError"})
_ATTEMPTS = 6  # of one call
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0  # seconds between them


class Embedder:
    """`pause` is the time before the second attempt of a call, in seconds."""

    def __init__(
        self,
        embeddings: Embeddings,
        cache: EmbeddingCache,
        clock: Callable[[], float],
        pause: float = _FIRST_PAUSE,
    ) -> None:
        self.embeddings = embeddings
        self._cache = cache
        self._clock = clock
        self._pause = pause

    async def vectors(self, texts: Sequence[str], provider: str, model: str, *, query: bool = False) -> list[Vector]:
        """The vector of each text. NodeError if the model fails, after several attempts if it may succeed later."""
        keys = [_key(text, provider, model, query=query) for text in texts]
        vectors = dict(await self._cache.cached_vectors(keys, self._clock()))
        unknown = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
        names = list(unknown)
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            answer = await self._call([unknown[key] for key in batch], provider, model, query=query)
            if len(answer) != len(batch):
                reason = f"The model {model} returned {len(answer)} vectors for {len(batch)} texts."
                raise NodeError(reason, "InvokeBadRequestError")
            new = {key: normalized(vector, model) for key, vector in zip(batch, answer, strict=True)}
            await self._cache.cache_vectors(new, self._clock())
            vectors |= new
        return [vectors[key] for key in keys]

    async def _call(self, texts: Sequence[str], provider: str, model: str, *, query: bool) -> Sequence[Vector]:
        attempt = 1
        while True:
            try:
                return await self.embeddings.embed(texts, provider=provider, model=model, query=query)
            except NodeError as error:
                if error.kind not in _TRANSIENT or attempt == _ATTEMPTS or query:  # somebody waits for a query
                    raise
            await asyncio.sleep(back_off(attempt, self._pause, _LONGEST_PAUSE))
            attempt += 1


def normalized(vector: Vector, model: str) -> Vector:
    """A vector of the same direction and of length 1. NodeError if it has none."""
    length = math.hypot(*vector)
    if not vector or not 0 < length < math.inf:
        raise NodeError(f"The model {model} returned a vector without a direction.", "InvokeBadRequestError")
    return array("f", [number / length for number in vector])


def _key(text: str, provider: str, model: str, *, query: bool) -> str:
    source = "\0".join([provider, model, "query" if query else "", text])
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
