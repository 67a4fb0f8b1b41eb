"""What every storage of files promises."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import time
import uuid
from pathlib import Path

import pytest

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.object_storage import ObjectStorage
from headrace.errors import FileStorageError, HeadraceError
from headrace.ports import FileBlobs
from tests.s3 import S3Server

TEXT = "text/plain"
DAY = 24 * 3600.0


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> FileBlobs:
    if request.param == "folder":
        return FileBlobStore(tmp_path / "files")
    server: S3Server = request.getfixturevalue("s3")
    return ObjectStorage(server.new_bucket())


async def content(blobs: FileBlobs, file: str, start: int = 0, end: int | None = None) -> bytes | None:
    blob = await blobs.open(file)
    if blob is None:
        return None
    if isinstance(blob, Path):
        return blob.read_bytes()[start:end]
    return b"".join([piece async for piece in blob.read(start, blob.size if end is None else end)])


def new() -> str:
    return str(uuid.uuid4())


@pytest.mark.parametrize("size", [0, 1, 5 * 1024 * 1024, 17 * 1024 * 1024 + 3])
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_written_is_read(blobs: FileBlobs, size: int, streamed: bool) -> None:
    data, file = os.urandom(size), new()
    await blobs.write(file, io.BytesIO(data) if streamed else data, TEXT)
    assert await blobs.read(file) == data
    assert await content(blobs, file) == data
    assert await content(blobs, file, size // 3, size // 2) == data[size // 3 : size // 2]
    assert (await blobs.size(file), await blobs.total_bytes()) == (size, size)


async def test_a_file_that_does_not_exist(blobs: FileBlobs) -> None:
    assert await blobs.open(new()) is None
    assert await blobs.touch(new()) is False
    assert (await blobs.size(new()), await blobs.total_bytes()) == (0, 0)
    await blobs.delete(new())
    assert await blobs.remove(new()) == 0
    with pytest.raises(FileNotFoundError):
        await blobs.read(new())


async def test_a_deleted_file_is_gone(blobs: FileBlobs) -> None:
    file, other = new(), new()
    for name in (file, other):
        await blobs.write(name, b"x", TEXT)
    await blobs.delete(file)
    assert (await blobs.open(file), await content(blobs, other)) == (None, b"x")


async def test_a_file_that_was_not_used_since_is_set_aside_and_removed(blobs: FileBlobs) -> None:
    file, other = new(), new()
    for name in (file, other):
        await blobs.write(name, b"hello", TEXT)
    later = time.time() + DAY
    assert sorted(await blobs.idle([file, other], later)) == sorted([file, other])
    assert await blobs.set_aside(file, later) is True
    assert await blobs.touch(file) is False
    assert await blobs.open(file) is None
    assert await blobs.left_over(later) == [file]
    await blobs.put_back(file)
    assert await content(blobs, file) == b"hello"
    assert await blobs.left_over(later) == []
    assert await blobs.set_aside(file, later) is True
    assert await blobs.set_aside(file, later) is True  # by another process
    assert await blobs.remove(file) == 5
    await blobs.put_back(file)
    assert (await blobs.open(file), await content(blobs, other)) == (None, b"hello")


async def test_files_in_many_tasks_at_once(blobs: FileBlobs) -> None:
    files = {new(): os.urandom(n * 1000) for n in range(32)}
    await asyncio.gather(*(blobs.write(file, data, TEXT) for file, data in files.items()))
    assert await asyncio.gather(*map(blobs.read, files)) == list(files.values())


# --------------------------------------------------------------------------------------------------------- S3 only


@pytest.fixture
def later(s3: S3Server) -> tuple[ObjectStorage, float]:
    """A storage whose clock is a day ahead of the server's, so that its files are old; and its time."""
    return ObjectStorage(s3.new_bucket(), lambda: time.time() + DAY), time.time() - 60


async def test_the_use_of_an_old_object_is_recorded(later: tuple[ObjectStorage, float]) -> None:
    storage, since = later
    used, idle = new(), new()
    for file in (used, idle):
        await storage.write(file, b"x", TEXT)
    assert await storage.touch(used) is True
    assert await storage.idle([used, idle], since) == [idle]
    assert await storage.set_aside(used, since) is False
    assert await storage.set_aside(idle, since) is True
    assert await storage.total_bytes() == 1
    assert await storage.remove(idle) == 1


async def test_installations_in_one_bucket_do_not_see_each_other(s3: S3Server) -> None:
    bucket = s3.new_bucket()
    one, two = ObjectStorage(bucket), ObjectStorage(f"{bucket}2")
    file = new()
    await one.write(file, b"x", TEXT)
    assert await two.open(file) is None
    assert await two.total_bytes() == 0


async def test_a_server_that_is_away_is_reported_once(s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    storage, file = ObjectStorage(s3.new_bucket()), new()
    await storage.write(file, b"x", TEXT)
    s3.stop()
    try:
        for attempt in (storage.touch(file), storage.write(file, b"y", TEXT), storage.read(file), storage.left_over(0)):
            with pytest.raises(FileStorageError) as refused:
                await attempt
            assert (refused.value.status, refused.value.code) == (503, "service_unavailable")
    finally:
        s3.start()
    assert await storage.read(file) == b"x"
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
        f"{storage.url} cannot be used",
        f"{storage.url} can be used again",
    ]


async def test_a_bucket_that_does_not_exist_fails(s3: S3Server) -> None:
    storage = ObjectStorage("s3://no-such-bucket")
    with pytest.raises(FileStorageError):
        await storage.write(new(), b"x", TEXT)
    with pytest.raises(FileStorageError):
        await storage.total_bytes()


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(HeadraceError, match=r"headrace\[s3\]"):
        ObjectStorage("s3://bucket")
