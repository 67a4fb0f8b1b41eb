"""What an idle `headrace serve` has loaded: what only some installations need is imported where it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.flows import environ, field, flow

PROGRAM = """
import json, os, signal, sys
from headrace.cli import cli
from headrace.cli.serve import serve

def on_ready(content, text):
    print(json.dumps(sorted(sys.modules)))
    os.kill(os.getpid(), signal.SIGTERM)

serve.callback.__globals__["_say_ready"] = on_ready
cli.main(["serve", *sys.argv[1:]])
"""

PACKAGES = {
    "annotated_types",
    "anyio",
    "chardetng_py",
    "click",
    "cython_runtime",
    "dotenv",
    "headrace",
    "httptools",
    "orjson",
    "pydantic",
    "pydantic_core",
    "python_multipart",
    "sitecustomize",  # of the machine's Python, where it has one
    "sniffio",
    "sqlalchemy",
    "starlette",
    "typing_extensions",
    "typing_inspection",
    "uvicorn",
    "uvloop",
    "yaml",
}
"""All that may be loaded, beside the standard library."""

LATER = (
    "headrace.adapters.archive",
    "headrace.adapters.models.demo",
    "headrace.adapters.oidc",
    "headrace.adapters.plugins.triggers",
    "headrace.adapters.temporal",
    "headrace.api.mcp.routes",
    "headrace.api.native.routes",
    "headrace.api.openai.routes",
    "headrace.cli.run",
    "headrace.nodes.agent.chat",
    "headrace.nodes.human_input.node",
    "headrace.nodes.knowledge_retrieval",
    "headrace.stores.memory",
    "headrace.telemetry.spans",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.orm",
)
"""What is loaded where it is needed, of packages that are in use."""


def test_an_idle_service_has_loaded_what_it_needs(tmp_path: Path) -> None:
    file = flow(tmp_path / "echo.yml", variables=[field("query")])
    command = [sys.executable, "-c", PROGRAM, str(file), "--port", "0", "--data", str(tmp_path / "data")]
    outputs: list[str] = []
    for _ in range(2):  # the second time, the database is there
        done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    modules = set(json.loads(outputs[1]))
    others = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    packages = {name for name in others if not name.startswith("_") and "-" not in name}
    assert packages - PACKAGES == set(), "import it where it is used, or add it to the list"
    assert modules.intersection(LATER) == set()
