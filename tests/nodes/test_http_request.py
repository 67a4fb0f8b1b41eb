"""The http-request node, over real connections: what it sends, shows, answers and refuses."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from pydantic import ValidationError

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import FileStore
from headrace.adapters.http import HttpClient
from headrace.errors import NodeError
from headrace.kernel.graph import NodeSpec, Retry
from headrace.kernel.variables import Variables
from headrace.node import Context, Result
from headrace.nodes._http_response import ResponseContent
from headrace.nodes.http_request import HttpRequestConfig, HttpRequestNode
from headrace.ports.services import HttpResponse, Limits
from headrace.values import File
from tests.files.catalog import FileCatalog
from tests.http.servers import echo, parsed, serve
from tests.resources import only

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[FileStore]:
    http = HttpClient(["127.0.0.1"])
    yield FileStore(FileBlobStore(tmp_path), FileCatalog(), b"secret", http, "http://files.example")
    await http.aclose()


@pytest.fixture
async def run(files: FileStore) -> AsyncIterator[Run]:
    """Runs the node with a config, and what `{{#start.NAME#}}` is."""
    http = HttpClient(["127.0.0.1"])
    resources = only(http=http, files=files)
    ids = (f"00000000-0000-0000-0000-{number:012}" for number in itertools.count())

    async def call(config: Mapping[str, Any], spec: NodeSpec | None = None, **start: Any) -> Result:
        limits = start.pop("limits", Limits())
        node = HttpRequestNode(HttpRequestConfig.model_validate(config))
        result = await node.run(
            Context(
                run="run",
                app="app",
                user="user",
                spec=spec or NodeSpec("h", "http-request"),
                variables=Variables({"start": start}),
                inputs={},
                resources=resources,
                limits=limits,
                emit=lambda name, text: None,
                key="run/h/1",
                new_id=lambda: next(ids),
            )
        )
        assert isinstance(result, Result)
        return result

    yield call
    await http.aclose()


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """Serves /echo, /status/CODE and /answer, which says what its query tells it to."""

    async def status(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]), text=f"status {request.match_info['code']}\n")

    async def answer(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.query.items() if name != "hex"}
        return web.Response(body=bytes.fromhex(request.query.get("hex", "")), headers=headers)

    async with serve({"/echo": echo, "/status/{code}": status, "/answer": answer}) as url:
        yield url


async def failure(running: Awaitable[Result]) -> NodeError:
    with pytest.raises(NodeError) as caught:
        await running
    return caught.value


def body(kind: str, *items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "data": [{"id": str(number), "type": "text", **item} for number, item in enumerate(items)]}


# ------------------------------------------------------------------------------------------------- what is sent


async def test_as_recorded_get(run: Run, base: str):
    config = {
        "authorization": {"config": None, "type": "no-auth"},
        "body": {"data": [], "type": "none"},
        "headers": "X-Test:{{#start.query#}}",
        "method": "get",
        "params": "q:{{#start.query#}}\nempty:",
        "timeout": {"connect": 10, "max_connect_timeout": 0, "read": 60, "write": 20},
        "url": f"{base}/echo?a=1",
        "variables": [],
    }
    result = await run(config, query="a b&c")
    echoed = json.loads(result.outputs["body"])
    assert result.outputs["status_code"] == 200
    assert echoed["query"] == [["a", "1"], ["q", "a b&c"], ["empty", ""]]
    assert ["X-Test", "a b&c"] in echoed["headers"]
    assert result.outputs["headers"]["content-type"] == "application/json; charset=utf-8"
    assert set(result.outputs["headers"]) == {"content-type", "content-length", "date", "server"}
    assert result.outputs["files"] == []
    assert result.process == {
        "request": f"GET /echo?q=a+b%26c&empty= HTTP/1.1\r\nHost: {base[7:]}\r\nX-Test: a b&c\r\n\r\n"
    }
    assert result.inputs == {}


async def test_as_recorded_post_json(run: Run, base: str):
    config = {
        "authorization": {"config": {"api_key": "secret-token", "header": "", "type": "bearer"}, "type": "api-key"},
        "body": body("json", {"key": "", "value": '{"q": "{{#start.query#}}", "n": 1}'}),
        "method": "post",
        "url": f"{base}/echo",
    }
    result = await run(config, query="a b&c")
    echoed = parsed(result.outputs["body"].encode())
    assert echoed["body"] == '{"q": "a b&c", "n": 1}'
    assert cast("dict[str, str]", echoed["headers"])["authorization"] == "Bearer secret-token"
    assert cast("dict[str, str]", echoed["headers"])["content-type"] == "application/json"
    assert result.process["request"] == (
        f"POST /echo HTTP/1.1\r\nHost: {base[7:]}\r\nAuthorization: *******************\r\n"
        'Content-Type: application/json\r\nContent-Length: 22\r\n\r\n{"q": "a b&c", "n": 1}'
    )


@pytest.mark.parametrize("method", ["get", "POST", "Put", "patch", "DELETE", "options"])
async def test_methods_in_any_case(run: Run, base: str, method: str):
    result = await run({"method": method, "url": f"{base}/echo"})
    assert parsed(result.outputs["body"].encode())["method"] == method.upper()
    assert result.process["request"].startswith(f"{method.upper()} /echo HTTP/1.1\r\n")


async def test_head_has_headers_only(run: Run, base: str):
    result = await run({"method": "head", "url": f"{base}/echo"})
    assert (result.outputs["status_code"], result.outputs["body"]) == (200, "")


async def sent(running: Awaitable[Result]) -> tuple[dict[str, str], str]:
    """(headers, body) as the server heard them."""
    echoed = parsed((await running).outputs["body"].encode())
    return cast("dict[str, str]", echoed["headers"]), cast("str", echoed["body"])


@pytest.mark.parametrize(
    ("config", "header", "value"),
    [
        ({"type": "bearer", "api_key": "{{#start.key#}}"}, "authorization", "Bearer k1"),
        ({"type": "basic", "api_key": "user:pass"}, "authorization", "Basic dXNlcjpwYXNz"),
        ({"type": "basic", "api_key": "dXNlcjpwYXNz"}, "authorization", "Basic dXNlcjpwYXNz"),
        ({"type": "custom", "api_key": "{{#start.key#}}", "header": "X-Key"}, "x-key", "k1"),
        ({"type": "custom", "api_key": "k2", "header": ""}, "authorization", "k2"),
        ({"type": "bearer", "api_key": "k3", "header": "X-Token"}, "x-token", "Bearer k3"),
    ],
)
async def test_authorization(run: Run, base: str, config: dict[str, str], header: str, value: str):
    node = {"url": f"{base}/echo", "authorization": {"type": "api-key", "config": config}, "headers": "x-KEY: other"}
    headers, _ = await sent(run(node, key="k1"))
    assert headers[header] == value
    echoed = (await run(node, key="k1")).process["request"]
    assert value not in echoed
    assert f": {'*' * len(value)}\r\n" in echoed


@pytest.mark.parametrize("config", [None, {"type": "bearer", "api_key": ""}, {"type": "custom", "api_key": " "}])
async def test_authorization_without_a_key(run: Run, base: str, config: object):
    error = await failure(run({"url": base, "authorization": {"type": "api-key", "config": config}}))
    assert error.kind == "AuthorizationConfigError"


async def test_headers_come_from_lines(run: Run, base: str):
    lines = "A: 1\n\n  B :2:3 \nC\n{{#start.more#}}"
    headers, _ = await sent(run({"url": f"{base}/echo", "headers": lines}, more="D: 4\nE: 漢"))
    assert [headers[name] for name in "abcde"] == ["1", "2:3", "", "4", "漢"]


async def test_a_bad_header_is_a_failure_that_shows_the_request(run: Run, base: str):
    error = await failure(run({"url": base, "headers": "a b: 1"}))
    assert (error.kind, "'a b'" in str(error)) == ("HttpRequestNodeError", True)
    assert "a b: 1" in error.process["request"]


async def test_params_replace_those_of_the_url(run: Run, base: str):
    config = {"url": f"{base}/echo?a=1&b=2#top", "params": "a: x\na: {{#start.y#}}\n: z\nc"}
    echoed = json.loads((await run(config, y="1&2=ä\n")).outputs["body"])
    assert echoed["query"] == [["b", "2"], ["a", "x"], ["a", "1&2=ä\n"], ["c", ""]]


async def test_raw_text(run: Run, base: str):
    config = {"method": "post", "url": f"{base}/echo", "body": body("raw-text", {"value": "Hi {{#start.who#}} 漢"})}
    headers, text = await sent(run(config, who="you"))
    assert (headers["content-type"], text) == ("text/plain", "Hi you 漢")


async def test_the_workflows_own_content_type_is_kept(run: Run, base: str):
    config = {"method": "post", "url": f"{base}/echo", "body": body("raw-text", {"value": "<a/>"})}
    headers, _ = await sent(run({**config, "headers": "content-type: application/xml"}))
    assert headers["content-type"] == "application/xml"


async def test_url_encoded(run: Run, base: str):
    items = {"key": "a", "value": "{{#start.x#}}"}, {"key": "ä", "value": ""}
    config = {"method": "post", "url": f"{base}/echo", "body": body("x-www-form-urlencoded", *items)}
    headers, text = await sent(run(config, x="1 & 2"))
    assert (headers["content-type"], text) == ("application/x-www-form-urlencoded", "a=1+%26+2&%C3%A4=")


@pytest.mark.parametrize(
    ("template", "value", "arrives"),
    [
        ('{"a": {{#start.x#}}}', [{"b": "it's", "c": None}], {"a": [{"b": "it's", "c": None}]}),
        ('{"a": {{#start.x#}}}', {"b": True}, {"a": {"b": True}}),
        ('{"a": "{{#start.x#}}"}', "two\nlines", {"a": "two\nlines"}),
        ('{"a": "{{#start.x#}}"}', 'he said "no", twice', {"a": 'he said "no", twice'}),
        ('{"a": "{{#start.x#}}",}', "漢", {"a": "漢"}),
        ('{"a": {{#start.x#}}, "b": 1}', "Yes, it is:\nso.", {"a": "Yes, it is:\nso.", "b": 1}),
        ('{"a": {{#start.x#}}}', "", {"a": ""}),
        ("[1, 2.5, null, true]", "", [1, 2.5, None, True]),
        ("{{#start.x#}}", '{"k": 1}', {"k": 1}),
        ("[]", "", []),
        ("null", "", None),
        ("", "", ""),
    ],
)
async def test_json_with_values_put_in(run: Run, base: str, template: str, value: Any, arrives: Any):
    config = {"method": "post", "url": f"{base}/echo", "body": body("json", {"value": template})}
    _, text = await sent(run(config, x=value))
    assert json.loads(text) == arrives


@pytest.mark.parametrize("template", ["hello", "{" * 5000, "[" * 100_000])
async def test_what_cannot_be_meant_as_json_is_said(run: Run, base: str, template: str):
    config = {"method": "post", "url": f"{base}/echo", "body": body("json", {"value": template})}
    error = await failure(run(config))
    assert error.kind == "RequestBodyError"
    assert str(error).startswith(f"Failed to parse JSON: {template[:500]}")
    assert len(str(error)) < 700


@pytest.mark.parametrize("kind", ["json", "raw-text", "binary"])
async def test_a_body_of_one_item_has_one_item(run: Run, base: str, kind: str):
    error = await failure(run({"method": "post", "url": base, "body": {"type": kind, "data": []}}))
    assert (error.kind, kind in str(error)) == ("RequestBodyError", True)


@pytest.mark.parametrize(
    ("kind", "data", "arrives"),
    [
        ("json", '{"a": "{{#start.x#}}"}', '{"a": "1"}'),
        ("raw-text", "x={{#start.x#}}", "x=1"),
        ("x-www-form-urlencoded", "a:{{#start.x#}}\nb: c:d", "a=1&b=c%3Ad"),
        ("none", "", ""),
        ("none", None, ""),
    ],
)
async def test_bodies_of_old_files(run: Run, base: str, kind: str, data: str | None, arrives: str):
    config = {"method": "post", "url": f"{base}/echo", "body": {"type": kind, "data": data}}
    assert (await sent(run(config, x=1)))[1] == arrives


# -------------------------------------------------------------------------------------------------- files in bodies


async def stored(files: FileStore, data: bytes, name: str, mime_type: str) -> File:
    return await files.save(data, filename=name, mime_type=mime_type, transfer_method="local_file")


@pytest.fixture
async def form() -> AsyncIterator[str]:
    """Answers with the parts of a form: [name, file name, type, text]."""

    async def handle(request: web.Request) -> web.Response:
        fields = await request.post()
        return web.json_response(
            [
                [name, item.filename, item.content_type, item.file.read().decode()]
                if isinstance(item, web.FileField)
                else [name, None, None, item]
                for name, item in fields.items()
            ]
        )

    async with serve({"/form": handle}) as url:
        yield f"{url}/form"


async def test_form_data_with_files(run: Run, form: str, files: FileStore):
    one, two = (
        await stored(files, b"one", "1.txt", "text/plain"),
        await stored(files, b"two", "zwölf.md", "text/markdown"),
    )
    items = (
        {"key": "note", "value": "for {{#start.who#}}"},
        {"key": "doc", "type": "file", "file": ["start", "one"]},
        {"key": "all", "type": "file", "file": ["start", "all"]},
        {"key": "none", "type": "file", "file": ["start", "nothing"]},
    )
    config = {"method": "post", "url": form, "headers": "Content-Type: wrong", "body": body("form-data", *items)}
    result = await run(config, who="you", one=one, all=[one, two])
    assert json.loads(result.outputs["body"]) == [
        ["note", None, None, "for you"],
        ["doc", "1.txt", "text/plain", "one"],
        ["all", "1.txt", "text/plain", "one"],
        ["all", "zwölf.md", "text/markdown", "two"],
    ]
    echoed = result.process["request"]
    assert "Content-Type: multipart/form-data; boundary=----WebKitFormBoundary" in echoed
    assert "<file_content_binary: '1.txt', type='text/plain', size=3 bytes>" in echoed
    assert "Content-Type: wrong" not in echoed


async def test_form_data_without_files_is_multipart_all_the_same(run: Run, form: str):
    config = {"method": "post", "url": form, "body": body("form-data", {"key": "a", "value": "1"})}
    assert json.loads((await run(config)).outputs["body"]) == [["a", None, None, "1"]]
    old = {"method": "post", "url": form, "body": {"type": "form-data", "data": "a:1\nb:2"}}
    assert json.loads((await run(old)).outputs["body"]) == [["a", None, None, "1"], ["b", None, None, "2"]]


async def test_an_empty_form_is_multipart_too(run: Run, base: str):
    headers, text = await sent(
        run({"method": "post", "url": f"{base}/echo", "body": {"type": "form-data", "data": []}})
    )
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert "__multipart_placeholder__" in text


async def test_a_binary_body(run: Run, base: str, files: FileStore):
    config = {"method": "put", "url": f"{base}/echo", "body": body("binary", {"type": "file", "file": ["start", "f"]})}
    result = await run(config, f=await stored(files, b"bytes", "f.bin", "application/x"))
    echoed = parsed(result.outputs["body"].encode())
    assert echoed["body"] == "bytes"
    assert "content-type" not in cast("dict[str, str]", echoed["headers"])
    assert result.process["request"].endswith("\r\n\r\n<binary_content: size=5 bytes>")


@pytest.mark.parametrize("value", ["text", None, []])
async def test_a_binary_body_of_what_is_no_file(run: Run, base: str, value: object):
    config = {"method": "put", "url": base, "body": body("binary", {"type": "file", "file": ["start", "f"]})}
    error = await failure(run(config, f=value))
    assert (error.kind, "start" in str(error)) == ("FileFetchError", True)


async def test_a_file_that_is_gone(run: Run, base: str):
    config = {"method": "put", "url": base, "body": body("binary", {"type": "file", "file": ["start", "f"]})}
    gone = File("document", "local_file", "x.txt", related_id="00000000-0000-4000-8000-000000000000")
    assert (await failure(run(config, f=gone))).kind == "FileFetchError"


# ---------------------------------------------------------------------------------------------- what is answered


async def test_a_picture_becomes_a_file(run: Run, base: str, files: FileStore):
    result = await run({"url": f"{base}/answer", "params": f"hex:{PNG.hex()}\nContent-Type:image/png"})
    file = result.outputs["files"][0]
    assert result.outputs["body"] == ""
    assert (file.type, file.transfer_method, file.extension, file.mime_type, file.size) == (
        ("image", "tool_file", ".png", "image/png", 70)
    )
    assert len(file.filename) == 36
    assert file.url.startswith(f"http://files.example/files/tools/{file.related_id}.png?timestamp=")
    assert await files.read(file) == PNG
    stored, _ = await files.open(file.related_id)
    assert (stored.app, stored.owner) == ("app", "user")


@pytest.mark.parametrize(
    ("headers", "content", "is_file"),
    [
        ({"Content-Type": "text/plain"}, b"x", False),
        ({"Content-Type": "text/csv"}, b"a,b", False),
        ({"Content-Type": "application/json"}, b"{}", False),
        ({"Content-Type": "application/problem+json"}, b"{}", False),
        ({"Content-Type": "application/xhtml+xml"}, b"<a/>", False),
        ({"Content-Type": "application/octet-stream"}, b'{"a": 1}', False),
        ({"Content-Type": "application/octet-stream"}, ("{" + "漢" * 500).encode(), False),
        ({"Content-Type": "application/octet-stream"}, b"\x00\xff", True),
        ({"Content-Type": "application/pdf"}, b"%PDF-1.4\n%\xe2\xe3", True),
        ({"Content-Type": "application/x-unknown"}, b"plain", False),
        ({"Content-Type": "application/x-unknown"}, b"\xff\xfe\x00", True),
        ({"Content-Type": "image/svg+xml"}, b"<svg/>", True),
        ({"Content-Type": "audio/mpeg"}, b"ID3", True),
        ({"Content-Type": "video/mp4"}, b"", True),
        ({"Content-Type": "text/plain", "Content-Disposition": "attachment"}, b"x", True),
        ({"Content-Type": "text/plain", "Content-Disposition": 'inline; filename="a.txt"'}, b"x", True),
        ({"Content-Type": "text/plain", "Content-Disposition": "inline"}, b"x", False),
    ],
)
async def test_which_answers_are_files(run: Run, base: str, headers: dict[str, str], content: bytes, is_file: bool):
    params = "\n".join(f"{name}:{value}" for name, value in headers.items())
    result = await run({"url": f"{base}/answer", "params": f"hex:{content.hex()}\n{params}"})
    assert bool(result.outputs["files"]) is is_file
    assert (result.outputs["body"] == "") is is_file


async def test_a_files_name_tells_its_type(run: Run, base: str):
    params = 'Content-Type:application/octet-stream\nContent-Disposition:attachment; filename="r.pdf"\nhex:00'
    file = (await run({"url": f"{base}/answer", "params": params})).outputs["files"][0]
    assert (file.mime_type, file.extension, file.type) == ("application/pdf", ".pdf", "document")


@pytest.mark.parametrize(
    ("content_type", "content", "text"),
    [
        ("text/plain", "漢字".encode(), "漢字"),
        ("text/plain; charset=gbk", "汉字".encode("gbk"), "汉字"),
        ("text/plain", "宜蘭礁溪五日遊，溫泉之旅".encode("gb18030"), "宜蘭礁溪五日遊，溫泉之旅"),
        ("text/plain; charset=iso-8859-1", "café".encode("latin-1"), "café"),
        ("text/plain; charset=iso-8859-1", "café".encode(), "café"),
        ("text/plain; charset=shift_jis", "日本".encode("shift_jis"), "日本"),
        ("text/plain; charset=utf-16-le", "ab".encode("utf-16-le"), "ab"),
        ("text/plain", "\ufeffab".encode(), "ab"),
        ("text/plain", "ab".encode("utf-16"), "ab"),
        ("text/html", '<meta charset="euc-kr">한국'.encode("euc-kr"), '<meta charset="euc-kr">한국'),
        ("text/plain; charset=nonsense", b"ab", "ab"),
        ("text/plain; charset=hex", b"ab\xff", "abÿ"),
        ("text/plain; charset=idna", b"ab", "ab"),
        ("text/plain", b"ok\xff", "okÿ"),
    ],
)
async def test_text_in_any_encoding(run: Run, base: str, content_type: str, content: bytes, text: str):
    params = f"hex:{content.hex()}\nContent-Type:{content_type}"
    assert (await run({"url": f"{base}/answer", "params": params})).outputs["body"] == text


@pytest.mark.parametrize(("content", "text"), [(b"", ""), (b"no type", "no type"), (b"\xff", "ÿ")])
def test_an_answer_without_a_type_is_text(content: bytes, text: str):
    answer = ResponseContent(HttpResponse(200, [], content, "http://x/"))
    assert (answer.is_file, answer.text) == (False, text)


async def test_an_answer_larger_than_its_kind_may_be(run: Run, base: str):
    limits = Limits(http_max_text=1500, http_max_binary=2000)
    params = "Content-Type:text/plain\nhex:" + "61" * 1600
    error = await failure(run({"url": f"{base}/answer", "params": params}, limits=limits))
    assert error.kind == "ResponseSizeError"
    assert str(error) == "Text size is too large, max size is 0.00 MB, but current size is 1.56 KB."
    params = "Content-Type:image/png\nhex:" + "61" * 1600
    assert (await run({"url": f"{base}/answer", "params": params}, limits=limits)).outputs["files"]
    params = "Content-Type:image/png\nhex:" + "61" * 2100
    error = await failure(run({"url": f"{base}/answer", "params": params}, limits=limits))
    assert error.kind == "ResponseSizeError"
    assert error.process["request"].startswith("GET /answer?")


# --------------------------------------------------------------------------------------------------- what fails


async def test_as_recorded_404_is_an_answer(run: Run, base: str):
    result = await run({"url": f"{base}/status/404"})
    assert (result.outputs["status_code"], result.outputs["body"]) == (404, "status 404\n")
    assert result.process == {"request": f"GET /status/404 HTTP/1.1\r\nHost: {base[7:]}\r\n\r\n"}


@pytest.mark.parametrize(
    "spec", [{"strategy": "fail-branch"}, {"strategy": "default-value"}, {"retry": Retry(1, 1)}], ids=str
)
async def test_404_is_a_failure_to_who_prepared_for_failures(run: Run, base: str, spec: dict[str, Any]):
    node = dataclasses.replace(NodeSpec("h", "http-request"), **spec)
    error = await failure(run({"url": f"{base}/status/404"}, node))
    assert (error.kind, str(error)) == ("HTTPResponseCodeError", "Request failed with status code 404")
    assert (error.outputs["status_code"], error.outputs["body"]) == (404, "status 404\n")
    assert "GET /status/404" in error.process["request"]
    assert (await run({"url": f"{base}/status/204"}, node)).outputs["status_code"] == 204


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
async def test_a_server_in_trouble_is_a_failure_to_everybody(run: Run, base: str, code: int):
    error = await failure(run({"url": f"{base}/status/{code}"}))
    assert error.kind == "HttpRequestNodeError"
    assert f"{base}/status/{code}" in str(error)
    assert f"status code {code}" in str(error)


async def test_as_recorded_nobody_there(run: Run, base: str, unused_port: int):
    error = await failure(run({"url": f"http://127.0.0.1:{unused_port}/none"}))
    assert (error.kind, str(error)) == ("HttpRequestNodeError", "[Errno 111] Connection refused")
    assert error.process == {"request": f"GET /none HTTP/1.1\r\nHost: 127.0.0.1:{unused_port}\r\n\r\n"}


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as reservation:
        reservation.bind(("127.0.0.1", 0))
        return reservation.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "url is required"),
        ("{{#start.u#}}", "url should start"),
        ("ftp://x", "url should"),
        ("http://[x", "Invalid URL"),
    ],
)
async def test_urls_that_are_none(run: Run, url: str, words: str):
    error = await failure(run({"url": url}, u="example.com"))
    assert (error.kind, words in str(error)) == ("InvalidURLError", True)


async def test_a_private_address_is_refused_and_the_request_shown(run: Run):
    error = await failure(run({"url": "http://169.254.169.254/latest"}))
    assert error.kind == "EgressRefused"
    assert "HEADRACE_EGRESS_ALLOW" in str(error)
    assert error.process["request"].startswith("GET /latest")


async def test_time_limits_are_the_nodes_but_never_above_the_installations(run: Run, base: str):
    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(10)
        return web.Response()

    async with serve({"/": never}) as slow:
        error = await failure(run({"url": f"{slow}/", "timeout": {"read": 0.05}}))
        assert "0.05 s" in str(error)
        limits = Limits(http_max_read=0.06)
        assert "0.06 s" in str(await failure(run({"url": f"{slow}/", "timeout": {"read": 60}}, limits=limits)))
        assert "0.06 s" in str(await failure(run({"url": f"{slow}/", "timeout": None}, limits=limits)))


async def test_an_idempotency_key_is_sent_where_it_is_asked_for(run: Run, base: str):
    config = {"method": "post", "url": f"{base}/echo"}
    assert "idempotency-key" not in (await sent(run(config)))[0]
    assert (await sent(run({**config, "headers": "Idempotency-Key:"})))[0]["idempotency-key"] == "run/h/1"
    assert (await sent(run({**config, "headers": "Idempotency-Key: mine"})))[0]["idempotency-key"] == "mine"


# --------------------------------------------------------------------------------------------------------- config


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"method": "GET", "url": None, "headers": None, "params": None, "body": None, "timeout": None},
        {"authorization": None, "ssl_verify": None},
        {"authorization": {"type": "no-auth", "config": {"type": "nonsense"}}},
        {"body": {"type": "json", "data": [{"key": None, "value": None, "type": None, "file": None}]}},
    ],
)
def test_configs_that_load(config: dict[str, Any]):
    assert HttpRequestConfig.model_validate(config).ssl_verify is True


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"method": "TRACE"}, "method"),
        ({"method": 3}, "method"),
        ({"url": ["x"]}, "url"),
        ({"authorization": {"type": "oauth"}}, "authorization.type"),
        ({"body": {"type": "xml"}}, "body.type"),
        ({"timeout": {"read": "long"}}, "timeout.read"),
    ],
)
def test_configs_that_do_not_load_name_the_field(config: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as caught:
        HttpRequestConfig.model_validate(config)
    assert ".".join(str(part) for part in caught.value.errors()[0]["loc"]) == field
