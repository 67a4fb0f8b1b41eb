"""A served app, called by OpenAI's own client for Node."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from headrace.node import Context, Result
from headrace.ports import RunFilter
from headrace.ports.services import Usage
from tests.api.chats import chatflow
from tests.api.serving import Gate, Scripted, Serving, workflow

HERE = Path(__file__).parent.parent / "openai_node"
NODE, NPM = shutil.which("node"), shutil.which("npm")


@pytest.fixture(scope="module")
def node() -> str:
    """Node, with the client that the lock file names."""
    if NODE is None or NPM is None:
        pytest.skip("Node and npm are not installed: OpenAI's client for Node is NOT tested")
    wanted = json.loads((HERE / "package-lock.json").read_text())["packages"]["node_modules/openai"]["version"]
    installed = HERE / "node_modules" / "openai" / "package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != wanted:
        subprocess.run([NPM, "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True, capture_output=True, timeout=120)
    return NODE


async def test_the_node_client_chats_and_streams(server: Serving, node: str) -> None:
    async def ask(ctx: Context) -> Result:
        for word in ("one ", "two ", "three"):
            ctx.emit("text", word)
        return Result({"text": "one two three"}, usage=Usage(6, 4).wire())

    Scripted.scripts["ask"] = ask
    app = await server.add("chat.yml", chatflow("{{#ask.text#}} ☕ {{#sys.query#}}", ["ask"]))
    running = await asyncio.create_subprocess_exec(
        node, "chat.mjs", f"{app.url}/v1/openai", app.key, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        stdout, stderr = await running.communicate()
    assert running.returncode == 0, stderr.decode()
    got = json.loads(stdout)
    pieces = got.pop("pieces")
    assert got == {
        "model": "chat",
        "whole": "one two three ☕ Who am I?",
        "streamed": "one two three ☕ Who am I?",
        "finish": ["stop"],
        "usage": {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10},
        "final": "one two three ☕ Who am I?",
        "refused": {"status": 400, "param": "n", "code": "unsupported_parameter"},
    }
    assert pieces > 3


async def test_a_node_client_that_leaves_stops_its_runs(server: Serving, node: str) -> None:
    """Of a call that is given up three times there is one run."""
    app = await server.add("chat.yml", chatflow("{{#gate.text#}}", ["gate"]))
    gate = Scripted.scripts["gate"] = Gate(["Hel", "lo"])
    gate.let(1)
    running = await asyncio.create_subprocess_exec(
        node, "leave.mjs", f"{app.url}/v1/openai", app.key, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        stdout, stderr = await running.communicate()
    assert running.returncode == 0, stderr.decode()
    assert json.loads(stdout) == {"heard": "Hel", "gaveUp": True}
    for _ in range(1500):
        result = [run.status for run in (await server.store.runs.list_runs(RunFilter(app.release.app.id)))[1]]
        if "running" not in result:
            break
        await asyncio.sleep(0.01)
    assert result == ["stopped", "stopped"]


async def test_the_node_client_gets_responses(server: Serving, node: str) -> None:
    form = [{"variable": "query", "label": "query", "type": "text-input"}]
    app = await server.add("w.yml", workflow(variables=form, outputs={"said": ["start", "query"]}))
    running = await asyncio.create_subprocess_exec(
        node, "responses.mjs", f"{app.url}/v1/openai", app.key, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        stdout, stderr = await running.communicate()
    assert running.returncode == 0, stderr.decode()
    assert json.loads(stdout) == {
        "whole": "tea",
        "ends": ["response.created", "response.completed"],
        "final": "tea",
        "parsed": {"said": "tea"},
        "retrieved": "tea",
        "resumed": "ea",
        "items": ["tea"],
        "refused": {"status": 400, "param": "tools", "code": "unsupported_parameter"},
    }
