"""What is to be read: documents, knowledge bases, and what was said before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace.values import File, Value


class Documents(Protocol):
    """Reads the text of documents."""

    async def text(self, data: bytes, *, extension: str, mime_type: str | None) -> str:
        """The document's text; `extension` begins with a dot (`.pdf`) or is empty. NodeError with kind
        `UnsupportedFileTypeError` or `TextExtractionError`."""
        ...

    async def article(self, data: bytes, *, charset: str = "") -> str:
        """What a web page is about, without navigation and the like: title, author and paragraphs, in the form of
        Dify's web scraper; "" if there is nothing. NodeError with kind `TextExtractionError`."""
        ...


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What is asked of a knowledge base. `settings` are Dify's `retrieval_model`; `conditions` its metadata filter
    (`{logical_operator, conditions: [{name, comparison_operator, value}]}`)."""

    dataset: str
    query: str
    top_k: int = 4
    score_threshold: float | None = None
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])
    conditions: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a knowledge base that fits a query; `metadata` is what Dify's `result` items carry. `files` are
    attached to it, as objects."""

    content: str
    title: str
    score: float | None
    metadata: Mapping[str, Value] = field(default_factory=dict[str, Value])
    summary: str | None = None
    files: Sequence[Mapping[str, Value]] = ()


class Knowledge(Protocol):
    """Knowledge bases elsewhere: a real Dify's, or any that speaks Dify's external knowledge API."""

    async def retrieve(self, retrieval: Retrieval) -> Sequence[Passage]:
        """The passages that fit, best first. NodeError with kind `KnowledgeRetrievalNodeError`."""
        ...

    async def fields(self, dataset: str) -> Sequence[str]:
        """The names of the metadata fields that its documents have, as far as it says. NodeError as `retrieve`."""
        ...

    def missing(self, dataset: str) -> str | None:
        """What to set so that this knowledge base can be asked, in words; None where nothing lacks."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of a conversation; `files` came with the question."""

    query: str
    answer: str
    files: Sequence[File] = ()


class History(Protocol):
    """What was said before in a conversation."""

    async def turns(self, conversation: str, before: str, limit: int) -> Sequence[Turn]:
        """The newest `limit` exchanges that came before a run and got an answer, oldest first."""
        ...
