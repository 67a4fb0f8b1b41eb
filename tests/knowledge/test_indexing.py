"""A document is indexed whole and once, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import NodeError
from headrace.knowledge.indexing import Indexer
from headrace.ports.knowledge import DatasetChanges, Document, Progress
from headrace.ports.knowledge_store import KnowledgeStore
from tests.knowledge.knowledge_base import GOOD, PARENTS, KnowledgeBase, knowledge_base, unavailable

MODEL: DatasetChanges = {
    "technique": "high_quality",
    "embedding_model": "small",
    "embedding_provider": "langgenius/openai/openai",
}
WHOLE: Any = {**PARENTS, "rules": {**PARENTS["rules"], "parent_mode": "full-doc"}}
LINES = "\n".join(f"line {number} of the manual" for number in range(150))


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return f"sqlite:///{tmp_path}/headrace.db"


@pytest.fixture
async def base(url: str, tmp_path: Path) -> AsyncIterator[KnowledgeBase]:
    async with knowledge_base(url, tmp_path) as base:
        yield base


on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


async def assert_whole(base: KnowledgeBase, document: Document, *, count: int = 150) -> None:
    """The document is completed, and each of its segments is there and found once."""
    current = await base.current(document)
    assert (current.status, current.error) == ("completed", None)
    assert None not in (current.parsing_completed_at, current.splitting_completed_at, current.completed_at)
    assert await base.progress(document) == Progress(count, count)
    segments = await base.segments(document)
    assert [segment.position for segment in segments] == list(range(1, count + 1))
    assert current.word_count == sum(len(segment.content) for segment in segments)
    ids = sorted(segment.id for segment in segments)
    assert await base.rows("dataset_vector") == ids
    assert await base.rows("dataset_text") == ids


async def test_economy(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), "Red apples grow.\n\n\nBlue invoices are due.")
    assert document.status == "waiting"
    await base.index()
    assert (await base.current(document)).status == "completed"
    assert [segment.content for segment in await base.segments(document)] == [
        "Red apples grow.",
        "Blue invoices are due.",
    ]
    assert "invoices" in await base.rows("dataset_keyword", "keyword")
    assert await base.rows("dataset_vector") == []
    assert base.embeddings.calls == []


async def test_high_quality_embeds_in_batches(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), LINES, **GOOD)
    await base.index()
    await assert_whole(base, document)
    assert [len(texts) for texts in base.embeddings.calls] == [64, 64, 22]


async def test_the_same_text_is_not_embedded_again(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, LINES, **GOOD)
    await base.index()
    dataset = await base.service.dataset("default", dataset.id)
    document = await base.service.update_document(
        dataset, await base.current(document), {}, f"{LINES}\nand a new one".encode(), mime_type="text/plain"
    )
    assert document.status == "waiting"
    await base.index()
    await assert_whole(base, document, count=151)
    assert base.embeddings.calls[3:] == [["and a new one"]]


class Died(BaseException):
    """The process has ended."""


class Mortal:
    """A store until its process dies, which is at the call of this number."""

    def __init__(self, store: KnowledgeStore, calls: int) -> None:
        self.left = calls
        parts: dict[str, Any] = {field.name: _Part(self, getattr(store, field.name)) for field in fields(store)}
        self.store = KnowledgeStore(**parts)


class _Part:
    def __init__(self, owner: Mortal, part: Any) -> None:
        self._owner = owner
        self._part = part

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)

        async def call(*arguments: Any, **more: Any) -> Any:
            self._owner.left -= 1
            if self._owner.left < 0:
                raise Died
            return await method(*arguments, **more)

        return call


@on_both
@pytest.mark.parametrize("form", ["text_model", "hierarchical_model", "qa_model"])
async def test_another_process_continues_wherever_one_has_died(form: str, base: KnowledgeBase) -> None:
    rule = {"process_rule": PARENTS} if form == "hierarchical_model" else {}
    dataset = await base.dataset()
    text = "\n\n".join(f"parent {number}\nchild one {number}\nchild two {number}" for number in range(3))
    if form == "qa_model":
        base.models.answer = lambda text: f"Q1: What is {text}? A1: It is {text}. Q2: Why {text}? A2: Because."
    deaths = 0
    while True:
        document = await base.add(dataset, text, f"{deaths}.md", **GOOD, doc_form=form, **rule)
        mortal = Mortal(base.store, deaths)
        dying = base.indexer(mortal.store)
        try:
            while await mortal.store.documents.next_due() == 0.0:
                await dying.work()
            break
        except Died:
            deaths += 1
        await base.end_claims()
        await base.index()
        current = await base.current(document)
        assert (current.status, current.error) == ("completed", None)
        segments = await base.segments(document)
        assert await base.progress(document) == Progress(len(segments), len(segments))
        assert len({segment.content for segment in segments}) == len(segments)
        assert [segment.position for segment in segments] == list(range(1, len(segments) + 1))
        assert len(segments) == {"text_model": 9, "hierarchical_model": 3, "qa_model": 18}[form]
        nodes = [chunk.id for chunk in await base.store.segments.chunks_of([segment.id for segment in segments])]
        expected = nodes if form == "hierarchical_model" else [segment.id for segment in segments]
        assert set(expected) <= set(await base.rows("dataset_vector"))
        await base.service.delete_document(current)
        await base.index()
        assert await base.rows("dataset_vector") == []
    assert deaths > 10


async def test_kill_9_while_the_model_answers(base: KnowledgeBase, url: str, tmp_path: Path) -> None:
    document = await base.add(await base.dataset(), LINES, **GOOD)
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.knowledge.knowledge_base import knowledge_base\n"
        "async def main():\n"
        "    async with knowledge_base(sys.argv[1], Path(sys.argv[2])) as base:\n"
        "        def wait(texts):\n"
        "            if len(base.embeddings.calls) == 2:\n"
        "                print('embedding', flush=True)\n"
        "                base.embeddings.blocked = asyncio.Event()\n"
        "        base.embeddings.before = wait\n"
        "        await base.indexer().run()\n"
        "asyncio.run(main())\n"
    )
    arguments = (sys.executable, "-c", script, url, str(tmp_path))
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"embedding\n"
    process.kill()
    assert await process.wait() == -9
    assert await base.progress(document) == Progress(64, 150)
    await base.end_claims()
    await base.index()
    await assert_whole(base, document)
    assert [len(texts) for texts in base.embeddings.calls] == [64, 22]


@on_both
async def test_two_processes_index_each_document_once(base: KnowledgeBase, url: str, tmp_path: Path) -> None:
    dataset = await base.dataset()
    documents = [
        await base.add(dataset, f"text {number}\nmore {number}", f"{number}.md", **GOOD) for number in range(12)
    ]
    async with knowledge_base(url, tmp_path) as other:
        indexers = [base.indexer(), base.indexer(), other.indexer(), other.indexer()]

        async def work(indexer: Indexer) -> None:
            while await base.store.documents.next_due() is not None:
                await indexer.work()

        await asyncio.gather(*map(work, indexers))
        texts = [text for calls in (base.embeddings.calls, other.embeddings.calls) for call in calls for text in call]
    assert len(texts) == len(set(texts)) == 24
    for document in documents:
        assert (await base.current(document)).status == "completed"
        assert await base.progress(document) == Progress(2, 2)


@on_both
async def test_a_process_that_is_late_changes_nothing(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), LINES, **GOOD)
    base.embeddings.blocked = asyncio.Event()
    late = asyncio.create_task(base.indexer().work())
    await base.embeddings.started.wait()
    await base.end_claims()
    blocked, base.embeddings.blocked = base.embeddings.blocked, None
    await base.index()
    blocked.set()
    await late
    await assert_whole(base, document)


async def test_a_model_that_fails_half_of_the_calls(base: KnowledgeBase) -> None:
    def fail_each_other(texts: Sequence[str]) -> None:
        if len(base.embeddings.calls) % 2:
            unavailable(texts)

    base.embeddings.before = fail_each_other
    document = await base.add(await base.dataset(), LINES, **GOOD)
    await base.index()
    await assert_whole(base, document)
    assert len(base.embeddings.calls) == 6


async def test_a_model_that_fails_is_an_error_that_can_be_retried(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, LINES, **GOOD)
    base.embeddings.before = lambda texts: None if len(base.embeddings.calls) == 1 else unavailable(texts)
    await base.index()
    failed = await base.current(document)
    assert (failed.status, failed.error) == ("error", "The model is overloaded.")
    assert failed.stopped_at is not None
    assert await base.progress(document) == Progress(64, 150)
    assert len(base.embeddings.calls) == 7  # the second batch was tried six times
    base.embeddings.before = lambda texts: None
    assert (await base.service.resume(dataset, failed)).status == "indexing"
    await base.index()
    await assert_whole(base, document)
    assert [len(texts) for texts in base.embeddings.calls[7:]] == [64, 22]


async def test_a_refused_call_is_not_repeated(base: KnowledgeBase) -> None:
    def refuse(texts: Sequence[str]) -> None:
        raise NodeError("The key is not valid.", "InvokeAuthorizationError")

    base.embeddings.before = refuse
    document = await base.add(await base.dataset(), "a text", **GOOD)
    await base.index()
    assert (await base.current(document)).error == "The key is not valid."
    assert len(base.embeddings.calls) == 1


@on_both
async def test_pause_and_resume(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, LINES, **GOOD)
    base.embeddings.blocked = asyncio.Event()
    indexing = asyncio.create_task(base.indexer().work())
    await base.embeddings.started.wait()
    paused = await base.service.pause(dataset, await base.current(document))
    assert (paused.status, paused.paused_at is not None) == ("paused", True)
    base.embeddings.blocked.set()
    await indexing
    assert (await base.current(document)).status == "paused"
    await base.index()
    assert await base.progress(document) == Progress(0, 150)
    await base.service.resume(dataset, paused)
    await base.index()
    await assert_whole(base, document)


@on_both
@pytest.mark.parametrize("what", ["document", "dataset"])
async def test_deleting_while_it_is_indexed(what: str, base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, LINES, **GOOD)
    base.embeddings.blocked = asyncio.Event()
    indexing = asyncio.create_task(base.indexer().work())
    await base.embeddings.started.wait()
    if what == "document":
        await base.service.delete_document(await base.current(document))
    else:
        await base.service.delete(dataset)
    base.embeddings.blocked.set()
    await indexing
    await base.index()
    for table in ("dataset_document", "dataset_segment", "dataset_vector", "dataset_text"):
        assert await base.rows(table) == []
    assert await base.store.documents.next_due() is None


async def test_a_new_content_while_the_old_one_is_indexed(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, LINES, **GOOD)
    base.embeddings.blocked = asyncio.Event()
    indexing = asyncio.create_task(base.indexer().work())
    await base.embeddings.started.wait()
    await base.store.documents.restart_document(document.id, {"status": "waiting"})
    blocked, base.embeddings.blocked = base.embeddings.blocked, None
    await base.index()
    blocked.set()
    await indexing
    await assert_whole(base, document)


async def test_shutting_down_leaves_the_document_to_the_next_process(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), LINES, **GOOD)
    base.embeddings.blocked = asyncio.Event()
    indexing = asyncio.create_task(base.indexer().run())
    await base.embeddings.started.wait()
    indexing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await indexing
    base.embeddings.blocked = None
    assert await base.store.documents.next_due() == 0.0
    await base.index()
    await assert_whole(base, document)


async def test_a_document_that_ends_its_process_is_not_tried_for_ever(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), "a text")
    for _ in range(5):
        assert await base.store.documents.claim_document("dead", 0.0) is not None
    await base.index()
    current = await base.current(document)
    assert (current.status, current.error) == ("error", "Indexing was interrupted 5 times.")


@pytest.mark.parametrize(
    ("data", "name", "mime", "expected"),
    [
        (b"%PDF-1.4 not a PDF", "a.pdf", "application/pdf", "error"),
        (b"PK\x03\x04" + bytes(100), "a.docx", "application/zip", "error"),
        (b"", "a.txt", "text/plain", "completed"),
        (b"\x00\x01\x02\xff\xfe", "a.txt", "text/plain", None),
        (b"[" * 100_000, "a.md", "text/plain", "completed"),
        ("\u202e\U0001f600\ufffe".encode() * 5000, "a.md", "text/plain", "completed"),
        (b"a" * 300_000, "a.txt", "text/plain", "completed"),
        (b"x", "a.exe", "application/x-msdownload", "error"),
    ],
)
async def test_hostile_documents(data: bytes, name: str, mime: str, expected: str | None, base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.service.add_document(dataset, "key", data, name, mime, GOOD)
    await base.index()
    current = await base.current(document)
    assert current.status in ({expected} if expected else {"completed", "error"})
    assert bool(current.error) == (current.status == "error")
    after = await base.add(dataset, "a good one", "good.md", **GOOD)
    await base.index()
    assert (await base.current(after)).status == "completed"


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("a. " * 300_000, "a.md", {}),
        ("a\n" * 300_000, "a.md", {"doc_form": "hierarchical_model", "process_rule": WHOLE}),
        ("a\n\n" * 300_000, "a.md", {"doc_form": "hierarchical_model", "process_rule": PARENTS}),
        ("question,answer\n" * 100_002, "a.csv", {"doc_form": "qa_model"}),
        ("a. " * 300_000, "a.md", {"doc_form": "qa_model"}),
    ],
    ids=["text", "children", "parents", "table", "questions"],
)
async def test_a_document_of_too_many_chunks_is_an_error_before_any_is_stored(
    text: str, name: str, settings: dict[str, Any], base: KnowledgeBase
) -> None:
    segmentation = {"separator": " ", "max_tokens": 50, "chunk_overlap": 0}
    rule = {"mode": "custom", "rules": {"pre_processing_rules": [], "segmentation": segmentation}}
    document = await base.add(await base.dataset(), text, name, **{**GOOD, "process_rule": rule, **settings})
    await base.index()
    current = await base.current(document)
    assert current.status == "error"
    assert current.error == "The document has more than 100,000 chunks: choose larger ones, or split it."
    assert await base.progress(document) == Progress(0, 0)
    assert (base.embeddings.calls, base.models.requests) == ([], [])


async def test_an_unexpected_failure_is_logged_and_recorded(
    base: KnowledgeBase, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(texts: Sequence[str]) -> None:
        raise ZeroDivisionError("a bug")

    base.embeddings.before = fail
    document = await base.add(await base.dataset(), "a text", **GOOD)
    await base.index()
    assert (await base.current(document)).error == "The document cannot be indexed (ZeroDivisionError)."
    assert "a bug" in caplog.text


async def test_parents_are_found_by_their_children(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    text = "parent one\nchild a\nchild b\n\nparent two\nchild c"
    document = await base.add(dataset, text, **GOOD, doc_form="hierarchical_model", process_rule=PARENTS)
    await base.index()
    segments = await base.segments(document)
    assert [segment.content for segment in segments] == ["parent one\nchild a\nchild b", "parent two\nchild c"]
    chunks = await base.store.segments.chunks_of([segment.id for segment in segments])
    assert sorted(chunk.content for chunk in chunks) == ["child a", "child b", "child c", "parent one", "parent two"]
    assert await base.rows("dataset_vector") == sorted(chunk.id for chunk in chunks)


async def test_questions_of_a_table(base: KnowledgeBase) -> None:
    table = 'question,answer\n"Why?","Because,\nof it."\nempty,\n何時,いま\n'
    document = await base.add(await base.dataset(), table, "pairs.CSV", **GOOD, doc_form="qa_model")
    await base.index()
    segments = await base.segments(document)
    assert [(one.content, one.answer) for one in segments] == [("Why?", "Because,\nof it."), ("何時", "いま")]
    assert base.embeddings.calls == [["Why?", "何時"]]
    assert base.models.requests == []


async def test_questions_by_a_model(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), "one\ntwo", **GOOD, doc_form="qa_model", doc_language="Chinese")
    await base.index()
    assert [one.answer for one in await base.segments(document)] == ["one", "two"]
    request = base.models.requests[0]
    assert (request.provider, request.model) == ("openai", "gpt")
    assert "in Chinese" in request.messages[0].text


async def test_a_table_without_pairs(base: KnowledgeBase) -> None:
    document = await base.add(await base.dataset(), "one column\n", "a.csv", **GOOD, doc_form="qa_model")
    await base.index()
    assert (await base.current(document)).error == "The CSV file has no rows with a question and an answer."


async def test_summaries_are_found_too(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    base.models.answer = lambda text: f"About {text}"
    summaries = {"enable": True, "model_name": "m", "model_provider_name": "p", "summary_prompt": "Be brief."}
    dataset = await base.service.update(dataset, "key", {"summary_index": summaries})
    document = await base.add(dataset, "apples", **GOOD)
    await base.index()
    segment = (await base.segments(document))[0]
    assert segment.summary == "About apples"
    assert await base.rows("dataset_vector") == [segment.id, f"{segment.id}/summary"]
    assert base.models.requests[0].messages[0].text == "Be brief."
    assert base.embeddings.calls == [["apples", "About apples"]]


@on_both
async def test_another_embedding_model_indexes_all_again(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, LINES, **GOOD)
    await base.index()
    dataset = await base.service.dataset("default", dataset.id)
    await base.service.update(dataset, "key", {"embedding_model": "large"})
    assert (await base.current(document)).status == "indexing"
    await base.index()
    await assert_whole(base, document)
    assert set(await base.rows("dataset_vector", "model")) == {"large"}
    assert len(base.embeddings.calls) == 6


async def test_another_technique_while_a_document_is_read(base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, LINES)
    text = base.parser.text

    async def read(reading: Document) -> str:
        await base.service.update(await base.service.dataset("default", dataset.id), "key", {**MODEL})
        return await text(reading)

    monkeypatch.setattr(base.parser, "text", read)
    await base.index()
    await assert_whole(base, document)


async def test_another_embedding_model_while_a_segment_is_added(base: KnowledgeBase) -> None:
    dataset = await base.dataset()
    document = await base.add(dataset, "one\ntwo", **GOOD)
    await base.index()
    dataset, document = await base.service.dataset("default", dataset.id), await base.current(document)
    base.embeddings.blocked = asyncio.Event()
    base.embeddings.started.clear()
    adding = asyncio.create_task(base.service.segments.add(dataset, document, "key", [{"content": "three"}]))
    await base.embeddings.started.wait()
    await base.service.update(dataset, "key", {"embedding_model": "large"})
    base.embeddings.blocked.set()
    await adding
    await base.index()
    await assert_whole(base, document, count=3)
    assert await base.rows("dataset_vector", "model") == ["large"] * 3
