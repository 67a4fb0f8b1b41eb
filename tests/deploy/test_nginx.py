"""The package, installed from its wheel, behind a real nginx: deploy/nginx/headrace.conf, TLS and the prefix /api.

Every example of the README is run as it stands, only with this server's address: what a shell is given, and Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from tests import logged
from tests.cli.flows import code, environ, field, flow
from tests.deploy.image import ROOT, Image
from tests.deploy.worlds import Authority, Gate, gate

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
LOCAL = "http://127.0.0.1:8040"  # as the README has it
README = (ROOT / "README.md").read_text("utf-8")
BLOCKING, STREAMING = '"response_mode": "blocking"', '"response_mode": "streaming"'
GONE_ON, STOPPED, QUEUED, POLLED = "Last-Event-ID", "/stop", "/api/v1/workflows/$WORKFLOW/run", "?wait=30"
COMMANDS = ("lint", "show", "run", "generate", "batch", "diff")
# tests/test_example.py runs `make demo`; `image` has Headrace installed, and `site` serves the flow.
ELSEWHERE = (
    "make demo",
    "python3 -m venv .venv && . .venv/bin/activate",
    'pip install ".[documents]" ./sdks/python',
    "headrace serve flow.yml",
    "headrace serve flows --watch",
)
pytestmark = pytest.mark.asyncio(loop_scope="module")
if NGINX is None:
    pytestmark = [
        pytestmark,
        pytest.mark.skip("NOT TESTED: behind nginx, because there is none (apt install nginx-light)"),
    ]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port that no other process is given before nginx listens to it, with `reuseport`."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@dataclass
class Site:
    """`url` is what callers use; `inside` is where Headrace itself listens; `folder` is where the files are. `app` is
    the README's, `shop` one that answers with the file it is given."""

    url: str
    inside: str
    folder: Path
    app: dict[str, str]
    shop: dict[str, str]
    env: dict[str, str]
    peer: Gate
    session: aiohttp.ClientSession

    async def shell(self, command: str, **variables: str) -> tuple[int, str]:
        """(exit code, what it says) of an example."""
        command = command.replace(LOCAL, self.url)
        env = {**self.env, "KEY": self.app["key"], "WORKFLOW": self.app["app_id"], **variables}
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            command,
            cwd=self.folder,
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(300):
            out, received = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode() or received.decode()

    async def python(self, program: str, end: str = "") -> str:
        """What an example in Python prints, with `end` after it."""
        constants = f"KEY, APP_NAME = {self.app['key']!r}, {self.app['name']!r}\n"
        (self.folder / "example.py").write_text(f"{constants}{program.replace(LOCAL, self.url)}\n{end}", "utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "example.py",
            cwd=self.folder,
            env=environ(SSL_CERT_FILE=self.env["CURL_CA_BUNDLE"]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(300):
            out, received = await process.communicate()
        assert (process.returncode, received) == (0, b"")
        return out.decode()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, image: Image, port: int) -> AsyncGenerator[Site]:
    folder = tmp_path_factory.mktemp("site")
    authority = Authority(folder)
    certificate, key = authority.issue("site")
    url = f"https://127.0.0.1:{port}/api"
    async with gate() as peer:
        workflow(folder / "flow.yml", peer.url)
        flow(
            folder / "shop.yml",
            variables=[field("picture", "file", allowed_file_types=["document"])],
            outputs={"picture": ("start", "picture")},
        )
        env = environ(
            PATH=f"{image.bin}:/usr/bin:/bin",
            HEADRACE_PUBLIC_URL=url,
            HEADRACE_EGRESS_ALLOW="127.0.0.1",
            HEADRACE_DATA=str(folder / "data"),
            CURL_CA_BUNDLE=str(authority.file),
        )
        env.pop("PYTHONPATH", None)
        ready = folder / "ready.json"
        command = [image.bin / "headrace", "serve", "flow.yml", "shop.yml", "--port", "0", "--ready-file", ready]
        server = start(command, folder, env)
        async with asyncio.timeout(300):
            while not ready.exists():
                assert server.poll() is None
                await asyncio.sleep(0.05)
        body = json.loads(ready.read_text())
        nginx = start_nginx(folder, port, body["url"].removeprefix("http://"), certificate, key)
        trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority.file))
        try:
            async with aiohttp.ClientSession(connector=trusting, timeout=aiohttp.ClientTimeout(60)) as session:
                await until_up(session, url, nginx, folder)
                app, shop = body["apps"]
                yield Site(url, body["url"], folder, app, shop, env, peer, session)
        finally:
            for process in (nginx, server):
                process.terminate()
                await asyncio.to_thread(process.wait, 60)
            assert logged.revealing((folder / "server.log").read_text().splitlines()) == []


def workflow(path: Path, gate: str) -> None:
    """Twelve steps and more, one of which waits for the gate."""
    ask = {
        "id": "ask",
        "type": "http-request",
        "title": "Ask",
        "method": "get",
        "url": gate,
        "headers": "",
        "params": "",
        "authorization": {"type": "no-auth"},
        "body": {"type": "none", "data": []},
    }
    rest = [{**code("def main():\n    return {'y': 'z'}\n", y="string"), "id": f"step{at}"} for at in range(5)]
    flow(path, ask, *rest, variables=[field("query", required=True)], outputs={"text": ("ask", "body")})


