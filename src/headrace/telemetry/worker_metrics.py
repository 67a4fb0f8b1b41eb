"""The metrics of several workers on one port, of which any may answer a request for them: it asks the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 3.0  # for the answers of the others; one that is too late is left out
_MOST = 64 * 1024 * 1024  # bytes of an answer


class WorkerMetrics:
    """`own` returns the metrics of this worker, in Prometheus' text format. Workers ask each other at sockets in a
    `folder` that only their user can open; each is named after its worker's `number`."""

    def __init__(self, folder: Path, number: int, own: Callable[[], Awaitable[bytes]]) -> None:
        self._folder = folder
        self._number = number
        self._own = own

    @asynccontextmanager
    async def answering(self) -> AsyncGenerator[None]:
        """Answers the others within the block."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / str(self._number)
        path.unlink(missing_ok=True)  # of one that has died
        server = await asyncio.start_unix_server(self._answer, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)
            with suppress(OSError):  # the last one out removes it, if the parent could not
                self._folder.rmdir()

    async def text(self) -> bytes:
        """The metrics of all workers, with a label `worker`."""
        others = [path for path in self._folder.iterdir() if path.name != str(self._number)]
        own, *answers = await asyncio.gather(self._own(), *map(self._ask, others))
        samples = {str(self._number): own, **dict(zip((path.name for path in others), answers, strict=True))}
        return merged((name, text.decode()) for name, text in sorted(samples.items())).encode()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await self._own())
            await writer.drain()
        except ConnectionError:
            pass  # the other one no longer waits
        finally:
            writer.close()

    async def _ask(self, path: Path) -> bytes:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path, limit=_MOST)
                try:
                    return await reader.read(-1)
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            logger.warning("worker %s does not say what its metrics are: %s", path.name, error or "too slow")
            return b""


def merged(texts: Iterable[tuple[str, str]]) -> str:
    """The samples of all texts, each with a label `worker`, by the family that they belong to."""
    families: dict[str, tuple[list[str], list[str]]] = {}  # by name: what describes it, and samples
    for worker, text in texts:
        description: list[str] = []
        samples: list[str] = []
        for line in text.splitlines():
            if line.startswith("#"):
                _, kind, name, *_ = line.split(" ", 3)
                if kind == "HELP":
                    description, samples = families.setdefault(name, ([], []))
                if line not in description:
                    description.append(line)
            else:
                name, brace, rest = line.partition("{")
                if not brace:
                    name, _, rest = line.partition(" ")
                    rest = f"}} {rest}"
                comma = "," if brace else ""
                samples.append(f'{name}{{worker="{worker}"{comma}{rest}')
    lines = [line for description, samples in families.values() for line in (*description, *samples)]
    return "\n".join([*lines, ""])
