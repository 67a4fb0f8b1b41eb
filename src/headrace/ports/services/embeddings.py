"""Models that turn texts into vectors, and models that order texts by how well they answer a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.ports.knowledge import Vector


class Embeddings(Protocol):
    """Embedding models of every provider. `provider` is written as in Dify (`langgenius/openai/openai`, `openai`)."""

    def missing(self, provider: str) -> str | None:
        """A message that says which setting of a provider is missing; None if none is."""
        ...

    async def embed(self, texts: Sequence[str], *, provider: str, model: str, query: bool = False) -> Sequence[Vector]:
        """The vector of each text, of any length. `query`: the texts are queries, which some models embed in another
        way. NodeError as for `Models.chat`."""
        ...


class Rerank(Protocol):
    """Rerank models of every provider."""

    def missing(self, provider: str) -> str | None:
        """A message that says which setting of a provider is missing; None if none is."""
        ...

    async def rerank(self, query: str, texts: Sequence[str], *, provider: str, model: str) -> Sequence[float]:
        """The score of each text, mostly from 0 to 1. NodeError as for `Models.chat`."""
        ...
