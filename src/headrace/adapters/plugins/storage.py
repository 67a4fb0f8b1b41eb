"""What plugins keep between calls: values of bytes by key, in a folder for each plugin, up to the size in its
manifest."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.errors import HeadraceError
from headrace.ids import new_id
from headrace.values import Value

_LONGEST_KEY = 256  # characters
_PARTIAL = ".partial"


class PluginStorage:
    """Answers calls of the type `storage`. `data` has a folder for each plugin."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._writing = asyncio.Lock()  # sizes are checked, then files written

    async def __call__(
        self, plugin: InstalledPlugin, request: Mapping[str, Value], caller: Caller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """See `Handler`."""
        key, operation = request.get("key"), request.get("opt")
        if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY:
            raise HeadraceError(f"the key must be a text of 1 to {_LONGEST_KEY} characters")
        folder = self._data / plugin.id.author / plugin.id.name / "storage"
        file = folder / hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
        match operation:
            case "set":
                async with self._writing:
                    size = plugin.manifest.permissions.storage
                    await asyncio.to_thread(_write, file, _bytes(request.get("value")), size)
                yield {"data": "ok"}
            case "get":
                yield {"data": (await asyncio.to_thread(_read, file)).hex()}
            case "exist":
                exists = await asyncio.to_thread(file.is_file)
                yield {"data": exists, "exist_num": int(exists)}
            case "del":
                yield {"data": "ok", "deleted_num": await asyncio.to_thread(_delete, file)}
            case _:
                raise HeadraceError(f"unknown operation of the storage: {str(operation)[:100]!r}")


def _bytes(value: Value) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise HeadraceError(f"decode data failed: {error}") from None


def _write(file: Path, content: bytes, largest: int) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    others = sum(other.stat().st_size for other in file.parent.iterdir() if other != file)
    if others + len(content) > largest:
        raise HeadraceError("save data failed: allocated size is greater than max storage size")
    partial = file.with_name(f"{new_id()}{_PARTIAL}")
    try:
        partial.write_bytes(content)
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise HeadraceError(f"save data failed: {error.strerror}") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        message = "load data failed, please check if the key is correct or you have not set it"
        raise HeadraceError(message) from None
    except OSError as error:
        raise HeadraceError(f"load data failed: {error.strerror}") from error


def _delete(file: Path) -> int:
    try:
        file.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise HeadraceError(f"delete data failed: {error.strerror}") from error
    return 1
