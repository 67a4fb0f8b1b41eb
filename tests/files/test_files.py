"""Stored files: what is kept, what is told of them, who may fetch them, and what callers may mean by one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import UPLOAD_LIMITS, FileStore, limit_for
from headrace.adapters.http import HttpClient
from headrace.errors import InvalidParam, NodeError, NotFound
from headrace.values import File
from tests.files.catalog import FileCatalog
from tests.http.servers import serve

NOBODY = "00000000-0000-4000-8000-000000000000"


class Clock:
    def __init__(self) -> None:
        self.now = 1795226715.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog() -> FileCatalog:
    return FileCatalog()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(["127.0.0.1"])
    yield client
    await client.aclose()


@pytest.fixture
def store(tmp_path: Path, catalog: FileCatalog, http: HttpClient, clock: Clock) -> FileStore:
    return FileStore(
        FileBlobStore(tmp_path / "files"), catalog, b"secret", http, lambda: "http://127.0.0.1:5001/", clock
    )


async def upload(
    store: FileStore, data: bytes = b"hello file\n", name: str = "notes.txt", mime: str = "text/plain"
) -> File:
    return await store.save(data, filename=name, mime_type=mime, transfer_method="local_file", app="app", owner="u")


def signature(url: str | None) -> tuple[str, str, str, str]:
    """(path, timestamp, nonce, sign) of a signed URL."""
    parts = urlsplit(url or "")
    query = parse_qs(parts.query)
    return parts.path, query["timestamp"][0], query["nonce"][0], query["sign"][0]


# ------------------------------------------------------------------------------------------------------- storing


async def test_an_upload_is_reported_as_recorded(store: FileStore):
    file = await upload(store)
    assert file.wire() == {
        "dify_model_identity": "__dify__file__",
        "id": None,
        "tenant_id": None,
        "type": "document",
        "transfer_method": "local_file",
        "remote_url": file.remote_url,
        "related_id": file.related_id,
        "filename": "notes.txt",
        "extension": ".txt",
        "mime_type": "text/plain",
        "size": 11,
        "url": file.url,
    }
    form = rf"http://127\.0\.0\.1:5001/files/{file.related_id}/file-preview\?timestamp=1795226715&nonce=[0-9a-f]{{32}}&sign=[\w-]{{43}}%3D"
    assert re.fullmatch(form, cast("str", file.url))
    assert re.fullmatch(form, cast("str", file.remote_url))


async def test_a_file_of_a_tool_is_reported_as_recorded(store: FileStore):
    file = await store.save(b"\x89PNG", filename="", mime_type="image/png; charset=binary")
    assert (file.type, file.transfer_method, file.remote_url, file.mime_type) == (
        "image",
        "tool_file",
        None,
        "image/png",
    )
    assert re.fullmatch(r"[0-9a-f]{32}\.png", cast("str", file.filename))
    form = rf"http://127\.0\.0\.1:5001/files/tools/{file.related_id}\.png\?timestamp=1795226715&nonce=[0-9a-f]{{32}}&sign=[\w-]{{43}}="
    assert re.fullmatch(form, cast("str", file.url))


async def test_what_is_stored_is_read_again_also_by_another_process(
    store: FileStore, tmp_path: Path, catalog: FileCatalog
):
    file = await upload(store, b"\x00\xff" * 1000)
    other = FileStore(FileBlobStore(tmp_path / "files"), catalog, b"secret", cast("Any", None), "http://elsewhere")
    stored, path = await other.open(cast("str", file.related_id))
    assert await other.read(file) == path.read_bytes() == b"\x00\xff" * 1000
    assert (stored.app, stored.owner, stored.created_at) == ("app", "u", 1795226715.5)
    assert cast("str", stored.file.url).startswith("http://elsewhere/files/")
    assert other.verify(cast("str", file.related_id), *signature(file.url)[1:])


@pytest.mark.parametrize(
    ("name", "mime", "kind", "extension", "mime_type"),
    [
        ("x.png", "image/png", "image", ".png", "image/png"),
        ("x.PNG", "application/octet-stream", "image", ".png", "application/octet-stream"),
        ("a.exe", "application/octet-stream", "custom", ".exe", "application/octet-stream"),
        ("a.mp3", "audio/mpeg", "audio", ".mp3", "audio/mpeg"),
        ("a.webm", "video/webm", "video", ".webm", "video/webm"),
        ("a.opus", "audio/ogg", "audio", ".opus", "audio/ogg"),
        ("a.py", "text/x-python", "document", ".py", "text/x-python"),
        ("a.docx", "", "document", ".docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("naïve 漢.txt", "text/plain", "document", ".txt", "text/plain"),
        ("Makefile", "", "custom", ".", "application/octet-stream"),
        (".env", "", "custom", ".", "application/octet-stream"),
        ("tail.", "", "custom", ".", "application/octet-stream"),
    ],
)
async def test_types_of_files(store: FileStore, name: str, mime: str, kind: str, extension: str, mime_type: str):
    file = await upload(store, b"x", name, mime)
    assert (file.type, file.extension, file.mime_type, file.filename) == (kind, extension, mime_type, name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\\b.txt", 'a".txt', "a\x00.txt", "a\n.txt", "a:b"])
async def test_names_that_no_file_system_likes_are_refused(store: FileStore, name: str):
    with pytest.raises(InvalidParam, match="invalid characters"):
        await upload(store, b"x", name)


async def test_a_very_long_name_is_cut_and_keeps_its_extension(store: FileStore):
    file = await upload(store, b"x", "長" * 5000 + ".txt")
    assert (len(cast("str", file.filename)), file.extension) == (200, ".txt")
    file = await upload(store, b"x", "a." + "x" * 5000)
    assert len(cast("str", file.filename)) == 200
    assert len(cast("str", file.extension)) <= 20


async def test_an_empty_file_is_a_file(store: FileStore):
    file = await upload(store, b"")
    assert file.size == 0
    assert await store.read(file) == b""


async def test_many_at_once_do_not_meet(store: FileStore):
    files = await asyncio.gather(*(upload(store, str(number).encode()) for number in range(50)))
    assert [await store.read(file) for file in files] == [str(number).encode() for number in range(50)]


async def test_what_cannot_be_catalogued_leaves_nothing_behind(store: FileStore, catalog: FileCatalog, tmp_path: Path):
    catalog.broken = True
    with pytest.raises(OSError, match="disk full"):
        await upload(store)
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", [NOBODY, "", "nope", "../../etc/passwd", "x" * 10_000])
async def test_opening_what_is_not_there(store: FileStore, name: str):
    with pytest.raises(NotFound):
        await store.open(name)


async def test_a_file_whose_bytes_are_gone(store: FileStore):
    file = await upload(store)
    _, path = await store.open(cast("str", file.related_id))
    path.unlink()
    with pytest.raises(NotFound):
        await store.open(cast("str", file.related_id))
    with pytest.raises(NodeError, match=r"notes\.txt"):
        await store.read(file)


async def test_a_file_larger_than_the_reader_takes(store: FileStore):
    with pytest.raises(NodeError, match="larger than"):
        await store.read(await upload(store), max_size=10)


async def test_reading_what_is_nowhere(store: FileStore):
    with pytest.raises(NodeError, match="not stored"):
        await store.read(File("image", "local_file", "x.png", related_id=NOBODY))
    with pytest.raises(NodeError, match="neither"):
        await store.read(File("image", "remote_url", "x.png"))


# ------------------------------------------------------------------------------------------------------- signing


async def test_a_signature_is_good_for_its_file_only_and_for_ever(store: FileStore, clock: Clock):
    one, two = await upload(store), await upload(store)
    _, timestamp, nonce, sign = signature(one.url)
    key = cast("str", one.related_id)
    clock.now += 10 * 365 * 86400
    assert store.verify(key, timestamp, nonce, sign)
    assert not store.verify(cast("str", two.related_id), timestamp, nonce, sign)
    assert not store.verify(key, str(int(timestamp) + 1), nonce, sign)
    assert not store.verify(key, timestamp, "0" * 32, sign)
    for forged in ("", "x", "漢", "\ud800", sign[:-2], sign + "=", sign.swapcase()):
        assert not store.verify(key, timestamp, nonce, forged)
    assert not store.verify("\ud800", "", "", "")


async def test_another_secret_knows_no_signature(store: FileStore, catalog: FileCatalog, tmp_path: Path):
    file = await upload(store)
    other = FileStore(FileBlobStore(tmp_path), catalog, b"other", cast("Any", None), "http://x")
    assert not other.verify(cast("str", file.related_id), *signature(file.url)[1:])


async def test_signatures_expire_where_that_is_wanted(catalog: FileCatalog, tmp_path: Path, clock: Clock):
    store = FileStore(FileBlobStore(tmp_path), catalog, b"secret", cast("Any", None), "http://x", clock, lifetime=300)
    file = await upload(store)
    key, parameters = cast("str", file.related_id), signature(file.url)[1:]
    clock.now += 299
    assert store.verify(key, *parameters)
    clock.now += 2
    assert not store.verify(key, *parameters)
    stored, _ = await store.open(key)
    assert store.verify(key, *signature(stored.file.url)[1:])


# ----------------------------------------------------------------------------------------------------- resolving


async def meant(store: FileStore, app: str | None = None, **mapping: Any) -> File:
    return await store.resolve(mapping, app)


async def not_meant(store: FileStore, app: str | None = None, **mapping: Any) -> str:
    with pytest.raises(InvalidParam) as caught:
        await store.resolve(mapping, app)
    return str(caught.value)


async def test_an_uploaded_file_is_found_with_fresh_urls(store: FileStore, clock: Clock):
    file = await upload(store)
    clock.now += 1
    file_of_input = await meant(
        store, "app", type="document", transfer_method="local_file", upload_file_id=file.related_id
    )
    assert replace(file_of_input, url=None, remote_url=None) == replace(file, url=None, remote_url=None)
    assert (signature(file_of_input.remote_url)[1], signature(file_of_input.url)[1]) == ("1795226715", "1795226716")
    for url in (file_of_input.url, file_of_input.remote_url):
        assert store.verify(cast("str", file.related_id), *signature(url)[1:])


@pytest.mark.parametrize("wanted", ["document", "custom", "", None])
async def test_types_that_an_upload_may_be_called(store: FileStore, wanted: str | None):
    file = await upload(store)
    file_of_input = await meant(store, type=wanted, transfer_method="local_file", upload_file_id=file.related_id)
    assert file_of_input.type == "document"


async def test_what_no_file_can_be_meant_by(store: FileStore):
    key = cast("str", (await upload(store)).related_id)
    tool = cast("str", (await store.save(b"x", filename="x.png", mime_type="image/png")).related_id)
    mismatch = "Detected file type does not match the specified type. Please verify the file."
    assert await not_meant(store, foo=1) == "transfer_method is required in file mapping"
    assert await not_meant(store, transfer_method="pigeon") == "Invalid file transfer method: pigeon"
    assert "pigeon" in await not_meant(store, transfer_method=["pigeon"])
    assert await not_meant(store, transfer_method="local_file") == "Invalid upload file id"
    assert await not_meant(store, transfer_method="local_file", upload_file_id="x") == "Invalid upload file id format"
    assert await not_meant(store, transfer_method="local_file", upload_file_id=3) == "Invalid upload file id format"
    assert await not_meant(store, transfer_method="local_file", upload_file_id=NOBODY) == "Invalid upload file"
    assert await not_meant(store, transfer_method="local_file", upload_file_id=tool) == "Invalid upload file"
    assert await not_meant(store, "other", transfer_method="local_file", upload_file_id=key) == "Invalid upload file"
    assert await not_meant(store, type="image", transfer_method="local_file", upload_file_id=key) == mismatch
    assert "file type" in await not_meant(store, type="tree", transfer_method="local_file", upload_file_id=key)
    assert "file type" in await not_meant(store, type=["image"], transfer_method="local_file", upload_file_id=key)
    assert await not_meant(store, transfer_method="tool_file", tool_file_id=key) == f"ToolFile {key} not found"
    assert await not_meant(store, transfer_method="tool_file") == "ToolFile None not found"
    for url in (None, "", 3, ["x"]):
        assert await not_meant(store, transfer_method="remote_url", url=url) == "Invalid file url"
    assert "http" in await not_meant(store, transfer_method="remote_url", url="file:///etc/passwd")
    for url in ("http://[", "https://a]b/x.png", "http://[::1/x.png"):
        assert url in await not_meant(store, transfer_method="remote_url", url=url)


async def test_a_file_of_a_tool_is_found(store: FileStore):
    file = await store.save(b"x", filename="x.png", mime_type="image/png")
    file_of_input = await meant(store, transfer_method="tool_file", tool_file_id=file.related_id)
    assert (file_of_input.type, file_of_input.related_id, file_of_input.remote_url) == ("image", file.related_id, None)


async def test_an_uploaded_file_may_be_called_remote(store: FileStore):
    file = await upload(store)
    file_of_input = await meant(store, transfer_method="remote_url", upload_file_id=file.related_id)
    assert (file_of_input.transfer_method, file_of_input.size, await store.read(file_of_input)) == (
        "remote_url",
        11,
        b"hello file\n",
    )


async def test_our_own_urls_need_no_request(store: FileStore):
    """Port 5001 is nobody's: the file is known without asking."""
    for file in (await upload(store), await store.save(b"tool", filename="t.txt", mime_type="text/plain")):
        file_of_input = await meant(store, type="document", transfer_method="remote_url", url=file.url)
        assert (file_of_input.filename, file_of_input.size, file_of_input.transfer_method) == (
            file.filename,
            file.size,
            "remote_url",
        )
        assert len(await store.read(file_of_input)) == file.size
    forged = cast("str", (await upload(store)).url).replace("nonce=", "nonce=0")
    assert "cannot be reached" in await not_meant(store, transfer_method="remote_url", url=forged)


WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.fixture
async def remote() -> AsyncIterator[str]:
    async def picture(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 70, content_type="image/png")

    async def named(request: web.Request) -> web.Response:
        return web.Response(
            body=b"x" * 5, headers={"Content-Disposition": request.query["d"], "Content-Type": "application/x-any"}
        )

    async def missing(request: web.Request) -> web.Response:
        return web.Response(status=404)

    routes = {"/x.png": picture, "/show": picture, "/": picture, "/named": named, "/missing.pdf": missing}
    async with serve(routes) as base:
        yield base


async def test_a_remote_file_is_reported_as_recorded(store: FileStore, remote: str):
    url = f"{remote}/x.png"
    for mapping in ({"url": url}, {"remote_url": url}):
        file_of_input = await meant(store, type="image", transfer_method="remote_url", **mapping)
        assert file_of_input == File("image", "remote_url", "x.png", ".png", "image/png", 70, url, None, url)
    assert await store.read(file_of_input) == b"x" * 70


@pytest.mark.parametrize(
    ("path", "filename", "extension", "mime_type", "size", "kind"),
    [
        ("/show?id=1", "show", ".png", "image/png", 70, "image"),
        ("/missing.pdf", "missing.pdf", ".pdf", "application/pdf", -1, "document"),
        ('/named?d=attachment; filename="r%2520x.pdf"', "r x.pdf", ".pdf", "application/pdf", 5, "document"),
        ("/named?d=attachment; filename*=UTF-8''%25E6%25BC%25A2.md", "漢.md", ".md", "text/markdown", 5, "document"),
        ("/named?d=inline; filename=../../a.mp3", "a.mp3", ".mp3", "audio/mpeg", 5, "audio"),
        (
            "/named?d=attachment; filename*=GBK''%25B1%25A8.DOCX; filename=x.bin",
            "报.DOCX",
            ".docx",
            WORD,
            5,
            "document",
        ),
        ("/named?d=attachment; filename=%22%3D?UTF-8?B?5oqlLmRvY3g%3D?%3D%22", "报.docx", ".docx", WORD, 5, "document"),
        ("/named?d=attachment; filename=a.webp", "a.webp", ".webp", "image/webp", 5, "image"),
        ("/named?d=attachment; filename=a.blend", "a.blend", ".blend", "application/x-any", 5, "custom"),
        ("/named?d=inline", "named", ".bin", "application/x-any", 5, "custom"),
    ],
)
async def test_what_a_server_says_of_a_file(
    store: FileStore, remote: str, path: str, filename: str, extension: str, mime_type: str, size: int, kind: str
):
    file_of_input = await meant(store, transfer_method="remote_url", url=remote + path)
    assert (
        file_of_input.filename,
        file_of_input.extension,
        file_of_input.mime_type,
        file_of_input.size,
        file_of_input.type,
    ) == ((filename, extension, mime_type, size, kind))


