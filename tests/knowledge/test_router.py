"""Which knowledge base a workflow queries: one of its workspace, or one of another server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from headrace.errors import HeadraceError, InvalidParam, NodeError
from headrace.knowledge.router import KnowledgeRouter, split_ids
from headrace.ports.catalog import App
from headrace.ports.knowledge import Dataset, Document, ProcessRule
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.ports.services import DatasetDescription, Passage, Retrieval
from headrace.stores.sql import SqlStorage
from headrace.values import Value

OURS, THEIRS = "8a9b1c2d-0000-4000-8000-000000000001", "8a9b1c2d-0000-4000-8000-000000000002"
NOBODYS = "8a9b1c2d-0000-4000-8000-000000000003"


class Local:
    """Bases that find their own name."""

    def __init__(self, store: KnowledgeStore) -> None:
        self.store = store
        self.used = True
        self.failure: HeadraceError | None = None

    async def is_used(self) -> bool:
        return self.used

    async def passages(self, dataset: Dataset, retrieval: Retrieval) -> Sequence[Passage]:
        if self.failure is not None:
            raise self.failure
        return [Passage(f"{dataset.name}: {retrieval.query}", dataset.name, 1.0)]

    async def scores(self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]) -> Sequence[float]:
        if self.failure is not None:
            raise self.failure
        return [7.0 for _ in passages]


class Elsewhere:
    async def retrieve(self, retrieval: Retrieval) -> Sequence[Passage]:
        return [Passage(f"elsewhere: {retrieval.query}", "", None)]

    async def fields(self, dataset: str, app: str = "") -> Sequence[str]:
        return ["theirs"]

    async def describe(self, dataset: str, app: str = "") -> DatasetDescription:
        return DatasetDescription("Elsewhere", "All of theirs")

    async def scores(
        self, query: str, passages: Sequence[Passage], settings: Mapping[str, Value]
    ) -> Sequence[float | None]:
        raise AssertionError

    def missing(self, dataset: str) -> str | None:
        return f"{dataset} is nowhere" if dataset in ("other", NOBODYS) else None


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Local]:
    storage = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    assert storage.knowledge is not None
    local = Local(storage.knowledge.open())
    await local.store.datasets.add_dataset(Dataset(OURS, "default", "Ours", 1.0, 1.0))
    await local.store.datasets.add_dataset(Dataset(THEIRS, "acme", "Theirs", 1.0, 1.0))
    yield local
    await storage.aclose()


@pytest.fixture
def router(local: Local) -> KnowledgeRouter:
    async def find_app(app: str) -> App | None:
        return App(app, "app", "workflow", "app.yml", "v1") if app == "a1" else None

    return KnowledgeRouter(local, Elsewhere(), {"hidden=": OURS, "wrong": THEIRS}, find_app)


async def content(router: KnowledgeRouter, dataset: str, app: str = "a1") -> str:
    (passage,) = await router.retrieve(Retrieval(dataset, "why?", app=app))
    return passage.content


async def test_a_base_of_the_workspace_is_found_by_its_id_and_through_the_map(router: KnowledgeRouter) -> None:
    assert await content(router, OURS) == await content(router, "hidden=") == "Ours: why?"
    assert await content(router, OURS.upper()) == "Ours: why?"
    assert await router.fields(OURS, "a1") == []


async def test_a_base_of_another_workspace_is_not_found(router: KnowledgeRouter) -> None:
    assert await content(router, THEIRS) == "elsewhere: why?"
    with pytest.raises(NodeError, match=f"'wrong': the workspace has none with the id {THEIRS}"):
        await content(router, "wrong")
    assert await content(router, OURS, "unknown") == "elsewhere: why?"


async def test_a_base_that_no_server_has_is_an_error(router: KnowledgeRouter) -> None:
    with pytest.raises(NodeError, match=f"^Knowledge base '{NOBODYS}': the workspace has none with this id\\.$"):
        await content(router, NOBODYS)


async def test_descriptions(router: KnowledgeRouter, local: Local) -> None:
    assert await router.describe(OURS, "a1") == DatasetDescription("Ours", technique="", has_documents=False)
    await local.store.datasets.change_dataset(
        OURS, {"technique": "high_quality", "embedding_provider": "p", "embedding_model": "m"}
    )
    document = Document("o1", OURS, "o1", "file", "batch", 1.0, 1.0, ProcessRule("r", "automatic"))
    await local.store.documents.add_document(document)
    await local.store.documents.change_document("o1", {"status": "completed"})
    described = DatasetDescription("Ours", technique="high_quality", embedding=("p", "m"))
    assert await router.describe(OURS, "a1") == described
    assert await router.describe("dify:1", "a1") == DatasetDescription("Elsewhere", "All of theirs")


async def test_passages_have_new_scores_only_if_something_orders_them(router: KnowledgeRouter, local: Local) -> None:
    scored, unscored = [Passage("a", "", 0.5), Passage("b", "", None)], [Passage("a", "", None)]
    assert await router.scores("q", scored, {}) == [0.5, None]
    assert await router.scores("q", scored, {"reranking_enable": False}) == [0.5, None]
    assert await router.scores("q", scored, {"reranking_enable": True}) == [7.0, 7.0]
    assert await router.scores("q", unscored, {}) == [7.0]
    local.failure = InvalidParam("vector_weight has to be a number.")
    with pytest.raises(NodeError, match="vector_weight has to be a number") as raised:
        await router.scores("q", scored, {"reranking_enable": True})
    assert raised.value.kind == "KnowledgeRetrievalNodeError"


async def test_other_ids_are_left_to_other_servers(router: KnowledgeRouter, local: Local) -> None:
    assert await content(router, "dify:1") == "elsewhere: why?"
    assert await router.fields("dify:1", "a1") == ["theirs"]
    local.used = False
    assert await content(router, OURS) == "elsewhere: why?"


def test_an_id_that_may_be_of_here_is_not_missing(router: KnowledgeRouter) -> None:
    assert (router.missing(OURS), router.missing("hidden=")) == (None, None)
    assert router.missing("other") == "other is nowhere"


async def test_errors_name_the_base(router: KnowledgeRouter, local: Local) -> None:
    local.failure = NodeError("The key is wrong.", "InvokeAuthorizationError")
    with pytest.raises(NodeError, match="Knowledge base 'Ours': The key is wrong") as raised:
        await content(router, OURS)
    assert raised.value.kind == "KnowledgeRetrievalNodeError"


def test_entries_for_bases_of_here_are_separated() -> None:
    entries = [f"a=local:{OURS.upper()}", "b=dify:x", f"c==local:{THEIRS}", "d=e"]
    assert split_ids(entries) == ({"a": OURS, "c=": THEIRS}, ["b=dify:x", "d=e"])


@pytest.mark.parametrize("entry", ["a=local:", "a=local:name", f"local:{OURS}", f"=local:{OURS}"])
def test_a_malformed_entry_is_an_error(entry: str) -> None:
    with pytest.raises(HeadraceError, match="is not 'id in the file=local:ID'"):
        split_ids([entry])
