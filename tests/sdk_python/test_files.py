"""The contract's `files`."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import pytest
from headrace_client import File, HeadraceError
from headrace_client.errors import UsageError

from tests.sdk_contract.dify_server import key_of
from tests.sdk_python.clients import Fault, Maker
from tests.server.process import Serve

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
KEY = key_of("18_inputs_all")  # its form has `text`, `file` and `files`


class _NoWayBack(io.RawIOBase):
    """A file object that can only be read forward, like a pipe."""

    def __init__(self, content: bytes) -> None:
        self._left = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._left.readinto(buffer)


async def _send(
    make: Maker, faulty_dify: Fault, inputs: dict[str, Any], **more: Any
) -> tuple[dict[str, Any], list[str]]:
    """(the body of the run's request, all requests)."""
    faulty_dify.script()
    await make(KEY, faulty_dify.url).run_workflow(inputs, **more)
    return faulty_dify.bodies()[-1], faulty_dify.calls()


async def test_files_path_bytes_and_file_object_are_uploaded(
    make: Maker, headrace: Serve, tmp_path: pathlib.Path
) -> None:
    client = make(headrace.keys["files"], headrace.url)
    path = tmp_path / "notes äöü.txt"
    path.write_text("hello")
    with path.open("rb") as file:
        inputs: list[Any] = [path, b"hello", file, io.BytesIO(b"hello"), File(PNG, "x.png", type="image")]
        run = await client.run_workflow({"files": inputs, "file": _NoWayBack(b"hello")})
    assert run.status == "succeeded", run.error
    files = [(item["filename"], item["type"], item["size"]) for item in run.outputs["files"]]
    assert files == [
        ("notes äöü.txt", "document", 5),
        ("file.txt", "document", 5),
        ("notes äöü.txt", "document", 5),
        ("file.txt", "document", 5),
        ("x.png", "image", len(PNG)),
    ]
    assert run.outputs["file"]["size"] == 5
    uploaded = await client.upload_file(PNG)
    assert (uploaded.name, uploaded.mime_type) == ("file.png", "image/png")
    assert (await client.run_workflow({"file": uploaded})).outputs["file"]["related_id"] == uploaded.id
    assert await client.download_file(uploaded.id) == PNG
    assert (await client.upload_file(path, filename="other.md")).name == "other.md"


async def test_files_sent_shape(make: Maker, faulty_dify: Fault) -> None:
    body, _ = await _send(make, faulty_dify, {"text": "t", "file": PNG}, files=[PNG, "https://example.org/a.mp4"])
    file = body["inputs"]["file"]
    assert (file["type"], file["transfer_method"], set(file)) == (
        "image",
        "local_file",
        {"type", "transfer_method", "upload_file_id"},
    )
    assert body["files"][0]["transfer_method"] == "local_file"
    assert body["files"][1] == {"type": "video", "transfer_method": "remote_url", "url": "https://example.org/a.mp4"}


async def test_files_url_is_passed_on(make: Maker, faulty_dify: Fault) -> None:
    url = "https://example.org/some%20where/a.pdf?x=1"
    body, calls = await _send(make, faulty_dify, {"file": url, "files": [url, "HTTP://EXAMPLE.ORG/B.PNG"]})
    assert body["inputs"]["file"] == {"type": "document", "transfer_method": "remote_url", "url": url}
    assert [item["type"] for item in body["inputs"]["files"]] == ["document", "image"]
    assert calls == ["GET /v1/parameters", "POST /v1/workflows/run"]


async def test_files_one_or_many(make: Maker, faulty_dify: Fault) -> None:
    body, _ = await _send(make, faulty_dify, {"file": [PNG], "files": PNG})
    assert isinstance(body["inputs"]["file"], dict)
    assert isinstance(body["inputs"]["files"], list)
    body, _ = await _send(make, faulty_dify, {"file": [PNG, PNG], "unknown": PNG})
    assert isinstance(body["inputs"]["file"], list), "the server reports that two are too many"
    assert isinstance(body["inputs"]["unknown"], dict)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "image"),
        ("a.docx", "document"),
        ("a.mp3", "audio"),
        ("a.webm", "video"),
        ("a.xyz", "custom"),
        ("a", "custom"),
    ],
)
async def test_files_type_is_by_name(make: Maker, faulty_dify: Fault, name: str, kind: str) -> None:
    body, _ = await _send(make, faulty_dify, {"file": File(b"x", name, type="custom" if kind == "custom" else None)})
    assert body["inputs"]["file"]["type"] == kind


async def test_files_parameters_requested_once(make: Maker, faulty_dify: Fault) -> None:
    client = make(KEY, faulty_dify.url)
    faulty_dify.script()
    await client.run_workflow({"text": "plain"})
    assert faulty_dify.calls() == ["POST /v1/workflows/run"]
    for _ in range(2):
        await client.run_workflow({"file": "https://example.org/a.png"})
    assert faulty_dify.calls().count("GET /v1/parameters") == 1


async def test_files_without_parameters(make: Maker, fault: Fault) -> None:
    response = {"status": 200, "body": {"workflow_run_id": "r", "data": {"id": "r", "status": "succeeded"}}}
    fault.script({"status": 404, "body": ""}, response)
    await make("app-x", fault.url).run_workflow({"link": "https://example.org/a.png"})
    assert fault.bodies()[-1]["inputs"] == {"link": "https://example.org/a.png"}


async def test_files_text_stays_text(make: Maker, faulty_dify: Fault) -> None:
    mapping = {"type": "image", "transfer_method": "remote_url", "url": "https://example.org/a"}
    inputs = {"text": "https://example.org/a.png", "obj": {"a": "https://example.org"}, "file": mapping}
    body, _ = await _send(make, faulty_dify, inputs)
    assert body["inputs"] == inputs


async def test_files_uploaded_as_the_same_user(make: Maker, faulty_dify: Fault) -> None:
    await _send(make, faulty_dify, {"file": PNG}, user="u-7")
    upload = next(request for request in faulty_dify.requests if request["path"] == "/v1/files/upload")
    assert 'name="user"\r\n\r\nu-7' in upload["body"]


async def test_files_upload_is_retried_from_its_start(make: Maker, faulty_dify: Fault) -> None:
    content = io.BytesIO(b"skipped, hello")
    content.seek(9)
    for file in (content, _NoWayBack(b"hello")):
        faulty_dify.script({"reset": True}, {"status": 503, "body": ""}, {"pass": True})
        assert (await make(KEY, faulty_dify.url).upload_file(file)).size == 5


async def test_files_that_cannot_be_read(make: Maker, dify: str, tmp_path: pathlib.Path) -> None:
    client = make(KEY, dify)
    with pytest.raises(UsageError):
        await client.run_workflow({"file": tmp_path / "nothing.png"})
    (tmp_path / "a.txt").write_text("x")
    with (tmp_path / "a.txt").open() as file, pytest.raises(UsageError, match="binary mode"):
        await client.upload_file(file)
    with pytest.raises(HeadraceError):
        await make("app-nope", dify).upload_file(b"x")
