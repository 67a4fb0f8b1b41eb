"""Files that a command uploads for a run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.inputs import declared
from headrace.cli.shared import BadUsage
from headrace.content.filetypes import guess_type

if TYPE_CHECKING:
    from headrace.apps.catalog import Release
    from headrace.main import Service
    from headrace.values import Value


async def uploaded(
    running: Service, release: Release, uploads: Sequence[tuple[str, str]], values: Mapping[str, Value]
) -> dict[str, Value]:
    """Uploads the files of --file; returns the inputs. BadUsage if one cannot be read, or is not for a file input."""
    variables = declared(release.flow)
    inputs: dict[str, Value] = {}
    for name, path in uploads:
        kind = variables.get(name, {}).get("type")
        if name in values or (name in inputs and kind != "file-list"):
            raise BadUsage(f"--file {name}: the input is given more than once")
        if kind not in ("file", "file-list"):
            raise BadUsage(f"--file {name}: the input is of type {kind}, not a file")
        mapping = await upload(running, release, path, f"--file {name}")
        if kind == "file-list":
            inputs.setdefault(name, []).append(mapping)
        else:
            inputs[name] = mapping
    return inputs


async def upload(running: Service, release: Release, path: str, option: str) -> dict[str, Value]:
    """Uploads a file; returns it as a client of the API sends it. BadUsage if it cannot be read."""
    try:
        content = await asyncio.to_thread(Path(path).read_bytes)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadUsage(f"{option}: {path} cannot be read: {reason}") from error
    file = await running.files.save(
        content, filename=Path(path).name, mime_type=guess_type(path), transfer_method="local_file", app=release.app.id
    )
    return {"type": file.type, "transfer_method": file.transfer_method, "upload_file_id": file.related_id}
