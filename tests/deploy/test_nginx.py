"""The package, installed from its wheel, behind a real nginx: deploy/nginx/headrace.conf, TLS and the prefix /api.

Every example of the README is run as it stands, only with this server's address.
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
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.cli.flows import code, environ, field, flow
from tests.deploy.image import ROOT, Image
from tests.deploy.worlds import Authority, Gate, gate

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
LOCAL = "http://127.0.0.1:8040"  # as the README has it
pytestmark = pytest.mark.asyncio(loop_scope="module")
if NGINX is None:
    pytestmark = [
        pytestmark,
        pytest.mark.skip("NOT TESTED: behind nginx, because there is none (apt install nginx-light)"),
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@dataclass
class Site:
    """`url` is what callers use; `inside` is where Headrace itself listens; `folder` is where the files are."""

    url: str
    inside: str
    folder: Path
    app: dict[str, str]
    headrace: Path
    env: dict[str, str]
    peer: Gate
    session: aiohttp.ClientSession

    async def shell(self, command: str, **variables: str) -> tuple[int, str]:
        """(exit code, what it says) of an example."""
        command = re.sub(r"\buv run headrace\b", str(self.headrace), command.replace(LOCAL, self.url))
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
        async with asyncio.timeout(30):
            out, told = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode() or told.decode()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, image: Image) -> AsyncGenerator[Site]:
    folder = tmp_path_factory.mktemp("site")
    authority = Authority(folder)
    certificate, key = authority.issue("site")
    port = free_port()
    url = f"https://127.0.0.1:{port}/api"
    async with gate() as peer:
        workflow(folder / "flow.yml", peer.url)
        env = environ(
            PATH=f"{image.bin}:/usr/bin:/bin",
            HEADRACE_PUBLIC_URL=url,
            HEADRACE_EGRESS_ALLOW="127.0.0.1",
            HEADRACE_DATA=str(folder / "data"),
            CURL_CA_BUNDLE=str(authority.file),
        )
        env.pop("PYTHONPATH", None)
        ready = folder / "ready.json"
        command = [image.bin / "headrace", "serve", "flow.yml", "--port", "0", "--ready-file", ready]
        server = start(command, folder, env)
        async with asyncio.timeout(20):
            while not ready.exists():
                assert server.poll() is None
                await asyncio.sleep(0.05)
        told = json.loads(ready.read_text())
        nginx = start_nginx(folder, port, told["url"].removeprefix("http://"), certificate, key)
        trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority.file))
        try:
            async with aiohttp.ClientSession(connector=trusting, timeout=aiohttp.ClientTimeout(20)) as session:
                await until_up(session, url, nginx, folder)
                (app,) = told["apps"]
                yield Site(url, told["url"], folder, app, image.bin / "headrace", env, peer, session)
        finally:
            for process in (nginx, server):
                process.terminate()
                await asyncio.to_thread(process.wait, 20)


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
    return subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.DEVNULL)


def start_nginx(folder: Path, port: int, inside: str, certificate: Path, key: Path) -> subprocess.Popen[bytes]:
    """nginx with our example, and the least besides that it needs."""
    example = (ROOT / "deploy" / "nginx" / "headrace.conf").read_text()
    for given, here in (
        ("server headrace:8040;", f"server {inside};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/nginx/certificates/fullchain.pem", str(certificate)),
        ("/etc/nginx/certificates/privkey.pem", str(key)),
    ):
        assert example.count(given) == 1, given
        example = example.replace(given, here)
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
    async with asyncio.timeout(10):
        while True:
            assert nginx.poll() is None, (folder / "nginx.log").read_text()
            try:
                async with session.get(f"{url}/readyz") as answer:
                    assert answer.status == 200
                    return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.02)


def examples() -> list[str]:
    """Each command in the README's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    joined = re.sub(r"\\\n\s*", "", "\n".join(blocks))
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def example(part: str) -> str:
    (found,) = [each for each in examples() if part in each]
    return found


