"""The plugin of the tests, installed in a folder, and a runtime that has it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import FileStore
from headrace.adapters.plugins.installed import ENVIRONMENT, SOURCE, Marker
from headrace.adapters.plugins.limits import PluginLimits
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.tools.plugins import PluginTools
from headrace.ports.services import TextMessage, Tool, ToolContext, ToolMessage, ToolReference
from headrace.values import Value
from tests.files.catalog import FileCatalog

FAKE = Path(__file__).parent / "fake"
SECRET = "a-secret-of-the-tests"
CONTEXT = ToolContext(run="run", app="app", user="user", key="run/n/0")
REFERENCE = ToolReference("plugin", "tests/fake/fake", "Fake", "act")


def install(data: Path, name: str = "fake", start: str = "", source: Path = FAKE) -> Path:
    """Installs a plugin of the tests, without a package. `start`: how it behaves when it is started."""
    path = data / "plugins" / "tests" / name / "0.0.1-0123456789ab"
    shutil.copytree(source, path / SOURCE)
    manifest = path / SOURCE / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("name: fake\n", f"name: {name}\n"))
    if start:
        (path / SOURCE / "start").write_text(start)
    (path / ENVIRONMENT / "bin").mkdir(parents=True)
    (path / ENVIRONMENT / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    Marker(f"tests/{name}:0.0.1@{'0123456789abcdef' * 4}", "", "3", "").write(path)
    return path


@asynccontextmanager
async def running(
    data: Path, environ: Mapping[str, str] | None = None, installed: Path | None = None, **limits: Any
) -> AsyncGenerator[tuple[PluginTools, Plugins]]:
    """The tools of the plugins that are installed, by default in the folder itself."""
    files = FileStore(FileBlobStore(data / "files"), FileCatalog(), b"secret", None, "http://headrace.example")  # type: ignore[arg-type]
    environ = {"FAKE_API_KEY": SECRET} if environ is None else environ
    plugins = Plugins(
        installed or data / "plugins",
        None,
        data / "plugin-data",
        files,
        environ,
        PluginLimits(**limits),
    )
    try:
        yield PluginTools(plugins), plugins
    finally:
        await plugins.aclose()


async def find(tools: PluginTools, tool: str = "act", path: str = "tests/fake/fake") -> Tool:
    return await tools.find(replace(REFERENCE, provider_id=path, tool_name=tool))


def call(tool: Tool, do: str = "", **parameters: Value) -> AsyncIterator[ToolMessage]:
    return tool.call({"do": do, **parameters}, CONTEXT)


async def messages(tool: Tool, do: str = "", **parameters: Value) -> list[ToolMessage]:
    return [message async for message in call(tool, do, **parameters)]


async def answer(tool: Tool, do: str = "", **parameters: Value) -> str:
    """The text that a call results in."""
    return "".join(
        message.text for message in await messages(tool, do, **parameters) if isinstance(message, TextMessage)
    )


def processes_of(folder: Path) -> list[int]:
    """The processes of the plugins that are installed in a folder."""
    pids: list[int] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_text().startswith(str(folder)):  # the interpreter of its environment
                pids.append(int(file.parent.name))
        except OSError:
            continue  # it has ended
    return pids
