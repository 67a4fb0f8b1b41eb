"""Documents, knowledge bases, and the history of conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Protocol

from headrace.frozen import frozen
from headrace.kernel.steps import Step
from headrace.values import File, Value


class Documents(Protocol):
    """Extracts the text of documents."""

    async def text(self, data: bytes, *, extension: str, mime_type: str | None) -> str:
        """The document's text; `extension` begins with a dot (`.pdf`) or is empty. NodeError with kind
        `UnsupportedFileTypeError` or `TextExtractionError`."""
        ...

    async def article(self, data: bytes, *, charset: str = "") -> str:
        """What a web page is about, without navigation and the like: title, author and paragraphs, in the form of
        Dify's web scraper; "" if there is nothing. NodeError with kind `TextExtractionError`."""
        ...


@frozen
class Retrieval:
    """A query to a knowledge base by a run of `app`. `settings` are Dify's `retrieval_model`; `conditions` its metadata
    filter (`{logical_operator, conditions: [{name, comparison_operator, value}]}`). `by_own_settings`: the knowledge
    base's own settings count, where it has some, and not these."""

    dataset: str
    query: str
    top_k: int = 4
    score_threshold: float | None = None
    settings: Mapping[str, Value] = field(default_factory=dict[str, Value])
    conditions: Mapping[str, Value] | None = None
    app: str = ""
    by_own_settings: bool = False


@frozen
class Passage:
    """A result of a retrieval. `metadata` is that of Dify's `result` items; `files` are its attachments, as
    objects."""

    content: str
    title: str
    score: float | None
    metadata: Mapping[str, Value] = field(default_factory=dict[str, Value])
    summary: str | None = None
    files: Sequence[Mapping[str, Value]] = ()


@frozen
class DatasetDescription:
    """What a server says of a knowledge base. `technique` is that of its index (`high_quality`, `economy`), "" if it
    has none, None if the server does not say; `embedding` is (provider, model). `has_documents`: there are some that
    can be found."""

    name: str
    description: str = ""
    technique: str | None = None
    embedding: tuple[str, str] = ("", "")
    has_documents: bool = True


class Knowledge(Protocol):
    """Knowledge bases: those of an app's workspace, of a Dify, or of a server of Dify's external knowledge API."""

    async def retrieve(self, retrieval: Retrieval) -> Sequence[Passage]:
        """The matching passages, best first. NodeError with kind `KnowledgeRetrievalNodeError`."""
        ...

    async def fields(self, dataset: str, app: str = "") -> Sequence[str]:
        """The names of its documents' metadata fields, if the server lists them. NodeError as for `retrieve`."""
        ...

    async def describe(self, dataset: str, app: str = "") -> DatasetDescription:
        """What its server says of it. NodeError as for `retrieve`."""
        ...

    async def scores(
        self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]
    ) -> Sequence[float | None]:
        """The scores that put the passages of several knowledge bases into one order: by a rerank model or by weights,
        as of `settings` (as of Retrieval); else those that they have. NodeError as for `Models.chat`."""
        ...

    def missing(self, dataset: str) -> str | None:
        """A message that says which setting is missing to reach this knowledge base; None if none is."""
        ...


@frozen
class Turn:
    """A question, with its files, and its answer. `run` is the run that answered; "" if the caller sent the turn."""

    query: str
    answer: str
    files: Sequence[File] = ()
    run: str = field(default="", compare=False)


class History(Protocol):
    """The earlier exchanges of a conversation."""

    async def turns(self, conversation: str, before: str, limit: int) -> Sequence[Turn]:
        """The last `limit` answered exchanges before a run, oldest first."""
        ...

    async def steps(self, run: str) -> Sequence[Step]:
        """The steps of a run whose nodes had steps, in the order of their start; none if its journal is gone."""
        ...
