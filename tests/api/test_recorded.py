"""Every exchange recorded from a real Dify 1.12 that concerns these endpoints, sent again.

Where the answer differs on purpose, `BETTER` says what it is here (see docs/compatibility.md).
"""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.api.serving import DATA, Client, Gate, Scripted, Serving, serving, workflow

REQUESTS = DATA / "requests"
ELSEWHERE = {
    "rate_limit_after": "test_runs.py",
    "rate_limit_streaming": "test_runs.py",
}
BETTER = {  # (status, code) where Dify's own is worse
    "chat_unknown_conversation": (404, "not_found"),  # no guesses of what URL was meant
    "detail_not_uuid": (404, "not_found"),
    "detail_unknown": (404, "not_found"),
    "input_number_list": (400, "invalid_param"),
    "json_array": (400, "bad_request"),
    "json_null": (400, "bad_request"),
    "path_unknown": (404, "not_found"),
}
OWN_WORDS = re.compile(r"validation error for|invalid literal")  # Dify tells its library's own message here
FREE = {
    "id",
    "task_id",
    "workflow_run_id",
    "workflow_id",
    "created_at",
    "finished_at",
    "elapsed_time",
    "created_by",
    "created_by_end_user",
    "source_url",
    "tenant_id",
    "url",
    "remote_url",
    "related_id",
    "inputs",
    "total",
    "version",
    "author_name",
    "name",
    "title",
    "description",
    "has_more",
    "file_upload",  # the recorded app had other settings than its file here
}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
CASES = sorted(case.name for case in REQUESTS.iterdir() if case.name not in ELSEWHERE)


@dataclass
class World:
    server: Serving
    clients: dict[str, Client]
    ids: dict[str, str]  # recorded id -> the one here


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with serving(tmp_path_factory.mktemp("recorded")) as server:
        clients = {file.stem: await server.add(file.name, file.read_text()) for file in (DATA / "apps").iterdir()}
        clients["fail_code"] = await server.add("fail.yml", workflow(["boom"]))
        echo, all_inputs = clients["simple_passthrough"], clients["inputs_all"]
        for _ in range(3):
            _, ran = await echo.run({"query": "x"})
        Scripted.scripts["boom"] = Gate([])
        form = aioform("notes.txt", b"hello file\n", "text/plain", "abc-123")
        _, uploaded = await all_inputs.call("POST", "/v1/files/upload", **form)
        ids = {
            "7c6a4e99-34f9-4385-bebb-6ce0e6eb81bf": echo.release.version.id,
            "da4d30f0-6cca-4815-95f9-d382d67a51b2": ran["workflow_run_id"],
            "7524bb2c-a5d2-471f-939d-f345505b16c7": uploaded["id"],
        }
        yield World(server, clients, ids)


def aioform(name: str, content: bytes, mime: str, user: str | None = "u") -> dict[str, Any]:
    """A multipart body as `Client.call` takes it."""
    part = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {mime}'
    fields = [] if user is None else [b'Content-Disposition: form-data; name="user"\r\n\r\n' + user.encode()]
    parts = [*fields, part.encode() + b"\r\n\r\n" + content]
    body = b"".join(b"--cut\r\n" + item + b"\r\n" for item in parts) + b"--cut--\r\n"
    return {"data": io.BytesIO(body), "headers": {"Content-Type": "multipart/form-data; boundary=cut"}}


def parse(case: Path) -> tuple[str, str, dict[str, str], bytes]:
    """(method, path, headers, body) as recorded."""
    head, _, body = (case / "request.txt").read_bytes().partition(b"\n\n")
    first, *lines = head.decode().splitlines()
    method, path = first.split(" ", 1)
    headers = dict(line.split(": ", 1) for line in lines)
    return method, path, headers, body if headers.get("Content-Type", "").startswith("multipart") else body.strip()


def expected(case: Path) -> tuple[int, Any]:
    head, _, body = (case / "response.txt").read_text().partition("\n\n")
    return int(head.split()[1]), json.loads(body) if body.strip().startswith("{") else None


def differs(want: Any, got: Any, path: str = "") -> str | None:
    """Where a recorded value is not met; None if it is met everywhere."""
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return f"{path}: {got!r}"
        for key, value in want.items():
            if key not in got:
                return f"{path}.{key} is missing"
            if key not in FREE and (result := differs(value, got[key], f"{path}.{key}")):
                return result
        return None
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return f"{path}: {got!r}"
        result = (differs(w, g, f"{path}[{at}]") for at, (w, g) in enumerate(zip(want, got, strict=True)))
        return next((item for item in result if item), None)
    return None if want == got and type(want) is type(got) else f"{path}: want {want!r}, got {got!r}"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", CASES)
async def test_an_exchange(world: World, name: str) -> None:
    case = REQUESTS / name
    method, path, headers, body = parse(case)
    path = UUID.sub(lambda result: world.ids.get(result[0], result[0]), path)
    body = UUID.sub(lambda result: world.ids.get(result[0], result[0]), body.decode("latin-1")).encode("latin-1")
    key = re.search(r"\{key of (\w+)\}", headers.get("Authorization", ""))
    if key:
        known = world.clients[key[1]].key
        headers["Authorization"] = headers["Authorization"].replace(key[0], known)
    if name == "logs_failed_run":
        Scripted.scripts.update(boom=_boom)
        for _ in range(4):
            await world.clients["fail_code"].run()
    url = world.server.url + path
    async with world.server.session.request(method, url, headers=headers, data=body or None) as answer:
        status, got = answer.status, json.loads(await answer.read())
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["X-Version"]
    wanted, recorded = expected(case)
    if name in BETTER:
        assert (status, got["code"]) == BETTER[name]
        assert got["status"] == status
        return
    assert status == wanted, got
    if status >= 400:
        assert set(got) == {"code", "message", "status"}
        assert (got["code"], got["status"]) == (recorded["code"], status)
        if not OWN_WORDS.search(recorded["message"]):
            message = UUID.sub(lambda result: world.ids.get(result[0], result[0]), recorded["message"])
            assert got["message"] == message
        if status == 401:
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'
        return
    if name == "logs_failed_run":
        recorded["data"][0]["workflow_run"]["error"] = "it went boom"
    if "user_input_form" in recorded and key and key[1] == "simple_passthrough":
        recorded["user_input_form"][0]["text-input"]["max_length"] = 48  # the recorded app had other settings, too
    if name == "upload_png":
        recorded["size"] = got["size"]  # its bytes were recorded as text
    assert differs(recorded, got) is None


async def _boom(_: Any) -> Any:
    from headrace.errors import NodeError

    await asyncio.sleep(0)
    raise NodeError("it went boom")
