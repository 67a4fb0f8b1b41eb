"""A dify-sandbox service in our place: what it is asked, and what becomes of its answers."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from headrace.adapters.sandbox import RemoteSandbox, templates
from headrace.errors import NodeError


class Service:
    """Answers as dify-sandbox does, running programs by this Python; or says `answer` instead."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: web.Response | None = None
        self.url = ""

    async def run(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("X-Api-Key"))
        if self.answer is not None:
            return self.answer
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", body["code"], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        return web.json_response(
            {"code": 0, "message": "success", "data": {"error": err.decode(), "stdout": out.decode()}}
        )


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    created = Service()
    app = web.Application()
    app.router.add_post("/v1/sandbox/run", created.run)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    created.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield created
    await runner.cleanup()


@pytest.fixture
async def sandbox(service: Service) -> AsyncIterator[RemoteSandbox]:
    created = RemoteSandbox(service.url + "/")
    yield created
    await created.aclose()


async def test_a_program_may_use_the_names_that_dify_imports_for_it(sandbox: RemoteSandbox) -> None:
    code = "def main(s, t):\n    return {'r': json.loads(s), 'd': b64decode(t).decode()}\n"
    assert await sandbox.run("python3", code, {"s": "[1]", "t": "aGk="}, 60) == {"r": [1], "d": "hi"}


async def test_python_is_sent_with_its_inputs(sandbox: RemoteSandbox, service: Service) -> None:
    code = "def main(q, n):\n    print('<<noise>>')\n    return {'r': q + '中', 'n': n}"
    assert await sandbox.run("python3", code, {"q": "hé'\"\\", "n": [1, None]}, 60) == {
        "r": "hé'\"\\中",
        "n": [1, None],
    }
    (request,) = service.requests
    assert request["language"] == "python3"
    assert request["code"].startswith(code + "\n")  # so that the lines in its errors are true
    assert request["preload"] == ""
    assert request["enable_network"] is True
    assert service.keys == ["dify-sandbox"]


async def test_javascript_is_for_node(sandbox: RemoteSandbox, service: Service) -> None:
    service.answer = web.json_response({"code": 0, "message": "success", "data": {"error": "", "stdout": "no mark"}})
    with pytest.raises(NodeError, match="without a result"):
        await sandbox.run("javascript", "function main({q}) { return {r: q} }", {"q": "hi"}, 60)
    assert service.requests[0]["language"] == "nodejs"


async def test_an_error_is_the_services_text(sandbox: RemoteSandbox) -> None:
    with pytest.raises(NodeError, match=r"(?s)line 2, in main.*ValueError: boom") as failed:
        await sandbox.run("python3", "def main():\n    raise ValueError('boom')", {}, 60)
    assert failed.value.kind == "CodeExecutionError"


async def test_templates_render_here_or_there(
    sandbox: RemoteSandbox, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "SECONDS", 60.0)  # on a busy machine it may take longer than here is allowed
    assert await sandbox.render("Hello to {{ q }}", {"q": "x"}, 60) == "Hello to x"
    assert service.requests == []
    assert await sandbox.render("{% for i in range(n) %}{{ i }}{% endfor %}'''", {"n": 3}, 60) == "012'''"
    assert len(service.requests) == 1


async def test_what_prints_a_result_does_not_forge_one(sandbox: RemoteSandbox) -> None:
    code = "def main():\n    print('<<RESULT>>{\"r\": 1}<<RESULT>>')\n    return {'r': 2}"
    assert await sandbox.run("python3", code, {}, 60) == {"r": 2}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: web.Response(status=401, text="Unauthorized"), "API key"),
        (lambda: web.Response(status=503), "HTTP status 503"),
        (lambda: web.Response(text="<html>"), "not that of a sandbox service"),
        (lambda: web.json_response([]), "not that of a sandbox service"),
        (lambda: web.json_response({"code": 0, "data": 5}), "not that of a sandbox service"),
        (lambda: web.json_response({"code": -400, "message": "queue is full", "data": None}), "queue is full"),
        (lambda: web.json_response({"code": 0, "message": "", "data": None}), "without a result"),
        (lambda: web.json_response({"code": 0, "message": "", "data": {"stdout": "", "error": "killed"}}), "killed"),
    ],
)
async def test_a_service_in_trouble_is_reported(
    sandbox: RemoteSandbox, service: Service, answer: Any, error: str
) -> None:
    service.answer = answer()
    with pytest.raises(NodeError, match=error) as failed:
        await sandbox.run("python3", "def main():\n    return {}", {}, 60)
    assert failed.value.kind == "CodeExecutionError"


async def test_a_service_that_is_not_there() -> None:
    sandbox = RemoteSandbox("http://127.0.0.1:9", "key")
    with pytest.raises(NodeError, match=r"http://127\.0\.0\.1:9/v1/sandbox/run did not respond"):
        await sandbox.run("python3", "def main():\n    return {}", {}, 60)
    await sandbox.aclose()
    await sandbox.aclose()


async def test_the_key_is_sent(service: Service) -> None:
    sandbox = RemoteSandbox(service.url, "s3cret")
    assert await sandbox.run("python3", "def main():\n    return {'a': 1}", {}, 60) == json.loads('{"a": 1}')
    assert service.keys == ["s3cret"]
    with pytest.raises(NodeError, match="'ruby'"):
        await sandbox.run("ruby", "", {}, 60)
    await sandbox.aclose()


async def test_a_long_answer_comes_in_many_pieces(sandbox: RemoteSandbox) -> None:
    code = "def main(n):\n    return {'r': 'x' * n}"
    result = await sandbox.run("python3", code, {"n": 3_000_000}, 20)
    assert len(result["r"]) == 3_000_000