def start(command: Sequence[str | Path], folder: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "server.log").open("wb") as said:
        return subprocess.Popen(command, cwd=folder, env=env, stderr=said)


def start_nginx(folder: Path, port: int, inside: str, certificate: Path, key: Path) -> subprocess.Popen[bytes]:
    """nginx with our example, and the least besides that it needs."""
    example = (ROOT / "deploy" / "nginx" / "headrace.conf").read_text()
    for location, here in (
        ("server headrace:8040;", f"server {inside};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl reuseport;"),
        ("/etc/nginx/certificates/fullchain.pem", str(certificate)),
        ("/etc/nginx/certificates/privkey.pem", str(key)),
    ):
        assert example.count(location) == 1, location
        example = example.replace(location, here)
    (folder / "headrace.conf").write_text(example)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"    {kind}_temp_path {folder}/{kind};" for kind in kinds)
    # what it starts its workers as, where it may choose, could not read the test's folder
    owner = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; {owner} pid {folder}/nginx.pid; events {{}}\n"
        f"http {{\n    access_log off;\n{temporary}\n    include {folder}/headrace.conf;\n}}\n"
    )
    assert NGINX
    log = str(folder / "nginx.log")
    return subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", log])


async def until_up(session: aiohttp.ClientSession, url: str, nginx: subprocess.Popen[bytes], folder: Path) -> None:
    async with asyncio.timeout(300):
        while True:
            assert nginx.poll() is None, (folder / "nginx.log").read_text()
            try:
                async with session.get(f"{url}/readyz") as answer:
                    assert answer.status == 200
                    return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.02)


def examples() -> list[str]:
    """Each command in the README's shell blocks, and those in its sentences."""
    joined = re.sub(r"\\\n\s*", "", "\n".join(blocks("sh")))
    said = re.findall(r"`(headrace \w+ [^`]+ [^`]+)`", README)
    lines = [line.partition("  #")[0].rstrip() for line in joined.splitlines() if not line.startswith("#")]
    return [line for line in lines if line] + said


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def example(part: str) -> str:
    (match,) = [item for item in examples() if part in item]
    return match


async def test_no_example_is_left_out() -> None:
    parts = (BLOCKING, STREAMING, GONE_ON, STOPPED, QUEUED, POLLED, *(f"headrace {name} " for name in COMMANDS))
    assert [item for item in examples() if not any(part in item for part in parts)] == list(ELSEWHERE)
    assert set(re.findall(r"```(\w+)", README)) == {"sh", "python"}


async def test_the_examples_with_curl(site: Site) -> None:
    site.peer.open.set()
    code, said = await site.shell(example(BLOCKING))
    answer = json.loads(said)
    assert (code, answer["data"]["outputs"]) == (0, {"text": "through"})
    run = answer["workflow_run_id"]

    code, said = await site.shell(example(STREAMING))
    assert code == 0
    assert '"event": "workflow_finished"' in said or '"event":"workflow_finished"' in said

    code, said = await site.shell(example(GONE_ON), RUN=run)
    assert code == 0
    assert "workflow_finished" in said
    assert "workflow_started" not in said  # it went on where the client was

    command = example(QUEUED).replace("https://example.com/hook", site.peer.url)
    code, said = await site.shell(command)
    queued = json.loads(said)
    assert (code, queued["status"]) == (0, "queued")
    _, said = await site.shell(command)
    assert json.loads(said)["workflow_run_id"] == queued["workflow_run_id"]

    code, said = await site.shell(example(POLLED), RUN=queued["workflow_run_id"])
    assert (code, json.loads(said)["status"]) == (0, "succeeded")


async def test_the_examples_in_python(site: Site) -> None:
    site.peer.open.set()
    openai, sdk = blocks("python")
    said = await site.python(openai, "print(''.join(each.choices[0].delta.content or '' for each in answer))")
    assert said == "through\n"
    events = (await site.python(sdk)).split()
    assert (events[0], events[-1]) == ("workflow_started", "workflow_finished")


@pytest.mark.parametrize("path", ["", "/v1", "/api", "/api/v1"])
async def test_the_sdk_finds_the_asynchronous_api(site: Site, path: str) -> None:
    """Its address is the prefix, which is called as our own path is, with or without what the SDK knows."""
    site.peer.open.set()
    script = f'''
from headrace_client import Client
with Client(KEY, "{LOCAL}{path}") as client:
    run = client.create_workflow_run("{site.app["app_id"]}", {{"query": "hello"}})
    print(run.status, client.wait(run).status, client.base_url)
'''
    assert (await site.python(script)).split() == ["queued", "succeeded", site.url]


async def test_the_example_that_stops_a_run(site: Site) -> None:
    async with streaming(site) as stream:
        first = await first_event(stream)
        code, said = await site.shell(example(STOPPED), TASK=first["task_id"])
        assert (code, json.loads(said)) == (0, {"result": "success"})
        assert '"stopped"' in (await stream.text()).replace("'", '"')


