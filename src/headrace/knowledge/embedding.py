"""Texts as vectors of length 1: in batches, each text once, and none that the cache has."""

from __future__ import annotations

import asyncio
import hashlib
import math
from array import array
from collections.abc import Callable, Sequence
from functools import partial

from headrace.background import back_off
from headrace.cache import Cache
from headrace.errors import NodeError
from headrace.ports.knowledge import Vector
from headrace.ports.knowledge_store import EmbeddingCache
from headrace.ports.services.embeddings import Embeddings

BATCH = 64  # texts in one call
_TRANSIENT = frozenset({"InvokeConnectionError", "InvokeRateLimitError", "InvokeServerUnavailableError"})
_QUERIES = 500  # whose vectors are kept in memory
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0  # seconds between them


class Embedder:
    """A call is made up to `attempts` times, if it may succeed later; `pause` is the time before the second one, in
    seconds."""

    def __init__(
        self,
        embeddings: Embeddings,
        cache: EmbeddingCache,
        clock: Callable[[], float],
        *,
        attempts: int = 1,
        pause: float = _FIRST_PAUSE,
    ) -> None:
        self.embeddings = embeddings
        self._cache = cache
        self._clock = clock
        self._attempts = attempts
        self._pause = pause
        self._queries: Cache[Vector] = Cache(_QUERIES)

    async def vectors(self, texts: Sequence[str], provider: str, model: str, *, query: bool = False) -> list[Vector]:
        """The vector of each text. NodeError if the model fails."""
        if query:  # is not written to the database, as a search would have to wait for that
            return [
                await self._queries.get((text, provider, model), partial(self._query, text, provider, model))
                for text in texts
            ]
        keys = [_key(text, provider, model) for text in texts]
        vectors = dict(await self._cache.cached_vectors(keys, self._clock()))
        unknown = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
        names = list(unknown)
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            answer = await self._call([unknown[key] for key in batch], provider, model)
            new = dict(zip(batch, answer, strict=True))
            await self._cache.cache_vectors(new, self._clock())
            vectors |= new
        return [vectors[key] for key in keys]

    async def _query(self, text: str, provider: str, model: str) -> Vector:
        return (await self._call([text], provider, model, query=True))[0]

    async def _call(self, texts: Sequence[str], provider: str, model: str, *, query: bool = False) -> Sequence[Vector]:
        attempt = 1
        while True:
            try:
                answer = await self.embeddings.embed(texts, provider=provider, model=model, query=query)
                break
            except NodeError as error:
                if error.kind not in _TRANSIENT or attempt >= self._attempts:
                    raise
            await asyncio.sleep(back_off(attempt, self._pause, _LONGEST_PAUSE))
            attempt += 1
        if len(answer) != len(texts):
            reason = f"The model {model} returned {len(answer)} vectors for {len(texts)} texts."
            raise NodeError(reason, "InvokeBadRequestError")
        if len(dimensions := {len(vector) for vector in answer}) > 1:
            reason = f"The model {model} returned vectors of different dimensions: {sorted(dimensions)}."
            raise NodeError(reason, "InvokeBadRequestError")
        return await asyncio.to_thread(_normalized, answer, model)  # tens of milliseconds


def _normalized(vectors: Sequence[Vector], model: str) -> list[Vector]:
    return [normalized(vector, model) for vector in vectors]


def normalized(vector: Vector, model: str) -> Vector:
    """A vector of the same direction and of length 1. NodeError if it has none."""
    length = math.hypot(*vector)
    if not vector or not 0 < length < math.inf:
        raise NodeError(f"The model {model} returned a vector without a direction.", "InvokeBadRequestError")
    return array("f", [number / length for number in vector])


def _key(text: str, provider: str, model: str) -> str:
    return hashlib.sha256("\0".join([provider, model, text]).encode("utf-8", "surrogatepass")).hexdigest()
