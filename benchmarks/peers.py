"""The virtual environments of the peers, created by uv under benchmarks/ on the first run (git ignores them)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 900.0  # to create an environment
UV = os.environ.get("UV", "uv")  # `uv run` sets it to its own path


class Missing(Exception):
    """A peer is not available here; the message says why, in a few words."""


def environment(name: str, requirements: str, python: str) -> Path:
    """The interpreter of an environment with these requirements, created if needed. `python` is in uv's syntax."""
    folder = HERE / name
    requirement_lines = (HERE / requirements).read_text()
    stamp = folder / "requirements.installed"
    interpreter = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if interpreter.exists() and stamp.exists() and stamp.read_text() == requirement_lines:
        return interpreter
    print(f"Making {folder.name} ...", file=sys.stderr)
    _uv("venv", "--quiet", "--clear", "--no-project", "--python", python, str(folder))
    _uv("pip", "install", "--quiet", "--python", str(folder), "-r", str(HERE / requirements))
    stamp.write_text(requirement_lines)
    return interpreter


def python_for_graphon() -> str:
    """A Python that graphon runs on: uv's (downloaded if necessary) or pyenv's. Raises Missing if there is none."""
    for version in ("3.12", "3.13"):
        python_path = _output_of(UV, "python", "find", "--no-project", "--no-python-downloads", version)
        if python_path:
            return python_path
    for version in _output_of("pyenv", "versions", "--bare").split():
        prefix = _output_of("pyenv", "prefix", version) if version.startswith(("3.12.", "3.13.")) else ""
        if prefix:
            return str(Path(prefix) / "bin" / "python")
    try:
        _uv("python", "install", "--quiet", "3.12")
    except Missing:
        raise Missing("no Python 3.12 here") from None
    return "3.12"


def _uv(*arguments: str) -> None:
    # independent of the environment that this runs in
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run([UV, *arguments], env=environ, capture_output=True, text=True, timeout=SECONDS)
    except FileNotFoundError:
        raise Missing("uv is not installed") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"not installed within {SECONDS:g} s") from None
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise Missing("could not be installed")


def _output_of(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
