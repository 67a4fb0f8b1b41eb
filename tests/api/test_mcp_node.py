"""Apps as tools, called by the official client of the Model Context Protocol for Node."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from headrace.node import Context, Result
from tests.api.serving import Scripted, Serving, workflow

HERE = Path(__file__).parent.parent / "mcp_node"
PACKAGE = "node_modules/@modelcontextprotocol/client"
NODE, NPM = shutil.which("node"), shutil.which("npm")


@pytest.fixture(scope="module")
def node() -> str:
    """Node, with the client that the lock file names."""
    if NODE is None or NPM is None:
        pytest.skip("Node and npm are not installed: the client of MCP for Node is NOT tested")
    wanted = json.loads((HERE / "package-lock.json").read_text())["packages"][PACKAGE]["version"]
    installed = HERE / PACKAGE / "package.json"
    if not installed.exists() or json.loads(installed.read_text())["version"] != wanted:
        subprocess.run([NPM, "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True, capture_output=True, timeout=120)
    return NODE


@pytest.mark.parametrize(("mode", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
async def test_the_node_client_calls_a_tool(server: Serving, node: str, mode: str, version: str) -> None:
    stopped = asyncio.Event()

    async def hold(ctx: Context) -> Result:
        try:
            if ctx.inputs["query"] == "wait":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
            raise
        return Result({"text": "held"})

    Scripted.scripts["hold"] = hold
    variables = [{"variable": "query", "label": "Query", "type": "text-input", "required": True}]
    app = await server.add("flow.yml", workflow(["hold"], variables=variables, outputs={"said": ["start", "query"]}))
    command = (node, "call.mjs", f"{app.url}/mcp", app.key, mode)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = await asyncio.create_subprocess_exec(*command, cwd=HERE, **pipes)
    waits = [asyncio.create_task(stopped.wait()), asyncio.create_task(running.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    stdout, stderr = await running.communicate(b"")
    waits[0].cancel()
    assert running.returncode == 0, stderr.decode()
    assert json.loads(stdout) == {
        "version": version,
        "tool": "tiny",
        "outputs": {"said": "hello"},
        "progress": ["Start", "Hold", "End"],
        "wrong": [True, "query is required in input form"],
        "unknown": -32602,
        "cancelled": "cancelled",
    }