async def test_the_examples_of_the_command_line(site: Site) -> None:
    site.peer.open.set()
    (site.folder / "in.jsonl").write_text('{"inputs": {"query": "a"}}\n{"inputs": {"query": "b"}}\n')
    text = (site.folder / "flow.yml").read_text()
    (site.folder / "old.yml").write_text(text)
    (site.folder / "new.yml").write_text(text.replace("title: Ask", "title: Fetch"))
    line = r"headrace (\w+)"
    commands = [item for item in examples() if re.match(line, item) and item not in ELSEWHERE]
    fields = {re.match(line, item)[1]: await site.shell(item) for item in commands}  # type: ignore[index]
    assert {name: code for name, (code, _) in fields.items()} == dict.fromkeys(COMMANDS, 0) | {"diff": 1}, fields
    assert "class Outputs" in (site.folder / "flow.py").read_text()
    assert json.loads(fields["run"][1])["text"] == "through"
    assert len((site.folder / "out.jsonl").read_text().splitlines()) == 2
    assert "Ask" in fields["diff"][1] or "title" in fields["diff"][1]


def streaming(site: Site) -> Any:
    """A run that waits at the gate, followed."""
    site.peer.open.clear()
    body = {"inputs": {"query": "hello"}, "response_mode": "streaming", "user": "me"}
    headers = {"Authorization": f"Bearer {site.app['key']}"}
    return site.session.post(f"{site.url}/v1/workflows/run", json=body, headers=headers)


async def first_event(stream: aiohttp.ClientResponse) -> dict[str, Any]:
    async with asyncio.timeout(300):
        while not (line := await stream.content.readline()).startswith(b"data: "):
            pass
    return json.loads(line[6:])


async def test_a_stream_is_not_held_back(site: Site) -> None:
    """Its first events arrive while the run still waits."""
    async with streaming(site) as stream:
        assert (await first_event(stream))["event"] == "workflow_started"
        assert (await first_event(stream))["event"] == "node_started"
        site.peer.open.set()
        assert "workflow_finished" in await stream.text()


async def test_links_lead_back_through_the_proxy(site: Site) -> None:
    form = aiohttp.FormData({"user": "me"})
    form.add_field("file", b"hello", filename="a.txt", content_type="text/plain")
    headers = {"Authorization": f"Bearer {site.app['key']}"}
    async with site.session.post(f"{site.url}/v1/files/upload", data=form, headers=headers) as answer:
        link = (await answer.json())["source_url"]
    assert link.startswith(f"{site.url}/files/")
    async with site.session.get(link) as answer:
        assert await answer.read() == b"hello"
    async with site.session.get(f"{site.url}/openapi.json") as answer:
        assert (await answer.json())["servers"] == [{"url": site.url}]
    async with site.session.get(f"{site.url}/docs") as answer:
        assert 'href="openapi.json"' in await answer.text()
        assert answer.headers["Strict-Transport-Security"]


async def test_a_callbacks_links_lead_back_through_the_proxy(site: Site) -> None:
    site.peer.open.set()
    headers = {"Authorization": f"Bearer {site.shop['key']}"}
    form = aiohttp.FormData({"user": "me"})
    form.add_field("file", b"hello", filename="a.txt", content_type="text/plain")
    async with site.session.post(f"{site.url}/v1/files/upload", data=form, headers=headers) as answer:
        file = (await answer.json())["id"]
    picture = {"type": "document", "transfer_method": "local_file", "upload_file_id": file}
    body = {"inputs": {"picture": picture}, "user": "me", "callback_url": site.peer.url}
    path = f"{site.url}/api/v1/workflows/{site.shop['app_id']}/run"
    async with site.session.post(path, json=body, headers=headers) as answer:
        assert answer.status == 202, await answer.text()
        run = (await answer.json())["workflow_run_id"]
    received = await site.peer.body_where(lambda body: run.encode() in body)
    link = json.loads(received)["data"]["outputs"]["picture"]["url"]
    assert link.startswith(f"{site.url}/files/")
    async with site.session.get(link) as answer:
        assert await answer.read() == b"hello"


@pytest.mark.parametrize("path", ["/metrics", "/api/metrics", "//metrics", "/metrics/", "/%6Detrics", "/x/../metrics"])
async def test_metrics_are_not_for_everybody(site: Site, path: str) -> None:
    """Nor in any other way of writing the path."""
    async with site.session.get(URL(f"{site.url}{path}", encoded=True)) as answer:
        assert answer.status == 404
        assert "headrace_info" not in await answer.text()


async def test_a_caller_cannot_pretend_to_be_a_proxy(site: Site) -> None:
    """What it says itself of where it comes from is replaced on the way."""
    forged = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    async with site.session.get(f"{site.url}/v1/info", headers=forged) as answer:
        assert answer.status == 401
    async with site.session.get(f"{site.url}/openapi.json", headers=forged) as answer:
        assert "evil" not in await answer.text()
