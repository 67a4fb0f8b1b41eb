"""The package itself: generated code, types, and the wheel in a clean environment."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.sdk_contract.dify_server import key_of
from tests.sdk_python.test_runs import SNIPPET
from tests.server.process import Serve

_ROOT = pathlib.Path(__file__).parent.parent.parent
_SDK = _ROOT / "sdks" / "python"
_USER = pathlib.Path(__file__).parent / "typed_user.py"


def test_synchronous_half_is_up_to_date() -> None:
    result = subprocess.run(
        [sys.executable, str(_SDK / "generate_sync.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_generation_check_detects_a_change(tmp_path: pathlib.Path) -> None:
    copied = tmp_path / "sdks" / "python"
    shutil.copytree(_SDK, copied, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(_ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    changed = copied / "src" / "headrace_client" / "_sync" / "pages.py"
    changed.write_text(changed.read_text() + "\n# a change\n")
    (changed.parent / "left.py").write_text("")
    result = subprocess.run(
        [sys.executable, str(copied / "generate_sync.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "pages.py" in result.stderr
    assert "left.py" in result.stderr


def test_types_mypy() -> None:
    """`make types` checks the same with basedpyright."""
    what = [str(_USER), str(_SDK / "src" / "headrace_client")]
    command = [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", *what]
    result = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=False)
    assert result.returncode == 0, result.stdout


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The Python of an environment that has only the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("clean")
    uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` says where it is
    assert uv is not None, "uv builds the wheel and creates the environment"
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}

    def run(*command: str) -> None:
        result = subprocess.run([uv, *command], capture_output=True, text=True, cwd=folder, env=environ, check=False)
        assert result.returncode == 0, result.stderr

    run("build", "--quiet", "--wheel", "--out-dir", str(folder / "dist"), str(_SDK))
    run("venv", "--quiet", "--no-project", "--python", sys.executable, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    (wheel,) = (folder / "dist").glob("*.whl")
    run("pip", "install", "--quiet", "--python", str(python), str(wheel))
    return python


_THEN = """
import importlib.util, json, time
assert importlib.util.find_spec("headrace") is None
while result.status not in ("succeeded", "failed"):
    time.sleep(0.02)
    result = client.get_workflow_run_status(response["workflow_run_id"])
print(json.dumps(result.outputs))
"""


def _run_snippet(python: pathlib.Path, url: str, key: str) -> object:
    program = SNIPPET.replace("your-api-key", key) + _THEN
    command = [str(python), "-I", "-W", "error", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, env={"API_BASE_URL": url}, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_wheel_runs_the_snippet_against_headrace(clean_python: pathlib.Path, headrace: Serve) -> None:
    assert _run_snippet(clean_python, headrace.url, headrace.keys["hello"]) == {"text": "You said: Hello World"}


def test_wheel_runs_the_snippet_against_dify(clean_python: pathlib.Path, dify: str) -> None:
    assert _run_snippet(clean_python, f"{dify}/v1", key_of("02_template")) == {"text": "Hello hi! 12"}


def test_the_snippet_of_the_guide_runs_unchanged(
    clean_python: pathlib.Path, headrace: Serve, tmp_path: pathlib.Path
) -> None:
    """With the import that the README describes."""
    readme = (_SDK / "README.md").read_text("utf-8")
    alias = "from headrace_client import *\n"
    assert f"```python\n{alias}```" in readme
    (tmp_path / "dify_client.py").write_text(alias)
    snippet = SNIPPET.replace("from headrace_client import", "from dify_client import")
    assert snippet != SNIPPET
    (tmp_path / "snippet.py").write_text(snippet.replace("your-api-key", headrace.keys["hello"]) + _THEN)
    environ = {"API_BASE_URL": headrace.url}
    command = [str(clean_python), "-W", "error", "snippet.py"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"text": "You said: Hello World"}


def test_wheel_has_type_information(clean_python: pathlib.Path) -> None:
    program = "from importlib.resources import files; print(files('headrace_client').joinpath('py.typed').is_file())"

    result = subprocess.run([str(clean_python), "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"
