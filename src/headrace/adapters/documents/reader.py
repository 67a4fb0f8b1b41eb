"""The way from a document to its text."""

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
_OUT_OF_CPU = getattr(signal, "SIGXCPU", 0)  # none on Windows, where nothing limits it
_GRACE = 5.0  # seconds that a process may take to start and end
_AT_ONCE = min(4, os.cpu_count() or 1)


class DocumentReader:
    """Implements `resources.Documents`, within `characters` of text, `cells` of tables, `seconds` and `memory` (bytes).

    Formats that can cost more than their size tells (PDF, Office, EPUB, mail), and whatever is large, are read in a
    process of their own, one a document, which is killed when it takes too long or nobody waits for it any more: a PDF
    of a few megabytes can fill all memory there is. Starting it takes some 0.2 s. The rest is read in a thread.
    Nothing that a document refers to is fetched.
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
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def text(self, data: bytes, *, extension: str, mime_type: str | None) -> str:
        """See `resources.Documents.text`. The extension counts; the MIME type, where nobody knows the extension."""
        from headrace.adapters.documents.formats import format_of  # readers that most servers never need

        return await self._read(format_of(extension, mime_type), data)

    async def article(self, data: bytes, *, charset: str = "") -> str:
        """See `resources.Documents.article`."""
        from headrace.adapters.documents.formats import ARTICLE

        return await self._read(ARTICLE, decode(data, charset).encode("utf-8", "replace"))

    async def _read(self, document_format: Format, data: bytes) -> str:
        from headrace.adapters.documents.formats import read

        try:
            if document_format.complex or len(data) > _SMALL:
                async with self._places:
                    return await self._apart(document_format, data)
            budget = Budget(characters=self._characters, cells=self._cells, seconds=self._seconds)
            return await asyncio.to_thread(read, document_format, data, budget)
        except Unreadable as error:
            raise NodeError(f"Failed to extract text from {document_format.name}: {error}", FAILED) from error

    async def _apart(self, document_format: Format, data: bytes) -> str:
        """Reads in a process that knows nothing of ours: not its environment, which has secrets."""
        limits = (self._characters, self._cells, self._seconds, self._memory)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the current folder holds no modules of ours
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
    """What a Python needs to start."""
    variables = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    return {**variables, "MALLOC_ARENA_MAX": "1", "PYTHONUTF8": "1"}
