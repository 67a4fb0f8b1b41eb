"""Files of documents as one ZIP archive."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePath
from tempfile import SpooledTemporaryFile
from typing import IO
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from headrace.errors import RequestError
from headrace.ports import StoredFile
from headrace.ports.services import Files

_IN_MEMORY = 4 * 1024 * 1024
_PIECE = 256 * 1024


async def zip_response(
    files: Files, filename: str, members: Sequence[tuple[str, StoredFile | None]], missing: RequestError
) -> Response:
    """An archive of stored files by their names, written to disk if it is large. Raises `missing` if one is None."""
    content: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed when it is sent
    try:
        names: set[str] = set()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, file in members:
                if file is None:
                    raise missing
                data = await files.read(file.file)
                await asyncio.to_thread(archive.writestr, _unused(name, names), data)
        size = content.tell()
        content.seek(0)
    except BaseException:
        content.close()
        raise
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "Content-Length": str(size),
    }
    return StreamingResponse(_pieces(content), media_type="application/zip", headers=headers)


async def _pieces(content: IO[bytes]) -> AsyncIterator[bytes]:
    with content:
        while piece := await asyncio.to_thread(content.read, _PIECE):
            yield piece


def _unused(name: str, names: set[str]) -> str:
    """A name that the archive does not have yet, without folders; it is added to `names`."""
    base = name.replace("\\", "/").rpartition("/")[2]
    path = PurePath("document" if base in ("", ".", "..") else base)
    free_name, number = path.name, 1
    while free_name in names:
        free_name, number = f"{path.stem} ({number}){path.suffix}", number + 1
    names.add(free_name)
    return free_name
