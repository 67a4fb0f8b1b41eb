"""Stores the content of files in a bucket of S3, or of a service that is compatible with it.

An object cannot be touched, so the last use of an old file is recorded by an empty object beside it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from headrace.errors import FileStorageError, HeadraceError
from headrace.frozen import frozen

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = logging.getLogger(__name__)

_CHUNK = 4 * 1024 * 1024  # bytes of one request
_FRESH = 12 * 3600.0  # seconds for which no use of a new file is recorded; less than files are kept (`retention`)
_FILES, _USED, _ASIDE = "files", "used", "aside"


@frozen
class ObjectContent:
    """Implements `ports.RemoteContent`."""

    size: int
    modified: float
    etag: str
    read: Callable[[int, int], AsyncGenerator[bytes]]


class ObjectStorage:
    """Implements `ports.FileBlobs`. `url` is s3://BUCKET or s3://BUCKET/PREFIX; the endpoint, the region and the
    credentials are in the usual variables (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID ...), or those of the
    machine. `clock` gives seconds since the epoch. HeadraceError if the extra is missing, or a setting is not valid."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError as error:
            raise HeadraceError('Files on S3 need an extra: pip install "headrace[s3]"') from error
        parts = urlsplit(url)
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        try:
            self._store = S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": "5s",
                    "timeout": "60s",
                },
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
            )
        except (BaseError, ValueError) as error:
            raise HeadraceError(f"HEADRACE_FILES_URL: {_reason(error)}") from error
        self.url = url
        self._obstore = obstore
        self._error = BaseError
        self._clock = clock
        self._failing = False

    async def write(self, file: str, data: bytes | IO[bytes], mime_type: str) -> None:
        """Writes atomically; the data is safe when this returns."""
        with self._reporting(FileNotFoundError):  # there is no such bucket
            await self._obstore.put_async(
                self._store,
                _path(_FILES, file),
                data,
                attributes={"Content-Type": mime_type},
                chunk_size=2 * _CHUNK,
                max_concurrency=2,
            )

    async def read(self, file: str) -> bytes:
        """FileNotFoundError if there is none."""
        with self._reporting():
            result = await self._obstore.get_async(self._store, _path(_FILES, file))
            return bytes(await result.bytes_async())

    async def open(self, file: str) -> ObjectContent | None:
        """The content, None if there is none."""
        meta = await self._head(_FILES, file)
        if meta is None:
            return None

        async def read(start: int, end: int) -> AsyncGenerator[bytes]:
            # a request for each piece: a slow reader keeps none open
            for at in range(start, end, _CHUNK):
                with self._reporting():
                    piece = await self._obstore.get_range_async(
                        self._store, _path(_FILES, file), start=at, end=min(at + _CHUNK, end)
                    )
                yield bytes(piece)

        return ObjectContent(meta["size"], meta["last_modified"].timestamp(), meta["e_tag"] or f'"{file}"', read)

    async def delete(self, file: str) -> None:
        await self._delete(_path(_FILES, file))

    async def touch(self, file: str) -> bool:
        """Records that a file is about to be used. False if it does not exist."""
        meta = await self._head(_FILES, file)
        if meta is None:
            return False
        if self._clock() - meta["last_modified"].timestamp() < _FRESH:
            return True
        with self._reporting():
            await self._obstore.put_async(self._store, _path(_USED, file), b"")
        return await self._head(_FILES, file) is not None  # it may have been set aside before the record was there

    async def total_bytes(self) -> int:
        """The size of all files."""
        return sum([meta["size"] async for meta in self._list(_FILES)])

    # --------------------------------------------------------------------------------------------------- deleting

    async def idle(self, files: Sequence[str], since: float) -> list[str]:
        names_in_use = {_name(meta) async for meta in self._list(_USED) if meta["last_modified"].timestamp() >= since}
        return [file for file in files if file not in names_in_use]

    async def set_aside(self, file: str, since: float) -> bool:
        if await self._used(file, since):
            return False
        try:
            await self._rename(_path(_FILES, file), _path(_ASIDE, file))
        except FileNotFoundError:
            return True  # it was deleted already, or set aside by a process that did not finish
        # a use of the file came before this, or does not find it
        if await self._used(file, since):
            await self.put_back(file)
            return False
        return True

    async def put_back(self, file: str) -> None:
        try:
            await self._rename(_path(_ASIDE, file), _path(_FILES, file))
        except FileNotFoundError:
            return  # another process did it

    async def remove(self, file: str) -> int:
        meta = await self._head(_ASIDE, file)
        await asyncio.gather(self._delete(_path(_ASIDE, file)), self._delete(_path(_USED, file)))
        return meta["size"] if meta else 0

    async def size(self, file: str) -> int:
        meta = await self._head(_FILES, file)
        return meta["size"] if meta else 0

    async def left_over(self, before: float) -> list[str]:
        return [_name(meta) async for meta in self._list(_ASIDE) if meta["last_modified"].timestamp() < before]

    # --------------------------------------------------------------------------------------------------- requests

    async def _used(self, file: str, since: float) -> bool:
        meta = await self._head(_USED, file)
        return meta is not None and meta["last_modified"].timestamp() >= since

    async def _head(self, kind: str, file: str) -> ObjectMeta | None:
        with self._reporting():
            try:
                return await self._obstore.head_async(self._store, _path(kind, file))
            except FileNotFoundError:
                return None

    async def _rename(self, source: str, target: str) -> None:
        with self._reporting():
            await self._obstore.rename_async(self._store, source, target)

    async def _delete(self, path: str) -> None:
        with self._reporting():
            await self._obstore.delete_async(self._store, path)

    async def _list(self, kind: str) -> AsyncIterator[ObjectMeta]:
        listing = self._obstore.list(  # pyright: ignore[reportUnknownMemberType] - it may return types of pyarrow
            self._store, f"{kind}/", return_arrow=False
        )
        pages = aiter(listing)
        while True:
            with self._reporting(FileNotFoundError):
                page: Sequence[ObjectMeta] | None = await anext(pages, None)
            if page is None:
                return
            for meta in page:
                yield meta

    @contextmanager
    def _reporting(self, *more: type[Exception]) -> Generator[None]:
        """Raises FileStorageError where the service fails, or for `more` errors; logs once when that begins, and once
        when it ends."""
        try:
            yield
        except (self._error, *more) as error:
            reason = "there is no such bucket" if isinstance(error, FileNotFoundError) else _reason(error)
            if not self._failing:
                self._failing = True
                logger.error("%s cannot be used: %s", self.url, reason)
            raise FileStorageError(reason) from error
        if self._failing:
            self._failing = False
            logger.warning("%s can be used again", self.url)


def _path(kind: str, file: str) -> str:
    return f"{kind}/{file}"


def _name(meta: ObjectMeta) -> str:
    return meta["path"].rpartition("/")[2]


def _reason(error: Exception) -> str:
    """The error in one line, without the client's internals."""
    return str(error).partition("\n")[0].strip()
