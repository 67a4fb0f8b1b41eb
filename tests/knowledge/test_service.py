"""The rules of datasets, documents and segments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import NotFound, RequestError
from headrace.ports.knowledge import Progress, SegmentFilter
from tests.knowledge.knowledge_base import ECONOMY, GOOD, PARENTS, RULE, KnowledgeBase, knowledge_base, unavailable


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[KnowledgeBase]:
    async with knowledge_base(f"sqlite:///{tmp_path}/headrace.db", tmp_path) as base:
        yield base


def code(error: pytest.ExceptionInfo[RequestError]) -> tuple[str, int]:
    return error.value.code, error.value.status


async def test_names_are_unique(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    with pytest.raises(RequestError) as error:
        await base.dataset()
    assert code(error) == ("dataset_name_duplicate", 409)
    other = await base.dataset("Other")
    with pytest.raises(RequestError) as error:
        await base.service.update(other, "key", {"name": "Manual"})
    assert (code(error), str(error.value)) == (("invalid_param", 400), "Dataset name already exists")
    assert (await base.service.update(dataset, "key", {"name": "Manual", "description": "x"})).description == "x"
    await base.service.delete(dataset)
    with pytest.raises(NotFound):
        await base.service.update(dataset, "key", {"name": "Manual"})
    assert (await base.service.update(other, "key", {"name": "Manual"})).name == "Manual"


async def test_another_workspace_sees_nothing(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    with pytest.raises(NotFound):
        await base.service.dataset("acme", dataset.id)
    assert await base.service.create("acme", "key", "Manual", {})


async def test_the_first_document_decides(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    with pytest.raises(RequestError, match="indexing_technique is required"):
        await base.service.add_document(dataset, "key", b"x", "a", "text/plain", {})
    document = await base.add(dataset, "x", **GOOD)
    dataset = await base.service.dataset("default", dataset.id)
    assert (dataset.technique, dataset.doc_form, dataset.embedding_model) == ("high_quality", "text_model", "small")
    assert dataset.process_rule == document.process_rule
    with pytest.raises(RequestError, match="doc_form qa_model is different from the dataset doc_form"):
        await base.add(dataset, "x", doc_form="qa_model")
    second = await base.service.add_document(dataset, "key", b"y", "b", "text/plain", {})
    assert (second.position, second.process_rule) == (2, document.process_rule)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**ECONOMY, "doc_form": "qa_model"}, "needs the indexing_technique high_quality"),
        ({**GOOD, "doc_form": "hierarchical_model"}, "needs a process_rule of the mode hierarchical"),
        ({**ECONOMY, "process_rule": {"mode": "custom"}}, "No process rule found"),
        ({**ECONOMY, "process_rule": {"mode": "other", "rules": {"x": 1}}}, "mode is invalid"),
        ({**ECONOMY, "process_rule": {"mode": "custom", "rules": {"x": 1}}}, "segmentation is required"),
        ({**GOOD, "embedding_provider": "unknown"}, "provider_not_initialize"),
        ({"technique": "high_quality"}, "No embedding model is set"),
    ],
)
async def test_what_is_not_valid_is_refused(settings: Any, message: str, base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    with pytest.raises(RequestError, match=message):
        await base.service.add_document(dataset, "key", b"x", "a", "text/plain", settings)
    assert await base.rows("dataset_document") == []
    assert (await base.service.dataset("default", dataset.id)).doc_form is None


@pytest.mark.parametrize("size", [49, 4001, "500", True, None])
async def test_sizes_of_chunks_are_limited(size: Any, base: KnowledgeBase) -> None:
    rule = {"mode": "custom", "rules": {"segmentation": {"separator": "\n", "max_tokens": size}}}
    with pytest.raises(RequestError, match="max_tokens has to be between 50 and 4000"):
        await base.add(await base.dataset(), "x", process_rule=rule)


async def test_documents_are_enabled_and_archived(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    documents = [await base.add(dataset, f"text {name}", name) for name in ("a", "b")]
    ids = [document.id for document in documents]
    with pytest.raises(RequestError, match="Document:a is being indexed, please try again later") as error:
        await base.service.set_status(dataset, ids[:1], "disable", "key")
    assert code(error) == ("invalid_action", 400)
    await base.index()
    await base.service.set_status(dataset, [*ids, "unknown"], "disable", "key")
    disabled = await base.current(documents[0])
    assert (disabled.enabled, disabled.disabled_by) == (False, "key")
    await base.service.set_status(dataset, ids, "enable", "key")
    await base.service.set_status(dataset, ids, "archive", "key")
    archived = await base.current(documents[0])
    assert (archived.enabled, archived.disabled_at, archived.archived) == (True, None, True)
    with pytest.raises(RequestError) as error:
        await base.service.delete_document(archived)
    assert code(error) == ("archived_document_immutable", 403)
    with pytest.raises(RequestError) as error:
        await base.service.segments.add(dataset, archived, "key", [{"content": "x"}])
    assert code(error) == ("archived_document_immutable", 403)
    await base.service.set_status(dataset, ids, "un_archive", "key")
    await base.service.delete_document(await base.current(documents[0]))
    with pytest.raises(NotFound):
        await base.service.document(dataset, ids[0])


async def test_retention_keeps_the_files_of_documents(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), "a text")
    assert await base.storage.pruner.referenced([document.file]) == {document.file}
    await base.service.delete_document(document)
    await base.index()
    assert await base.storage.pruner.referenced([document.file]) == set()


async def test_segments_are_added_and_changed(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, "first line", **GOOD)
    with pytest.raises(NotFound, match="not completed"):
        await base.service.segments.add(dataset, document, "key", [{"content": "x"}])
    await base.index()
    dataset, document = await base.service.dataset("default", dataset.id), await base.current(document)
    added = await base.service.segments.add(dataset, document, "key", [{"content": "second", "keywords": ["k"]}])
    assert [(one.position, one.status, one.keywords) for one in added] == [(2, "completed", ("k",))]
    assert (await base.current(document)).word_count == len("first line") + len("second")
    changed = await base.service.segments.update(dataset, document, added[0], "key", {"content": "changed!"})
    assert (changed.content, changed.word_count, changed.updated_by) == ("changed!", 8, "key")
    assert base.embeddings.calls[-1] == ["changed!"]
    disabled = await base.service.segments.update(dataset, document, changed, "key", {"enabled": False})
    assert not disabled.enabled
    with pytest.raises(RequestError, match="Can't update disabled segment"):
        await base.service.segments.update(dataset, document, disabled, "key", {"content": "x"})
    assert (await base.service.segments.update(dataset, document, disabled, "key", {"enabled": True})).enabled
    await base.service.segments.delete(changed)
    with pytest.raises(NotFound):
        await base.service.segments.segment(document, changed.id)
    assert (await base.current(document)).word_count == len("first line")
    assert len(await base.rows("dataset_vector")) == 1


async def test_a_segment_whose_embedding_fails_stays_with_the_error(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, "first", **GOOD)
    await base.index()
    dataset, document = await base.service.dataset("default", dataset.id), await base.current(document)
    base.embeddings.before = unavailable
    added = await base.service.segments.add(dataset, document, "key", [{"content": "second"}])
    assert [(one.enabled, one.status, one.error) for one in added] == [(False, "error", "The model is overloaded.")]
    assert await base.progress(document) == Progress(1, 2)


async def test_a_segment_whose_process_ends_is_an_error_that_a_change_mends(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, "first", **GOOD)
    await base.index()
    dataset, document = await base.service.dataset("default", dataset.id), await base.current(document)
    segments = base.service.segments

    def end(*_: object) -> None:
        raise asyncio.CancelledError

    base.embeddings.before = end
    with pytest.raises(asyncio.CancelledError):
        await segments.add(dataset, document, "key", [{"content": "second"}])
    stored, _ = await base.store.segments.segments(document.id, SegmentFilter())
    first, second = stored
    with pytest.raises(asyncio.CancelledError):
        await segments.update(dataset, document, first, "key", {"content": "other"})
    stored, _ = await base.store.segments.segments(document.id, SegmentFilter())
    assert [one.status for one in stored] == ["error", "error"]
    assert all("not indexed" in str(one.error) for one in stored)
    base.embeddings.before = lambda texts: None
    for one in (first, second):
        mended = await segments.update(dataset, document, one, "key", {"content": f"{one.content} again"})
        assert (mended.status, mended.error, mended.enabled) == ("completed", None, True)
    assert await base.progress(document) == Progress(2, 2)
    assert len(await base.rows("dataset_vector")) == 2


async def test_questions_need_answers(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, "What?,That.\n", "a.csv", **GOOD, doc_form="qa_model", process_rule=RULE)
    await base.index()
    dataset, document = await base.service.dataset("default", dataset.id), await base.current(document)
    cases: Sequence[tuple[Any, str]] = (
        ({"content": "Q"}, "Answer is required"),
        ({"content": "Q", "answer": " "}, "Answer is empty"),
        ({"content": " ", "answer": "A"}, "Content is empty"),
    )
    for item, message in cases:
        with pytest.raises(RequestError, match=message):
            await base.service.segments.add(dataset, document, "key", [item])
    added = await base.service.segments.add(dataset, document, "key", [{"content": "Q", "answer": "A1"}])
    assert (added[0].answer, added[0].word_count) == ("A1", 3)


async def test_child_chunks(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    text = "parent\nchild"
    document = await base.add(dataset, text, **GOOD, doc_form="hierarchical_model", process_rule=PARENTS)
    await base.index()
    dataset, document = await base.service.dataset("default", dataset.id), await base.current(document)
    segments = base.service.segments
    parent = (await base.segments(document))[0]
    chunk = await segments.add_chunk(dataset, document, parent, "by hand")
    assert (chunk.position, chunk.type) == (3, "customized")
    chunk = await segments.update_chunk(dataset, document, parent, chunk, "by hand, twice")
    assert base.embeddings.calls[-1] == ["by hand, twice"]
    assert len(await base.rows("dataset_vector")) == 3
    await segments.delete_chunk(chunk)
    with pytest.raises(NotFound):
        await segments.chunk(parent, chunk.id)
    assert len(await base.rows("dataset_vector")) == 2
    await segments.update(dataset, document, parent, "key", {"content": "new\na\nb", "regenerate_child_chunks": True})
    contents = [chunk.content for chunk in await base.store.segments.chunks_of([parent.id])]
    assert contents == ["new", "a", "b"]
    assert len(await base.rows("dataset_vector")) == 3


async def test_chunks_that_are_added_at_once_are_all_found(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, "parent\nchild", **GOOD, doc_form="hierarchical_model", process_rule=PARENTS)
    await base.index()
    dataset, document = await base.service.dataset("default", dataset.id), await base.current(document)
    parent = (await base.segments(document))[0]
    contents = [f"by hand {number}" for number in range(8)]
    added = await asyncio.gather(
        *(base.service.segments.add_chunk(dataset, document, parent, content) for content in contents)
    )
    assert sorted(chunk.position for chunk in added) == list(range(3, 11))
    assert set(await base.rows("dataset_vector")) >= {chunk.id for chunk in added}
    assert len(await base.rows("dataset_vector")) == 10
