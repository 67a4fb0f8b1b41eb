"""The peers' environments: made by uv on the first run, under benchmarks/ (git ignores them)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 900.0  # for an environment to be made
UV = os.environ.get("UV", "uv")  # where `uv run` was called by its path, it says so


class Missing(Exception):
    """A peer cannot be had here; says why, in a few words."""


def environment(name: str, requirements: str, python: str) -> Path:
    """The Python of an environment with these requirements, made where it lacks. `python` as uv takes it."""
    folder = HERE / name
    wanted = (HERE / requirements).read_text()
    stamp = folder / "requirements.made"
    made = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if made.exists() and stamp.exists() and stamp.read_text() == wanted:
        return made
    print(f"Making {folder.name} ...", file=sys.stderr)
    _uv("venv", "--quiet", "--clear", "--no-project", "--python", python, str(folder))
    _uv("pip", "install", "--quiet", "--python", str(folder), "-r", str(HERE / requirements))
    stamp.write_text(wanted)
    return made


def python_for_graphon() -> str:
    """A Python that graphon runs on: one that uv finds or may fetch, or one that pyenv has. Missing otherwise."""
    for version in ("3.12", "3.13"):
        found = _said(UV, "python", "find", "--no-project", "--no-python-downloads", version)
        if found:
            return found
    for version in _said("pyenv", "versions", "--bare").split():
        prefix = _said("pyenv", "prefix", version) if version.startswith(("3.12.", "3.13.")) else ""
        if prefix:
            return str(Path(prefix) / "bin" / "python")
    try:
        _uv("python", "install", "--quiet", "3.12")
    except Missing:
        raise Missing("no Python 3.12 here") from None
    return "3.12"


def _uv(*arguments: str) -> None:
    # the environments are the benchmark's own, whatever environment this runs in
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


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
