"""Clients that ordinary generators make from `/openapi.json`: clean under strict type checks, and able to run a
workflow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import Serve

HERE = Path(__file__).parent
NODE, NPM = shutil.which("node"), shutil.which("npm")
RAN = ["succeeded", {"query": "hello"}, ["start", "end"]]


def call(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(program: Sequence[str], folder: Path, server: Serve) -> Any:
    return json.loads(call([*program, server.url, server.keys["echo"], server.apps["echo"]["app_id"]], folder))


def test_a_python_client_runs_a_workflow(server: Serve, description: Path, tmp_path: Path):
    shutil.copytree(HERE / "python", tmp_path, dirs_exist_ok=True)
    generate = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(description)]
    call([*generate, "--output-path", "generated", "--meta", "none", "--config", "config.yml"], tmp_path)
    call([sys.executable, "-m", "mypy", "--strict", "run_workflow.py", "generated"], tmp_path)
    assert ran([sys.executable, "run_workflow.py"], tmp_path, server) == RAN


def test_a_typescript_client_runs_a_workflow(server: Serve, description: Path, tmp_path: Path):
    if NODE is None or NPM is None:
        pytest.skip("Node and npm are not installed: the TypeScript client is NOT tested")
    shutil.copytree(HERE / "node", tmp_path, dirs_exist_ok=True)
    call([NPM, "ci", "--no-audit", "--no-fund"], tmp_path)
    call(["node_modules/.bin/openapi-typescript", str(description), "-o", "api.ts"], tmp_path)
    call(["node_modules/.bin/tsc", "-p", "."], tmp_path)
    assert ran([NODE, "run.js"], tmp_path, server) == RAN
