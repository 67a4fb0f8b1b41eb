"""uv, which installs Python packages: the program on the PATH, or the one of the package `uv`."""

from __future__ import annotations

import importlib.util
import shutil
import sys


def uv_command() -> list[str] | None:
    """The command that runs uv; None if there is none."""
    if path := shutil.which("uv"):
        return [path]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") is not None else None
