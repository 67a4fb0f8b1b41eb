"""What every store of knowledge bases promises."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from headrace.ports.knowledge import (
    SUMMARY,
    ChildChunk,
    Dataset,
    DatasetCounts,
    Document,
    DocumentFilter,
    IndexNode,
    MetadataField,
    ProcessRule,
    Progress,
    Segment,
    SegmentFilter,
    SegmentIndex,
    Tag,
)
from headrace.ports.knowledge_store import KnowledgeStore
from headrace.stores.sql import SqlStorage

RULE = ProcessRule("rule", "custom", {"segmentation": {"separator": "\n\n", "max_tokens": 500}})


@pytest.fixture
async def storage(url: str) -> AsyncIterator[SqlStorage]:
    storage = await SqlStorage.open(url)
    yield storage
    await storage.aclose()


@pytest.fixture
def store(storage: SqlStorage) -> KnowledgeStore:
    assert storage.knowledge is not None
    return storage.knowledge.open()


def dataset(id_: str = "d1", name: str = "Manual", **more: Any) -> Dataset:
    return Dataset(id_, more.pop("workspace", "default"), name, more.pop("created_at", 100.5), 100.5, **more)


def document(id_: str = "o1", dataset: str = "d1", **more: Any) -> Document:
    created_at = more.pop("created_at", 7.25)
    return Document(id_, dataset, more.pop("name", f"{id_}.md"), "file", "batch", created_at, 7.25, RULE, **more)


def segment(id_: str, position: int = 1, document: str = "o1", **more: Any) -> Segment:
    return Segment(id_, "d1", document, position, more.pop("content", f"content of {id_}"), 8.0, 8.0, **more)


def chunk(id_: str, segment: str, position: int = 1, content: str = "child") -> ChildChunk:
    return ChildChunk(id_, "d1", "o1", segment, position, content, 9.0, 9.0)


async def claimed(store: KnowledgeStore, *segments: Segment, chunks: Sequence[ChildChunk] = ()) -> str:
    """A dataset with a document of these segments, which is claimed."""
    await store.datasets.add_dataset(dataset())
    await store.documents.add_document(document())
    assert await store.documents.claim_document("c1", 60) is not None
    assert await store.segments.add_segments("o1", "c1", segments, chunks)
    return "c1"


def index(segment: str, *more: IndexNode, keywords: Sequence[str] = ()) -> SegmentIndex:
    return SegmentIndex(segment, (IndexNode(segment, array("f", [0.6, 0.8]), "發票 invoice"), *more), keywords)


# ------------------------------------------------------------------------------------------------------------ datasets


async def test_a_dataset_is_found_as_it_was_added(store: KnowledgeStore) -> None:
    full = dataset(
        description="é\n發票",
        technique="high_quality",
        doc_form="qa_model",
        embedding_model="m",
        embedding_provider="langgenius/openai/openai",
        retrieval_model={"top_k": 3, "weights": None},
        summary_index={"enable": True},
        process_rule=RULE,
        built_in_fields=True,
        enable_api=False,
        created_by="key",
    )
    assert await store.datasets.add_dataset(full)
    assert await store.datasets.find_dataset("default", "d1") == full
    assert await store.datasets.find_dataset("other", "d1") is None
    assert await store.datasets.find_dataset("default", "d\0") is None


async def test_names_are_unique_in_a_workspace(store: KnowledgeStore) -> None:
    added = await asyncio.gather(*(store.datasets.add_dataset(dataset(f"d{number}")) for number in range(9)))
    assert added.count(True) == 1
    assert await store.datasets.add_dataset(dataset("e1", workspace="acme"))
    assert await store.datasets.add_dataset(dataset("e2", "Other"))
    assert not await store.datasets.change_dataset("e2", {"name": "Manual"})
    assert await store.datasets.change_dataset("e2", {"name": "Other", "description": "new"})
    assert await store.datasets.change_dataset("e2", {"name": "Third"})
    assert not await store.datasets.change_dataset("none", {"name": "x"})


async def test_datasets_are_listed_by_page_keyword_and_tag(store: KnowledgeStore) -> None:
    for number in range(5):
        await store.datasets.add_dataset(dataset(f"d{number}", f"Base 100% {number}", created_at=float(number)))
    await store.datasets.add_dataset(dataset("x", workspace="acme"))
    page, total = await store.datasets.datasets("default", offset=1, limit=2)
    assert ([one.id for one in page], total) == (["d3", "d2"], 5)
    page, total = await store.datasets.datasets("default", keyword="base 100% 4")
    assert ([one.id for one in page], total) == (["d4"], 1)
    assert await store.datasets.datasets("default", keyword="_") == ([], 0)
    for tag in ("t1", "t2"):
        assert await store.datasets.add_tag(Tag(tag, "default", tag, 1.0))
    await store.datasets.bind_tags("d1", ["t1", "t2", "t1"])
    await store.datasets.bind_tags("d1", ["t1"])
    await store.datasets.bind_tags("d2", ["t2"])
    page, _ = await store.datasets.datasets("default", tags=["t1", "t2"])
    assert [one.id for one in page] == ["d2", "d1"]
    assert {tag.name: tag.bindings for tag in await store.datasets.tags("default")} == {"t1": 1, "t2": 2}
    assert [tag.id for tag in (await store.datasets.tags_of(["d1", "d2"]))["d1"]] == ["t1", "t2"]
    await store.datasets.unbind_tags("d1", ["t2"])
    assert await store.datasets.remove_tag("default", "t1")
    assert not await store.datasets.remove_tag("acme", "t2")
    assert "d1" not in await store.datasets.tags_of(["d1", "d2"])


async def test_tags_and_fields_have_unique_names(store: KnowledgeStore) -> None:
    assert await store.datasets.add_tag(Tag("t1", "default", "a", 1.0))
    assert not await store.datasets.add_tag(Tag("t2", "default", "a", 1.0))
    assert await store.datasets.add_tag(Tag("t3", "acme", "a", 1.0))
    assert await store.datasets.add_tag(Tag("t4", "default", "b", 2.0))
    assert not await store.datasets.rename_tag("default", "t4", "a")
    assert not await store.datasets.rename_tag("acme", "t4", "c")
    assert await store.datasets.rename_tag("default", "t4", "c")
    fields = [MetadataField("f1", "d1", "year", "number", 1.0), MetadataField("f2", "d1", "title", "string", 2.0)]
    assert [await store.datasets.add_metadata_field(field) for field in fields] == [True, True]
    assert not await store.datasets.add_metadata_field(replace(fields[0], id="f3"))
    assert await store.datasets.add_metadata_field(replace(fields[0], id="f4", dataset="d2"))
    assert not await store.datasets.rename_metadata_field("f2", "year")
    assert await store.datasets.rename_metadata_field("f2", "name")
    assert await store.datasets.remove_metadata_field("f1")
    assert await store.datasets.metadata_fields("d1") == [replace(fields[1], name="name")]


async def test_one_of_several_first_documents_decides(store: KnowledgeStore) -> None:
    await store.datasets.add_dataset(dataset())
    forms = ("text_model", "qa_model", "hierarchical_model")
    await asyncio.gather(
        *(store.datasets.settle_dataset("d1", {"doc_form": form, "description": form}) for form in forms)
    )
    settled = await store.datasets.find_dataset("default", "d1")
    assert settled is not None
    assert settled.doc_form == settled.description
    assert settled.doc_form in forms


# ----------------------------------------------------------------------------------------------------------- documents


async def test_documents_are_found_as_they_were_added(store: KnowledgeStore) -> None:
    assert await store.documents.add_document(document()) is None
    await store.datasets.add_dataset(dataset())
    full = document(metadata={"f1": 3}, doc_type="book", need_summary=True, doc_form="qa_model", name="発票.md")
    assert await store.documents.add_document(full) == replace(full, position=1)
    others = await asyncio.gather(*(store.documents.add_document(document(f"p{number}")) for number in range(5)))
    assert sorted(other.position for other in others if other) == [2, 3, 4, 5, 6]
    assert await store.documents.find_document("d1", "o1") == replace(full, position=1)
    assert await store.documents.find_document("d2", "o1") is None
    assert len(await store.documents.documents_of_batch("d1", "batch")) == 6
    assert {one.id for one in await store.documents.documents_by_id("d1", ["p1", "o1", "none"])} == {"p1", "o1"}
    assert await store.documents.metadata_values("d1") == {"o1": {"f1": 3}, **{f"p{number}": {} for number in range(5)}}


async def test_documents_are_listed_by_page_keyword_and_state(store: KnowledgeStore) -> None:
    await store.datasets.add_dataset(dataset())
    states: Sequence[tuple[str, dict[str, Any]]] = (
        ("queuing", {}),
        ("indexing", {"status": "splitting"}),
        ("error", {"status": "error"}),
        ("paused", {"status": "paused"}),
        ("available", {"status": "completed", "word_count": 5}),
        ("disabled", {"status": "completed", "enabled": False}),
        ("archived", {"status": "completed", "enabled": False, "archived": True}),
    )
    for number, (state, fields) in enumerate(states):
        await store.documents.add_document(document(state, created_at=float(number), **fields))
    for state, _ in states:
        page, total = await store.documents.documents("d1", DocumentFilter(status=state))
        assert ([one.id for one in page], total) == ([state], 1)
    page, total = await store.documents.documents("d1", DocumentFilter(offset=1, limit=2))
    assert ([one.id for one in page], total) == (["disabled", "available"], 7)
    assert (await store.documents.documents("d1", DocumentFilter("ARCH")))[1] == 1
    assert await store.datasets.count_documents(["d1", "none"]) == {
        "d1": DatasetCounts(7, 1, 5, indexing=2, paused=1, failed=1)
    }


async def test_one_process_claims_a_document(store: KnowledgeStore) -> None:
    await store.datasets.add_dataset(dataset())
    for id_ in ("o1", "o2"):
        await store.documents.add_document(document(id_))
    claims = await asyncio.gather(*(store.documents.claim_document(f"c{number}", 60) for number in range(5)))
    assert sorted((one.id, one.attempts) for one in claims if one) == [("o1", 1), ("o2", 1)]
    owner = next(one.claim for one in claims if one and one.id == "o1")
    assert await store.documents.change_document("o1", {"status": "parsing", "attempts": 0}, owner)
    assert not await store.documents.change_document("o1", {"status": "error"}, "other")
    assert await store.documents.renew_claim("o1", owner, 60)
    assert not await store.documents.renew_claim("o1", "other", 60)
    await store.documents.release_claim("o1", "other")
    assert await store.documents.claim_document("c9", 60) is None
    await store.documents.release_claim("o1", owner, 3600)
    assert await store.documents.claim_document("c9", 60) is None
    due = await store.documents.next_due()
    assert due is not None
    assert 0 < due <= 60
    await store.documents.restart_document("o1", {"status": "waiting"})
    assert await store.documents.next_due() == 0.0
    again = await store.documents.claim_document("c9", 60)
    assert again is not None
    assert (again.id, again.status, again.attempts) == ("o1", "waiting", 1)


async def test_a_claim_ends_by_itself(store: KnowledgeStore) -> None:
    await store.datasets.add_dataset(dataset())
    await store.documents.add_document(document())
    assert await store.documents.claim_document("dead", 0.0) is not None
    taken = await store.documents.claim_document("c2", 60)
    assert taken is not None
    assert taken.attempts == 2
    assert not await store.documents.renew_claim("o1", "dead", 60)
    assert not await store.segments.add_segments("o1", "dead", [segment("s1")], [])
    assert not await store.segments.index_segments("o1", [index("s1")], "m", 1.0, "dead")


@pytest.mark.parametrize("status", ["completed", "error", "paused"])
async def test_a_document_that_is_not_to_be_indexed_is_not_claimed(status: Any, store: KnowledgeStore) -> None:
    claim = await claimed(store)
    assert await store.documents.change_document("o1", {"status": status})
    assert not await store.documents.renew_claim("o1", claim, 60)
    assert not await store.segments.add_segments("o1", claim, [segment("s1")], [])
    await store.documents.release_claim("o1", claim)
    assert await store.documents.claim_document("c2", 60) is None
    assert await store.documents.next_due() is None


# ------------------------------------------------------------------------------------------------------------ segments


async def test_segments_are_indexed(store: KnowledgeStore) -> None:
    full = segment("s1", answer="a", keywords=("x", "y"), attachments=("f",), word_count=3, tokens=2)
    claim = await claimed(store, full, segment("s2", 2), segment("s3", 3), chunks=[chunk("k1", "s1")])
    assert await store.segments.find_segment("o1", "s1") == full
    assert [one.id for one in await store.segments.waiting_segments("o1", 2)] == ["s1", "s2"]
    extra = IndexNode(f"s1{SUMMARY}", array("f", [1.0, 0.0]))
    assert await store.segments.index_segments("o1", [index("s1", extra, keywords=["x", "x"])], "m", 9.5, claim)
    # once more: as after a process has died before it could go on
    assert await store.segments.index_segments("o1", [index("s1", extra, keywords=["x"])], "m", 9.5, claim)
    assert [one.id for one in await store.segments.waiting_segments("o1", 5)] == ["s2", "s3"]
    assert await store.segments.progress(["o1", "none"]) == {"o1": Progress(1, 3)}
    done = await store.segments.find_segment("o1", "s1")
    assert done == replace(full, status="completed", completed_at=9.5)
    await store.segments.add_hits(["s1", "s2", "s1"])
    assert await store.segments.hits(["o1"]) == {"o1": 2}


async def test_changes_of_the_same_segments_do_not_wait_for_each_other(store: KnowledgeStore) -> None:
    names = [f"s{number}" for number in range(20)]
    claim = await claimed(store, *(segment(name, number) for number, name in enumerate(names, 1)))
    assert await store.segments.index_segments("o1", [index(name) for name in names], "m", 9.5, claim)

    async def all_changes(number: int) -> None:
        some = names[number:] + names[:number]
        await store.segments.add_hits(some)
        await store.segments.change_segment(some[0], {"content": f"content {number}", "word_count": number})
        await store.documents.index_again("d1")
        await store.segments.index_segments("o1", [index(name) for name in reversed(some)], "m", 9.5)
        await store.segments.remove_segment(f"s{number + 10}")

    await asyncio.gather(*map(all_changes, range(8)))  # a deadlock would be a StoreError
    assert len(await store.segments.segments_by_id("d1", names)) == 12
    assert await store.segments.hits(["o1"]) != {}


async def test_segments_are_listed(store: KnowledgeStore) -> None:
    await claimed(store, *(segment(f"s{number}", number) for number in range(1, 6)))
    await store.segments.change_segment("s2", {"content": "Ümlaut 100%", "status": "error", "keywords": ["k"]})
    page, total = await store.segments.segments("o1", SegmentFilter(offset=1, limit=2))
    assert ([one.id for one in page], total) == (["s2", "s3"], 5)
    assert page[0].keywords == ("k",)
    assert (await store.segments.segments("o1", SegmentFilter("100%")))[1] == 1
    assert (await store.segments.segments("o1", SegmentFilter(statuses=["error", "indexing"])))[1] == 1
    assert {one.id for one in await store.segments.segments_by_id("d1", ["s1", "s5", "none"])} == {"s1", "s5"}
    assert await store.segments.segments_by_id("d2", ["s1"]) == []


async def test_segments_and_chunks_are_added_and_removed(store: KnowledgeStore) -> None:
    claim = await claimed(store, segment("s1"), chunks=[chunk("k1", "s1")])
    await store.segments.index_segments("o1", [index("s1", IndexNode("k1", terms="child"))], "m", 1.0, claim)
    added = await store.segments.append_segments([segment("s8"), segment("s9"), segment("x", document="none")])
    assert [(one.id, one.position) for one in added] == [("s8", 2), ("s9", 3)]
    second = await store.segments.append_chunk(chunk("k2", "s1", content="100% sure"))
    assert second is not None
    assert second.position == 2
    assert await store.segments.append_chunk(chunk("k3", "none")) is None
    assert await store.segments.chunks("s1", keyword="% SURE") == ([second], 1)
    assert await store.segments.change_chunk("k2", "changed", 7, 11.0)
    changed = replace(second, content="changed", word_count=7, type="customized", updated_at=11.0)
    assert await store.segments.find_chunk("s1", "k2") == changed
    assert await store.segments.chunks_of(["s1", "s8"]) == [chunk("k1", "s1"), changed]
    assert await store.segments.remove_chunk("k1")
    assert not await store.segments.remove_chunk("k1")
    await store.segments.replace_chunks("s1", [chunk("k4", "s1")])
    assert await store.segments.chunks("s1") == ([chunk("k4", "s1")], 1)
    assert await store.segments.remove_segment("s1")
    assert not await store.segments.remove_segment("s1")
    assert await store.segments.chunks("s1") == ([], 0)


async def test_a_document_is_cleared(store: KnowledgeStore) -> None:
    claim = await claimed(store, *(segment(f"s{number}", number) for number in range(120)))
    rounds = 0
    while await store.segments.clear_segments("o1", claim):
        rounds += 1
    assert rounds == 2
    assert await store.segments.progress(["o1"]) == {}


async def test_what_is_removed_is_gone_at_once_and_deleted_later(store: KnowledgeStore, storage: SqlStorage) -> None:
    claim = await claimed(store, *(segment(f"s{number}", number) for number in range(120)), chunks=[chunk("k1", "s1")])
    await store.segments.index_segments("o1", [index("s1", keywords=["k"])], "m", 1.0, claim)
    await store.datasets.add_metadata_field(MetadataField("f1", "d1", "year", "number", 1.0))
    await store.datasets.bind_tags("d1", ["t1"])
    assert await store.documents.next_due() != 0.0
    assert await store.datasets.remove_dataset("d1")
    assert not await store.datasets.remove_dataset("d1")
    assert await store.datasets.find_dataset("default", "d1") is None
    assert await store.documents.find_document("d1", "o1") is None
    assert await store.documents.add_document(document("o2")) is None
    assert not await store.segments.index_segments("o1", [index("s2")], "m", 1.0, claim)
    assert not await store.segments.index_segments("o1", [index("s2")], "m", 1.0)
    assert await store.segments.append_segments([segment("s999")]) == []
    assert await store.datasets.add_dataset(dataset("d2"))
    assert await store.documents.next_due() == 0.0
    while await store.documents.purge():
        pass
    assert await store.documents.next_due() is None

    def rows(connection: Any) -> dict[str, int]:
        names = ("document", "segment", "child_chunk", "vector", "text", "keyword", "metadata", "tag_binding")
        counts = {name: connection.exec_driver_sql(f"SELECT count(*) FROM dataset_{name}").scalar() for name in names}
        return {name: count for name, count in counts.items() if count}

    assert await storage.database.run(rows) == {}
    assert await store.datasets.find_dataset("default", "d2") is not None


async def test_a_document_that_was_added_while_its_dataset_was_removed(
    store: KnowledgeStore, storage: SqlStorage
) -> None:
    await claimed(store, segment("s1"))
    # what the other transaction has not seen yet is not marked
    await storage.database.write(lambda connection: connection.exec_driver_sql("UPDATE dataset SET deleted = true"))
    while await store.documents.purge():
        pass
    assert await store.documents.find_document("d1", "o1") is None
    assert await store.segments.find_segment("o1", "s1") is None
    assert storage.knowledge is not None
    assert not await storage.knowledge.is_used()


async def test_a_removed_document_leaves_the_others(store: KnowledgeStore) -> None:
    await claimed(store, segment("s1"))
    await store.documents.add_document(document("o2"))
    assert await store.documents.remove_document("o1")
    assert not await store.documents.remove_document("o1")
    assert [one.id for one in (await store.documents.documents("d1", DocumentFilter()))[0]] == ["o2"]
    while await store.documents.purge():
        pass
    assert await store.segments.find_segment("o1", "s1") is None
    assert await store.documents.find_document("d1", "o2") is not None


async def test_embeddings_are_cached(store: KnowledgeStore) -> None:
    vectors = {f"k{number}": array("f", [0.5, -0.25, number / 1024]) for number in range(600)}
    await store.embeddings.cache_vectors(vectors, 1000.0)
    await store.embeddings.cache_vectors({"k1": array("f", [0.0])}, 1000.0)
    assert await store.embeddings.cached_vectors([*vectors, "none"], 1000.0) == vectors
    await store.embeddings.cached_vectors(["k5"], 200_000.0)
    await store.embeddings.forget_vectors(150_000.0)
    assert set(await store.embeddings.cached_vectors(vectors, 1000.0)) == {"k5"}