async def test_the_examples_with_curl(site: Site) -> None:
    site.peer.open.set()
    code, said = await site.shell(example('"response_mode": "blocking"'))
    answer = json.loads(said)
    assert (code, answer["data"]["outputs"]) == (0, {"text": "through"})
    run = answer["workflow_run_id"]

    code, said = await site.shell(example('"response_mode": "streaming"'))
    assert code == 0
    assert '"event": "workflow_finished"' in said or '"event":"workflow_finished"' in said

    code, said = await site.shell(example("Last-Event-ID"), RUN=run)
    assert code == 0
    assert "workflow_finished" in said
    assert "workflow_started" not in said  # it went on where the client was

    code, said = await site.shell(
        example("/api/v1/workflows/$WORKFLOW/run").replace("https://example.com/hook", site.peer.url)
    )
    queued = json.loads(said)
    assert (code, queued["status"]) == (0, "queued")
    again = json.loads(
        (
            await site.shell(
                example("/api/v1/workflows/$WORKFLOW/run").replace("https://example.com/hook", site.peer.url)
            )
        )[1]
    )
    assert again["workflow_run_id"] == queued["workflow_run_id"]

    code, said = await site.shell(example("?wait=30"), RUN=queued["workflow_run_id"])
    assert (code, json.loads(said)["status"]) == (0, "succeeded")


async def test_the_example_that_stops_a_run(site: Site) -> None:
    async with streaming(site) as stream:
        first = await first_event(stream)
        code, said = await site.shell(example("/stop"), TASK=first["task_id"])
        assert (code, json.loads(said)) == (0, {"result": "success"})
        assert '"stopped"' in (await stream.text()).replace("'", '"')


async def test_the_examples_of_the_command_line(site: Site) -> None:
    site.peer.open.set()
    (site.folder / "in.jsonl").write_text('{"query": "a"}\n{"query": "b"}\n')
    text = (site.folder / "flow.yml").read_text()
    (site.folder / "old.yml").write_text(text)
    (site.folder / "new.yml").write_text(text.replace("title: Ask", "title: Fetch"))
    line = r"uv run headrace (\w+)"
    asked = [each for each in examples() if re.match(line, each) and "headrace serve" not in each]
    told = {re.match(line, each)[1]: await site.shell(each) for each in asked}  # type: ignore[index]
    assert {"lint", "run", "batch", "diff"} <= set(told)
    assert {name for name, (code, _) in told.items() if code not in (0, 1)} == set(), told
    assert json.loads(told["run"][1])["text"] == "through"
    assert len((site.folder / "out.jsonl").read_text().splitlines()) == 2
    assert "Ask" in told["diff"][1] or "title" in told["diff"][1]


def streaming(site: Site) -> Any:
    """A run that waits at the gate, followed."""
    site.peer.open.clear()
    body = {"inputs": {"query": "hello"}, "response_mode": "streaming", "user": "me"}
    headers = {"Authorization": f"Bearer {site.app['key']}"}
    return site.session.post(f"{site.url}/v1/workflows/run", json=body, headers=headers)


async def first_event(stream: aiohttp.ClientResponse) -> dict[str, Any]:
    async with asyncio.timeout(5):
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
        assert "url: 'openapi.json'" in await answer.text()
        assert answer.headers["Strict-Transport-Security"]
    async with site.session.get(f"{site.url}/metrics") as answer:
        assert answer.status == 404  # not for everybody


async def test_a_caller_cannot_pretend_to_be_a_proxy(site: Site) -> None:
    """What it says itself of where it comes from is replaced on the way."""
    forged = {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    async with site.session.get(f"{site.url}/v1/info", headers=forged) as answer:
        assert answer.status == 401
    async with site.session.get(f"{site.url}/openapi.json", headers=forged) as answer:
        assert "evil" not in await answer.text()
