"""Uploads, previews, signed URLs, end users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.object_storage import ObjectStorage
from tests.api.serving import Client, Serving, serving, workflow
from tests.api.test_recorded import aioform
from tests.s3 import S3Server

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture(params=["folder", "s3"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Serving]:
    blobs = ObjectStorage(request.getfixturevalue("s3").new_bucket()) if request.param == "s3" else None
    async with serving(tmp_path, blobs=blobs) as running:
        yield running


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("tiny.yml", workflow())


async def upload(app: Client, name: str = "x.png", content: bytes = PNG, mime: str = "image/png", **more: Any) -> Any:
    status, body = await app.call("POST", "/v1/files/upload", **aioform(name, content, mime, **more))
    assert status == 201, body
    return body


async def test_an_upload_comes_back_by_key_and_by_signed_url(app: Client) -> None:
    body = await upload(app)
    assert (body["name"], body["size"], body["extension"], body["mime_type"]) == ("x.png", len(PNG), "png", "image/png")
    auth = {"Authorization": f"Bearer {app.key}"}
    for url, headers in ((f"{app.url}/v1/files/{body['id']}/preview", auth), (body["source_url"], {})):
        async with app.session.get(url, headers=headers) as answer:
            assert answer.status == 200
            assert await answer.read() == PNG
            assert answer.headers["Content-Type"] == "image/png"
            assert answer.headers["Content-Disposition"].startswith("inline")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with app.session.get(url, headers={**headers, "Range": "bytes=1-3"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"PNG")
        async with app.session.head(url, headers=headers) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(PNG)))
        joined = "&" if "?" in url else "?"
        async with app.session.get(f"{url}{joined}as_attachment=true", headers=headers) as answer:
            assert answer.headers["Content-Disposition"] == 'attachment; filename="x.png"'
            assert answer.headers["Content-Type"] == "application/octet-stream"
        async with app.session.get(url, headers={**headers, "Range": "bytes=9999-"}) as answer:
            assert answer.status == 416
            assert answer.headers["Content-Range"] == f"bytes */{len(PNG)}"


@pytest.mark.parametrize(
    ("name", "mime", "expected"),
    [
        ("a.html", "text/html", "application/octet-stream"),
        ("a.svg", "image/svg+xml", "image/svg+xml"),
        ("a.xml", "application/xml", "application/octet-stream"),
        ("a.js", "text/javascript", "application/octet-stream"),
        ("a.png", "text/html", "application/octet-stream"),
    ],
)
async def test_what_could_run_in_a_browser_is_only_saved(app: Client, name: str, mime: str, expected: str) -> None:
    body = await upload(app, name, b"<script>alert(1)</script>", mime)
    async with app.session.get(body["source_url"]) as answer:
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["Content-Type"] == expected
        assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("mime", ["audio/x\nSet-Cookie: a=b", "audio/x\x01", "audio/\x7f", "audio/é"])
async def test_a_type_that_no_header_can_tell_is_not_kept(app: Client, mime: str) -> None:
    body = await upload(app, "a.mp3", b"x", mime)
    assert body["mime_type"] == "audio/mpeg"
    async with app.session.get(body["source_url"]) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "audio/mpeg")


async def test_a_url_that_was_not_made_here_opens_nothing(app: Client) -> None:
    body = await upload(app)
    good = body["source_url"]
    other = await upload(app, "y.png")
    for url in (
        good.split("?")[0],
        good[:-3] + "xxx",
        good.replace(body["id"], other["id"]),
        good.replace("timestamp=", "timestamp=9"),
        good.replace(body["id"], "nope"),
        good.replace(body["id"], "..%2f..%2fsecret"),
    ):
        async with app.session.get(url) as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, "not_found")
    async with app.session.get(f"{app.url}/files/tools/{body['id']}.png?timestamp=1&nonce=2&sign=3") as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "forbidden")


async def test_a_nodes_file_opens_by_its_signed_url(app: Client, server: Serving) -> None:
    file = await server.files.save(PNG, filename="card.png", mime_type="image/png", app=app.release.app.id)
    assert file.url is not None
    assert "/files/tools/" in file.url
    async with app.session.get(file.url) as answer:
        assert (answer.status, await answer.read()) == (200, PNG)


async def test_another_apps_file_and_end_user_are_unknown(app: Client, server: Serving) -> None:
    other = await server.add("other.yml", workflow())
    body = await upload(app, user="somebody")
    for file in (body["id"], "nope", "b2cf19b6-e525-4b29-a302-cead928e0231"):
        status, answer = await other.call("GET", f"/v1/files/{file}/preview")
        assert (status, answer["code"]) == (404, "file_not_found")
    status, answer = await app.call("GET", f"/v1/end-users/{body['created_by']}")
    assert status == 200
    assert (answer["session_id"], answer["type"], answer["is_anonymous"]) == ("somebody", "service-api", False)
    assert answer["created_at"].endswith("Z")
    for user in (body["created_by"], "nope"):
        status, answer = await other.call("GET", f"/v1/end-users/{user}")
        assert (status, answer["code"]) == (404, "end_user_not_found")


async def test_an_upload_without_user_is_anonymous(app: Client) -> None:
    body = await upload(app, user=None)
    _, who = await app.call("GET", f"/v1/end-users/{body['created_by']}")
    assert (who["session_id"], who["is_anonymous"]) == ("DEFAULT-USER", True)


@pytest.mark.parametrize(
    ("name", "status"),
    [("a/b.txt", 400), ("a\\b.txt", 400), ("../../etc/passwd", 400), ("x" * 300 + ".txt", 201), ("…😀.txt", 201)],
)
async def test_odd_file_names(app: Client, name: str, status: int) -> None:
    got = await app.call("POST", "/v1/files/upload", **aioform(name, b"a", "text/plain"))
    assert got[0] == status
    if status == 201:
        assert got[1]["name"].endswith(".txt")
        assert len(got[1]["name"]) <= 200
        async with app.session.get(got[1]["source_url"]) as answer:
            assert await answer.read() == b"a"


@pytest.mark.parametrize("declared", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [1500, 3 * 1024 * 1024])
async def test_a_file_too_large_is_refused_with_its_limit(tmp_path: Path, declared: bool, size: int) -> None:
    async with serving(
        tmp_path, limit_for=lambda extension: 2 * 1024 * 1024 if extension == ".mp4" else 1024
    ) as server:
        app = await server.add("tiny.yml", workflow())
        form = aioform("notes.txt", b"x" * size, "text/plain")
        if not declared:
            whole = form["data"].getvalue()

            async def pieces() -> Any:
                for at in range(0, len(whole), 100_000):
                    yield whole[at : at + 100_000]

            form["data"] = pieces()
        status, body = await app.call("POST", "/v1/files/upload", **form)
        assert (status, body["code"]) == (413, "file_too_large")
        assert "{" not in body["message"]
        assert (await app.call("POST", "/v1/files/upload", **aioform("a.txt", b"x" * 1024, "text/plain")))[0] == 201


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"),
    [
        (b"", "multipart/form-data; boundary=cut", 400, "no_file_uploaded"),
        (b"garbage", "multipart/form-data; boundary=cut", 400, "bad_request"),
        (b"--cut\r\n", "multipart/form-data", 400, "bad_request"),
        (b"{}", "application/json", 400, "no_file_uploaded"),
        (
            b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--cut--\r\n',
            "multipart/form-data; boundary=cut",
            400,
            "no_file_uploaded",
        ),
        (
            b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nx\r\n--cut--\r\n',
            "multipart/form-data; boundary=cut",
            415,
            "unsupported_file_type",
        ),
        (
            b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: a/b\r\n\r\nx',
            "multipart/form-data; boundary=cut",
            400,
            "bad_request",
        ),
    ],
)
async def test_forms_that_hold_no_file(app: Client, data: bytes, content_type: str, status: int, code: str) -> None:
    got = await app.call("POST", "/v1/files/upload", data=data, headers={"Content-Type": content_type})
    assert (got[0], got[1]["code"]) == (status, code)


async def test_many_uploads_at_once_are_kept_apart(app: Client) -> None:
    bodies = await asyncio.gather(*(upload(app, f"{n}.txt", str(n).encode(), "text/plain") for n in range(20)))
    assert len({body["id"] for body in bodies}) == 20
    assert len({body["created_by"] for body in bodies}) == 1
    for number, body in enumerate(bodies):
        async with app.session.get(body["source_url"]) as answer:
            assert await answer.text() == str(number)


@pytest.mark.parametrize(
    ("range_", "status", "part"),
    [
        ("bytes=0-0", 206, PNG[:1]),
        ("bytes=260-999", 206, PNG[260:]),
        ("bytes=5-", 206, PNG[5:]),
        ("bytes=-4", 206, PNG[-4:]),
        ("bytes=-9999", 206, PNG),
        (f"bytes={len(PNG)}-", 416, b""),
    ],
)
async def test_ranges(app: Client, range_: str, status: int, part: bytes) -> None:
    url = (await upload(app))["source_url"]
    async with app.session.get(url, headers={"Range": range_}) as answer:
        assert (answer.status, await answer.read()) == (status, part)
        etag = answer.headers.get("ETag", "")
    if status == 206:
        for condition, expected in ((etag, part), ('"other"', PNG)):
            async with app.session.get(url, headers={"Range": range_, "If-Range": condition}) as answer:
                assert await answer.read() == expected


async def test_a_range_of_too_many_digits_is_ignored_or_refused(app: Client) -> None:
    url = (await upload(app))["source_url"]
    async with app.session.get(url, headers={"Range": f"bytes={'9' * 5000}-"}) as answer:
        assert answer.status in (200, 400)


async def test_files_on_a_service_that_is_away(s3: S3Server, tmp_path: Path) -> None:
    async with serving(tmp_path, blobs=ObjectStorage(s3.new_bucket())) as server:
        file = {"variable": "file", "label": "file", "type": "file", "required": False}
        app = await server.add("tiny.yml", workflow(variables=[file]))
        body = await upload(app)
        run = {"inputs": {}, "user": "u"}
        mapping = {"type": "image", "transfer_method": "local_file", "upload_file_id": body["id"]}
        with_file = {**run, "inputs": {"file": mapping}}
        assert (await app.call("POST", "/v1/workflows/run", json=with_file))[0] == 200
        s3.stop()
        try:
            away = {
                "code": "service_unavailable",
                "message": "The storage of files is not available. Please try again.",
                "status": 503,
            }
            assert await app.call("POST", "/v1/files/upload", **aioform("x.png", PNG, "image/png")) == (503, away)
            assert await app.call("GET", f"/v1/files/{body['id']}/preview") == (503, away)
            assert await app.call("POST", "/v1/workflows/run", json=with_file) == (503, away)
            status, ended = await app.call("POST", "/v1/workflows/run", json=run)
            assert (status, ended["data"]["status"]) == (200, "succeeded")
        finally:
            s3.start()
        assert (await app.call("POST", "/v1/workflows/run", json=with_file))[0] == 200
