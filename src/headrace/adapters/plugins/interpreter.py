"""The Python that plugins are installed with: they are written for 3.12, as Dify runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from headrace.adapters.uv import uv_command
from headrace.errors import HeadraceError
from headrace.frozen import frozen

WANTED = ("3.12", "3.13")  # Dify's own comes first
_OLDEST = (3, 12)
_PROBE = "import sys; print(sys.implementation.name, *sys.version_info[:3])"
_SECONDS = 60


@frozen
class Interpreter:
    path: str
    version: tuple[int, int, int]

    @property
    def runs_locks(self) -> bool:
        """Whether plugins run as their authors locked them."""
        return self.version >= _OLDEST

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))}"


def find_interpreter(setting: str, environ: Mapping[str, str]) -> Interpreter:
    """The configured interpreter, a path or a name on the PATH. Without one: 3.12 or 3.13 on the PATH, what uv knows,
    what pyenv has, and at last the one that runs this program. HeadraceError if the configured one does not work."""
    if setting:
        interpreter = _probe(shutil.which(setting, path=environ.get("PATH")) or setting)
        if interpreter is None:
            raise HeadraceError(f"HEADRACE_PLUGIN_PYTHON: {setting} is not a Python that works")
        return interpreter
    for path in _candidates(environ):
        interpreter = _probe(path)
        if interpreter is not None and interpreter.runs_locks:
            return interpreter
    return Interpreter(sys.executable, sys.version_info[:3])


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    for version in WANTED:
        if path := shutil.which(f"python{version}", path=environ.get("PATH")):
            yield path
    uv = uv_command()
    for version in WANTED if uv else ():
        command = [*(uv or ()), "python", "find", "--no-project", "--no-python-downloads", version]
        if path := _output(command):
            yield path
    root = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME") or "/") / ".pyenv") / "versions"
    for version in WANTED:
        yield from map(str, sorted(root.glob(f"{version}.*/bin/python"), reverse=True))


def _probe(path: str) -> Interpreter | None:
    """None for what does not run, as a shim of pyenv for a version that it does not have."""
    name, *version = _output([path, "-I", "-c", _PROBE]).split() or [""]
    if name != "cpython":
        return None
    major, minor, micro = map(int, version)
    return Interpreter(path, (major, minor, micro))


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, cwd=os.sep
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
