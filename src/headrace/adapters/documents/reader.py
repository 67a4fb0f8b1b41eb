"""Extracts the text of documents."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from headrace.adapters.documents.bounds import TOO_MUCH_MEMORY, Budget, Unreadable, too_slow
from headrace.content.encodings import decode
from headrace.errors import NodeError

if TYPE_CHECKING:
    from headrace.adapters.documents.formats import Format

FAILED = "TextExtractionError"

MOST_CHARACTERS = 20_000_000
MOST_CELLS = 2_000_000
MOST_SECONDS = 60.0
MOST_MEMORY = 1024 * 1024 * 1024  # bytes of address space
_SMALL = 1024 * 1024  # bytes
_OUT_OF_CPU = getattr(signal, "SIGXCPU", 0)  # does not exist on Windows
_GRACE = 5.0  # seconds for a process to start and end
_AT_ONCE = min(4, os.cpu_count() or 1)


class DocumentReader:
    """Implements `ports.services.Documents`, within `characters` of text, `cells` of tables, `seconds` and `memory`
    (bytes).

    Complex formats (PDF, Office, EPUB, mail) and large documents are read in a separate process, which is killed when
    it takes too long or the caller is cancelled, because a PDF of a few megabytes can exhaust the memory. Starting it
    takes about 0.2 s. Others are read in a thread. References in a document are not fetched.
    """

    def __init__(
        self,
        *,
        characters: int = MOST_CHARACTERS,
        cells: int = MOST_CELLS,
        seconds: float = MOST_SECONDS,
        memory: int = MOST_MEMORY,
    ) -> None:
        self._characters = characters
        self._cells = cells
        self._seconds = seconds
        self._memory = memory
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def text(self, data: bytes, *, extension: str, mime_type: str | None) -> str:
        """See `Documents.text`. The MIME type is only used if the extension is unknown."""
        from headrace.adapters.documents.formats import format_of  # imported late, as most servers never need it

        return await self._read(format_of(extension, mime_type), data)

    async def article(self, data: bytes, *, charset: str = "") -> str:
        """See `Documents.article`."""
        from headrace.adapters.documents.formats import ARTICLE

        return await self._read(ARTICLE, decode(data, charset).encode("utf-8", "replace"))

    async def _read(self, document_format: Format, data: bytes) -> str:
        from headrace.adapters.documents.formats import read

        try:
            if document_format.complex or len(data) > _SMALL:
                async with self._slots:
                    return await self._in_process(document_format, data)
            budget = Budget(characters=self._characters, cells=self._cells, seconds=self._seconds)
            return await asyncio.to_thread(read, document_format, data, budget)
        except Unreadable as error:
            raise NodeError(f"Failed to extract text from {document_format.name}: {error}", FAILED) from error

    async def _in_process(self, document_format: Format, data: bytes) -> str:
        """Reads in a process without this one's environment, which has secrets."""
        limits = (self._characters, self._cells, self._seconds, self._memory)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # does not import from the current folder
            "-m",
            "headrace.adapters.documents.child",
            document_format.name,
            *map(str, limits),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            async with asyncio.timeout(self._seconds + _GRACE):
                answer, _ = await process.communicate(data)
        except TimeoutError:
            raise Unreadable(too_slow(self._seconds)) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if _OUT_OF_CPU and process.returncode == -_OUT_OF_CPU:
            raise Unreadable(too_slow(self._seconds))
        text = answer.decode()
        if process.returncode != 0 or not text:
            raise Unreadable(f"{TOO_MUCH_MEMORY}, or breaks its reader")
        if text.startswith("-"):
            raise Unreadable(text[1:])
        return text[1:]


def _environment() -> dict[str, str]:
    """The variables that Python needs to start."""
    variables = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return {**variables, "MALLOC_ARENA_MAX": "1", "PYTHONUTF8": "1"}
