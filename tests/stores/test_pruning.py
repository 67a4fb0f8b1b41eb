"""What retention deletes, and what it leaves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace import retention
from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import FileStore
from headrace.errors import InvalidParam, NotFound
from headrace.kernel.events import Record, RunEnded, RunPaused, RunQueued, RunStarted
from headrace.kernel.summary import FINAL
from headrace.main import service
from headrace.ports import (
    Batch,
    BatchLine,
    Conversation,
    ConversationVariable,
    Feedback,
    Pruned,
    RunFilter,
    Snapshot,
)
from headrace.ports.services import HttpRequest, HttpResponse
from headrace.retention import DAY, Retention, days_kept, in_words
from headrace.settings import Settings
from headrace.stores.sql import SqlStorage
from headrace.values import File
from tests.contracts.examples import numbered, queued, whole

NOW = 2_000_000_000.0
LONG_AGO = NOW - 40 * DAY
MONTH = dict.fromkeys(FINAL, 30 * DAY)


class NoHttp:
    async def send(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("nothing is fetched here")


class World:
    """A store with files, and retention on it, at NOW."""

    def __init__(self, store: SqlStorage, folder: Path) -> None:
        self.store = store
        self.at = NOW
        self.files = FileStore(
            FileBlobStore(folder / "files"), store.catalog, b"s" * 32, NoHttp(), "http://here", lambda: self.at
        )  # pyright: ignore[reportArgumentType]

    def retention(self, seconds: Mapping[str, float] = MONTH) -> Retention:
        return Retention(self.store.pruner, self.files.blobs, seconds, lambda: NOW)

    async def prune(self, seconds: Mapping[str, float] = MONTH, **more: bool) -> Pruned:
        return await self.retention(seconds).prune(**more)

    async def file(self, at: float = LONG_AGO, method: str = "local_file") -> File:
        """A stored file, last used when it came in."""
        self.at = at
        file = await self.files.save(b"12345", filename="a.txt", mime_type="text/plain", transfer_method=method)
        os.utime(self.files.blobs.path(str(file.related_id)), (at, at))
        self.at = NOW
        return file

    async def there(self, file: File) -> bool:
        try:
            await self.files.open(str(file.related_id))
        except NotFound:
            assert await self.store.catalog.find_file(str(file.related_id)) is None
            assert list(self.files.blobs.path(str(file.related_id)).parent.glob(f"*{file.related_id}*")) == []
            return False
        return True

    async def runs(self) -> set[str]:
        runs = {summary.run for summary in (await self.store.runs.list_runs(RunFilter("app", limit=1000)))[1]}
        for run in runs:
            assert await self.store.journal.read(run), "a run has its events"
        return runs


@pytest.fixture(params=["sqlite", "postgresql", "partitioned"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any rows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/headrace.db"
    named: str = request.getfixturevalue(f"{request.param}_url")
    return named


@pytest.fixture
async def world(url: str, tmp_path: Path) -> AsyncIterator[World]:
    store = await SqlStorage.open(url)
    yield World(store, tmp_path)
    await store.aclose()


def chat(
    run: str, at: float, conversation: str = "c1", answer: str = "hello", files: Sequence[File] = ()
) -> list[Record]:
    request = RunQueued(
        "app",
        "v1",
        f"task-{run}",
        "ada",
        {},
        {"query": "hi", "files": list(files)},
        "end-ada",
        conversation=conversation,
    )
    return numbered(run, (request, RunStarted(), RunEnded("succeeded", {"answer": answer}, None, 1, 1, 0)), at=at)


def conversation(at: float = LONG_AGO) -> Conversation:
    return Conversation("c1", "app", "end-ada", "talk", {}, "", at, at)


# -------------------------------------------------------------------------------------------------------------- runs


async def test_runs_go_by_how_and_when_they_ended(world: World) -> None:
    for status in FINAL:
        await world.store.journal.append(whole(f"old-{status}", status, LONG_AGO))
        await world.store.journal.append(whole(f"new-{status}", status, NOW - DAY))
    # queued long ago, and ended just now
    await world.store.journal.append(
        [*whole("slow", at=LONG_AGO)[:-1], Record("slow", 5, NOW - DAY, RunEnded("failed"))]
    )
    await world.store.journal.append(numbered("going", [queued("going"), RunStarted()], at=LONG_AGO))
    await world.store.journal.append(numbered("waits", [queued("waits"), RunStarted(), RunPaused()], at=LONG_AGO))
    recent = {*(f"new-{status}" for status in FINAL), "slow", "going", "waits"}
    kept_now = {*recent, "old-succeeded", "old-partial-succeeded", "old-stopped"}

    only = {"failed": 30 * DAY}
    assert await world.prune(only, dry_run=True) == Pruned(runs=1, events=5)
    assert "old-failed" in await world.runs(), "a dry run deletes nothing"
    assert await world.prune(only) == Pruned(runs=1, events=5)
    assert await world.runs() == kept_now
    assert await world.store.journal.read("old-failed") == []
    assert await world.prune(MONTH) == Pruned(runs=3, events=15)
    assert await world.runs() == recent
    assert await world.prune(MONTH) == Pruned()
    assert await world.prune({}) == Pruned(), "off"
    assert await world.store.journal.unfinished() == ["going"]


async def test_what_is_a_runs_own_goes_with_it(world: World) -> None:
    calling = replace(queued("r1"), callback="http://there/")
    await world.store.journal.append(numbered("r1", [calling, RunStarted(), RunEnded("succeeded")], at=LONG_AGO))
    assert (await world.prune()).runs == 0, "its callback is still to be delivered"
    (callback,) = await world.store.callbacks.callbacks_of("r1")
    await world.store.callbacks.save_callback(replace(callback, status="failed", next_at=None))
    await world.store.journal.append(chat("r2", LONG_AGO))
    await world.store.conversations.save_feedback(
        Feedback("f1", "app", "r2", "like", None, "end-ada", LONG_AGO, LONG_AGO)
    )
    expected = Pruned(runs=2, events=6, messages=1, feedbacks=1, callbacks=1)
    assert await world.prune(dry_run=True) == expected
    assert await world.prune() == expected
    assert await world.store.callbacks.callbacks_of("r1") == []
    assert await world.store.conversations.find_message("r2") is None
    assert await world.store.conversations.feedbacks("app") == []
    assert in_words(expected) == "2 runs, 6 events, 1 message, 1 feedback, 1 callback"


async def test_an_open_batch_keeps_its_runs_and_an_old_one_goes_whole(world: World) -> None:
    for name, ended_at in (("open", None), ("new", NOW - DAY), ("old", LONG_AGO)):
        batch = Batch(
            name, "app", "v1", "ada", 2, LONG_AGO, status="ended" if ended_at else "running", ended_at=ended_at
        )
        await world.store.batches.add_batch(batch, [BatchLine(n, {"q": "x"}) for n in range(2)])
        request = replace(queued(name), source=f"batch:{name}")
        await world.store.journal.append(numbered(name, [request, RunStarted(), RunEnded("succeeded")], at=LONG_AGO))
    only = {"succeeded": 30 * DAY}
    assert await world.prune(only) == Pruned(), "its runs are what a batch has to show"
    expected = Pruned(runs=1, events=3, batches=1)
    assert await world.prune(dry_run=True) == expected
    assert await world.prune() == expected
    assert await world.runs() == {"open", "new"}
    assert await world.store.batches.find_batch("old") is None
    assert await world.store.batches.batch_lines("old") == []
    assert len(await world.store.batches.batch_lines("open")) == 2


async def test_a_conversation_goes_with_its_last_message(world: World) -> None:
    variable = ConversationVariable("v1", "c1", "n", "string", "", "x", LONG_AGO, LONG_AGO)
    await world.store.conversations.add_conversation(conversation(), [variable])
    await world.store.journal.append(chat("r1", LONG_AGO))
    await world.store.journal.append(chat("r2", NOW - DAY))
    assert await world.prune() == Pruned(runs=1, events=3, messages=1)
    exchanges, _ = await world.store.conversations.messages("c1")
    assert [exchange.id for exchange in exchanges] == ["r2"]
    later = Retention(world.store.pruner, world.files.blobs, MONTH, lambda: NOW + 60 * DAY)
    expected = Pruned(runs=1, events=3, messages=1, conversations=1)
    assert await later.prune(dry_run=True) == expected
    assert await later.prune() == expected
    assert await world.store.conversations.find_conversation("c1") is None
    assert await world.store.conversations.conversation_variables("c1") == []


async def test_two_at_once_delete_everything_once(
    world: World, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # by the clock of the disk, which is far behind, neither is to take the other for one that was killed long ago
    monkeypatch.setattr(retention, "_LEFT_OVER", NOW)
    for n in range(250):
        await world.store.journal.append(whole(f"r{n}", at=LONG_AGO + n))
    files = [await world.file() for _ in range(20)]
    other = World(await SqlStorage.open(url), tmp_path)
    both = await asyncio.gather(world.prune(), other.prune())
    await other.store.aclose()
    assert both[0].plus(both[1])._replace(files=0, file_bytes=0) == Pruned(runs=250, events=1250)
    assert not any([await world.there(file) for file in files])


async def test_what_was_given_up_midway_goes_on_another_time(world: World) -> None:
    for n in range(250):
        await world.store.journal.append(whole(f"r{n}", at=LONG_AGO + n))
    async with aclosing(world.retention().steps()) as steps:
        first = await anext(steps)
    assert 0 < first.runs < 250
    assert len(await world.runs()) == 250 - first.runs
    assert first.plus(await world.prune()) == Pruned(runs=250, events=1250)


async def test_others_write_meanwhile(world: World) -> None:
    for n in range(250):
        await world.store.journal.append(whole(f"r{n}", at=LONG_AGO + n))
    new: list[str] = []
    async with aclosing(world.retention().steps()) as steps:
        async for _ in steps:
            new.append(f"new{len(new)}")
            await world.store.journal.append(whole(new[-1], at=NOW))
    assert len(new) >= 3
    assert await world.runs() == {*new}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_room_is_given_back(world: World, tmp_path: Path) -> None:
    for n in range(50):
        await world.store.journal.append(whole(f"r{n}", at=LONG_AGO, q=os.urandom(10_000).hex()))
    await world.store.aclose()
    file = tmp_path / "headrace.db"
    before = file.stat().st_size
    world.store = await SqlStorage.open(f"sqlite:///{file}")
    await world.prune()
    freed = await world.store.pruner.shrink()
    assert freed > before / 2
    assert await world.store.pruner.shrink() == 0
    await world.store.journal.append(whole("r1", at=NOW))
    await world.store.pruner.vacuum()
    await world.store.aclose()
    assert file.stat().st_size <= before - freed + 8192  # the new run takes a page or two
    world.store = await SqlStorage.open(f"sqlite:///{file}")
    assert await world.runs() == {"r1"}
    await world.store.aclose()


async def test_a_service_prunes_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "FIRST_SECONDS", 0.0)
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    await store.journal.append(whole("r1", at=1000.0))
    await store.journal.append(whole("r2", "failed", at=1000.0))
    pruned = asyncio.Event()
    steps = Retention.prune

    async def prune(self: Retention, **more: bool) -> Pruned:
        counts = await steps(self, **more)
        pruned.set()
        return counts

    monkeypatch.setattr(Retention, "prune", prune)
    async with service(Settings(data=tmp_path, retention_days="succeeded=30"), {}), asyncio.timeout(60):
        await pruned.wait()
    assert await store.runs.find_run("r1") is None
    assert await store.runs.find_run("r2")
    await store.aclose()


# ------------------------------------------------------------------------------------------------------------- files


async def test_a_file_goes_with_the_last_run_that_speaks_of_it(world: World) -> None:
    produced, unused, fresh = await world.file(method="tool_file"), await world.file(), await world.file(NOW - DAY)
    shared, linked = await world.file(), await world.file(method="tool_file")
    await world.store.journal.append(whole("r1", at=LONG_AGO, produced=produced, shared=[shared]))
    await world.store.journal.append(chat("r2", NOW - DAY, answer=f"![a]({linked.url})", files=[shared]))
    expected = Pruned(runs=1, events=5, files=2, file_bytes=10)
    assert await world.prune(dry_run=True) == expected
    assert await world.there(produced)
    assert await world.prune() == expected
    assert [await world.there(file) for file in (produced, unused, fresh, shared, linked)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    await world.prune({"succeeded": DAY / 2})
    assert [await world.there(file) for file in (fresh, shared, linked)] == [True, False, False], "a day at least"


async def test_whatever_speaks_of_a_file_keeps_it(world: World) -> None:
    in_variable, in_line, in_text, in_annotation, going = [await world.file() for _ in range(5)]
    variable = ConversationVariable("v1", "c1", "n", "file", "", in_variable, LONG_AGO, LONG_AGO)
    await world.store.conversations.add_conversation(conversation(NOW), [variable])
    # callers may write an id as they like
    line = BatchLine(0, {"f": {"upload_file_id": str(in_line.related_id).replace("-", "").upper()}})
    await world.store.batches.add_batch(Batch("b1", "app", "v1", "ada", 1, LONG_AGO), [line])
    await world.store.journal.append(whole("r1", at=NOW - DAY, q=f"look at {in_text.url}"))
    feedback = Feedback("f1", "app", "r1", "like", f"see {in_annotation.related_id}!", "end-ada", NOW, NOW)
    await world.store.conversations.save_feedback(feedback)
    await world.store.journal.append(numbered("r2", [queued("r2", f=going), RunStarted()], at=LONG_AGO))
    assert await world.prune() == Pruned()
    for file in (in_variable, in_line, in_text, in_annotation, going):
        assert await world.files.read(file) == b"12345"


async def test_a_file_that_is_taken_up_again_stays(world: World) -> None:
    file = await world.file()
    await world.files.resolve({"transfer_method": "local_file", "upload_file_id": file.related_id})
    # the clock of the disk is the real one: long before NOW
    recent = Retention(
        world.store.pruner, world.files.blobs, MONTH, lambda: os.stat(world.files.blobs.folder).st_mtime + 10
    )
    assert (await recent.prune()).files == 0
    assert await world.there(file)
    assert (await world.prune()).files == 1
    with pytest.raises(InvalidParam, match="Invalid upload file"):
        await world.files.resolve({"transfer_method": "local_file", "upload_file_id": file.related_id})


class Meanwhile:
    """A store in which something happens once the search for a file is over."""

    def __init__(self, world: World, records: Sequence[Record]) -> None:
        self._store = world.store
        self._records = records

    async def referenced(self, *arguments: Any) -> set[str]:
        referenced = await self._store.pruner.referenced(*arguments)
        await self._store.journal.append(self._records)
        return referenced

    async def snapshot(self) -> Snapshot:
        return replace(await self._store.pruner.snapshot(), at=NOW)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store.pruner, name)


@pytest.mark.parametrize("began_before", [True, False])
async def test_a_file_that_a_run_tells_of_while_it_is_looked_for_stays(world: World, began_before: bool) -> None:
    file, unused = await world.file(), await world.file()
    records = whole("r1", at=NOW - 3 * DAY if began_before else NOW + 1, f=file)
    if began_before:  # it has the file from elsewhere, and speaks of it in its end alone
        records = numbered("r1", [queued("r1"), RunStarted()], at=NOW - 3 * DAY)
        await world.store.journal.append(records)
        records = numbered("r1", [RunEnded("succeeded", {"f": file})], after=2, at=NOW + 1)
    pruning = Retention(Meanwhile(world, records), world.files.blobs, MONTH, lambda: NOW)
    assert await pruning.prune() == Pruned(files=1, file_bytes=5)
    assert await world.files.read(file) == b"12345"
    assert not await world.there(unused)


async def test_files_that_one_who_was_killed_has_set_aside_are_brought_back_or_deleted(world: World) -> None:
    used, unused, nobodys = await world.file(), await world.file(), await world.file()
    await world.store.journal.append(whole("r1", at=NOW - DAY, f=used))
    blobs = world.files.blobs
    for file in (used, unused, nobodys):
        assert await blobs.set_aside(str(file.related_id), NOW)
    await world.store.pruner.remove_files([str(nobodys.related_id)])
    partial = blobs.path(str(used.related_id)).with_name(f".{used.related_id}.0123abcd")
    partial.write_bytes(b"half")
    assert await world.prune() == Pruned(files=1, file_bytes=5)
    assert await world.files.read(used) == b"12345"
    assert not await world.there(unused)
    assert not await world.there(nobodys)
    assert not partial.exists()


# ----------------------------------------------------------------------------------------------------------- settings


def test_how_long_is_said_in_days_for_all_or_by_status() -> None:
    assert days_kept("") == days_kept(" off ") == {}
    assert days_kept("30") == dict.fromkeys(FINAL, 30.0)
    assert days_kept("succeeded=7, failed=0.5") == {"succeeded": 7.0, "failed": 0.5}
    assert days_kept("30,failed=90") == {**dict.fromkeys(FINAL, 30.0), "failed": 90.0}
    assert days_kept("failed=90,30") == days_kept("30,failed=90")
    assert Settings(retention_days="1").retention == dict.fromkeys(FINAL, DAY)
    assert Settings().retention == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "'0' is not a number of days"),
        ("-1", "'-1' is not a number of days"),
        ("nan", "'nan' is not a number of days"),
        ("1e9", "'1e9' is not a number of days"),
        ("soon", "'soon' is not a number of days"),
        ("30,", "'' is not a number of days"),
        ("30,40", "retention is given twice"),
        ("failed=1,failed=2", "retention of failed runs is given twice"),
        ("running=1", "'running' is not a final status"),
    ],
)
def test_other_periods_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(retention_days=text)
