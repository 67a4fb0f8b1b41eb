"""Builds the console's pages into the wheel, where there is Node. Without them the server says that it has none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConsoleBuild(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        pages, console = Path(self.root, "src/headrace/api/console/static"), Path(self.root, "web/console")
        npm = shutil.which("npm")
        if version == "editable" or npm is None or not console.exists() or _current(pages, console.parent):
            return
        for command in (["ci", "--omit=dev", "--loglevel=error", "--no-fund"], ["run", "build", "--silent"]):
            if subprocess.run([npm, *command], cwd=console, check=False).returncode:
                self.app.display_warning("The console's pages could not be built: the wheel has none.")
                return


def _current(pages: Path, web: Path) -> bool:
    """Whether the pages are newer than all that they are built from."""
    built = pages / "index.html"
    sources = (file for file in web.rglob("*") if file.is_file() and "node_modules" not in file.parts)
    return built.exists() and built.stat().st_mtime >= max(file.stat().st_mtime for file in sources)