async def test_a_remote_file_without_a_name_gets_one(store: FileStore, remote: str):
    file_of_input = await meant(store, transfer_method="remote_url", url=f"{remote}/")
    assert re.fullmatch(r"[0-9a-f]{32}\.png", cast("str", file_of_input.filename))


async def test_a_remote_file_of_another_type_than_said(store: FileStore, remote: str):
    assert "does not match" in await not_meant(store, type="video", transfer_method="remote_url", url=f"{remote}/x.png")


async def test_a_remote_file_that_cannot_be_reached(store: FileStore):
    message = await not_meant(store, transfer_method="remote_url", url="http://127.0.0.1:9/x.png")
    assert message == "The file at http://127.0.0.1:9/x.png cannot be reached: [Errno 111] Connection refused"


async def test_a_remote_file_that_we_may_not_ask_for_keeps_what_its_name_tells(store: FileStore):
    file_of_input = await meant(store, type="image", transfer_method="remote_url", url="http://10.0.0.1/a/b.jpg?x=1")
    assert (file_of_input.filename, file_of_input.mime_type, file_of_input.size, file_of_input.type) == (
        "b.jpg",
        "image/jpeg",
        -1,
        "image",
    )
    with pytest.raises(NodeError) as caught:
        await store.read(file_of_input)
    assert caught.value.kind == "EgressRefused"


async def test_a_remote_file_that_is_gone(store: FileStore, remote: str):
    file_of_input = await meant(store, transfer_method="remote_url", url=f"{remote}/missing.pdf")
    with pytest.raises(NodeError, match="404"):
        await store.read(file_of_input)


# -------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("extension", "megabytes"),
    [("png", 10), (".PNG", 10), ("pdf", 15), ("exe", 15), ("", 15), ("mp3", 50), (".mp4", 100)],
)
def test_how_large_uploads_may_be(extension: str, megabytes: int):
    assert limit_for(extension) == megabytes * 1024 * 1024
    assert limit_for(extension) in UPLOAD_LIMITS.values()
