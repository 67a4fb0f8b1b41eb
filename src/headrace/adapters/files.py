"""Files: content in a folder or a bucket, metadata in the catalog, and signed URLs.

A file's URL has a signature of its id, so anyone who has the URL may fetch the file, and nobody can forge one. By
default a signature does not expire, because the outputs of runs may be fetched long after they ended.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
import secrets
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlencode, urlsplit

from headrace.content.disposition import basename, parse_disposition
from headrace.content.filetypes import UNSPECIFIC, essence, extension_of, guess_extension, guess_type, kind_of
from headrace.errors import FileStorageError, InvalidParam, NodeError, NotFound
from headrace.ids import canonical_id
from headrace.ports import Catalog, FileBlobs, RemoteContent, StoredFile
from headrace.ports.services import Http, HttpRequest, HttpResponse
from headrace.values import File, Value

__all__ = ["UPLOAD_LIMITS", "FileStore", "limit_for"]

_MB = 1024 * 1024

UPLOAD_LIMITS: Mapping[str, int] = {
    "image": 10 * _MB,
    "document": 15 * _MB,
    "audio": 50 * _MB,
    "video": 100 * _MB,
    "custom": 15 * _MB,
}
"""The maximum size of an upload by type of file, in bytes; part of `/v1/parameters`."""

_ASK_SECONDS = 5.0
_MAX_NAME = 200
_MAX_EXTENSION = 20
_BAD_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_OWN_PATH = re.compile(r"/files/(?:tools/)?(?P<id>[0-9a-fA-F-]{36})(?:/file-preview|\.[A-Za-z0-9]+)?")
_TYPES = frozenset({"image", "document", "audio", "video", "custom"})
_MISMATCH = "Detected file type does not match the specified type. Please verify the file."


def limit_for(extension: str) -> int:
    """The maximum size in bytes of an upload with this extension (with or without its dot)."""
    return UPLOAD_LIMITS[kind_of(f".{extension.lstrip('.')}", "")]


class FileStore:
    """Implements `ports.services.Files`.

    `blobs` has the content; `secret` signs URLs; `public_url` is the base URL of this server for clients (or a
    function that returns it); `clock` returns seconds since the epoch; `lifetime` is how many seconds a signed URL is
    valid, None for ever.
    """

    def __init__(
        self,
        blobs: FileBlobs,
        catalog: Catalog,
        secret: bytes,
        http: Http,
        public_url: Callable[[], str] | str,
        clock: Callable[[], float] = time.time,
        lifetime: float | None = None,
    ) -> None:
        self.blobs = blobs
        self._catalog = catalog
        self._secret = secret
        self._http = http
        self._public_url = public_url
        self._clock = clock
        self._lifetime = lifetime

    # ------------------------------------------------------------------------------------------------ storing

    async def save(
        self,
        data: bytes | IO[bytes],
        *,
        filename: str,
        mime_type: str,
        transfer_method: str = "tool_file",
        app: str | None = None,
        owner: str | None = None,
    ) -> File:
        """See `Files.save`. An upload (`local_file`) keeps its name, cut to 200 characters; InvalidParam if it has
        characters that file systems do not allow. Without a name a file gets a random one with the usual extension."""
        if transfer_method == "local_file" and _BAD_IN_NAMES.search(filename):
            raise InvalidParam("Filename contains invalid characters")
        mime_type = essence(mime_type)
        if not (mime_type and mime_type.isascii() and mime_type.isprintable()):  # it is sent in a header
            mime_type = guess_type(filename) or "application/octet-stream"
        filename = filename.encode("utf-8", "replace").decode()
        filename = filename or f"{uuid.uuid4().hex}{guess_extension(mime_type) or '.bin'}"
        extension = extension_of(filename)[:_MAX_EXTENSION]
        if len(filename) > _MAX_NAME:
            filename = filename[: _MAX_NAME - len(extension)] + extension
        now = self._clock()
        key = str(uuid.uuid4())
        size = len(data) if isinstance(data, bytes) else data.seek(0, os.SEEK_END)
        if not isinstance(data, bytes):
            data.seek(0)
        file = File(
            type=kind_of(extension, mime_type),
            transfer_method=transfer_method,
            filename=filename,
            extension=extension or ".",
            mime_type=mime_type,
            size=size,
            related_id=key,
        )
        await self.blobs.write(key, data, mime_type)
        try:
            await self._catalog.add_file(StoredFile(key, file, app, owner, now))
        except BaseException:
            await self.blobs.delete(key)
            raise
        return self._signed(file, now)

    async def open(self, file_id: str) -> tuple[StoredFile, Path | RemoteContent]:
        """(a stored file with new URLs, its content). NotFound if there is none."""
        row = await self._find(file_id)
        content = await self.blobs.open(row.id) if row else None
        if row is None or content is None:
            raise NotFound("File not found")
        return replace(row, file=self._signed(row.file, row.created_at)), content

    async def read(self, file: File, max_size: int = 100 * _MB) -> bytes:
        """See `Files.read`."""
        key = file.related_id or self._own(file.remote_url or file.url)
        if key is not None:
            row = await self._find(key)
            if row is None:
                raise NodeError(f"File '{file.filename}' ({key}) is not stored here.", "FileFetchError")
            if row.file.size > max_size:
                raise _too_large(file, max_size)
            try:
                return await self.blobs.read(row.id)
            except (OSError, FileStorageError) as error:
                problem = str(error) if isinstance(error, FileStorageError) else error.strerror or error
                reason = f"File '{file.filename}' ({key}) cannot be read: {problem}"
                raise NodeError(reason, "FileFetchError") from error
        url = file.remote_url or file.url
        if not url:
            raise NodeError(f"File '{file.filename}' has neither a stored content nor a URL.", "FileFetchError")
        response = await self._http.send(HttpRequest("GET", url, max_size=max_size))
        if response.status >= 400:
            raise NodeError(
                f"File '{file.filename}' cannot be fetched: HTTP status {response.status}", "FileFetchError"
            )
        return response.body

    async def _find(self, key: str) -> StoredFile | None:
        id_ = canonical_id(key)
        return await self._catalog.find_file(id_) if id_ else None

    async def _use(self, key: str) -> StoredFile | None:
        """Like `_find`, for a run that is going to use the file, which is recorded."""
        row = await self._find(key)
        return row if row and await self.blobs.touch(row.id) else None

    # ------------------------------------------------------------------------------------------------ signing

    def verify(self, file_id: str, timestamp: str, nonce: str, sign: str) -> bool:
        """Whether a URL with these parameters was signed here, and has not expired (see `lifetime`)."""
        if not hmac.compare_digest(self._sign(file_id, timestamp, nonce).encode(), sign.encode("utf-8", "replace")):
            return False
        return self._lifetime is None or self._clock() - int(timestamp) <= self._lifetime

    def _sign(self, key: str, timestamp: str, nonce: str) -> str:
        message = f"file-preview|{key}|{timestamp}|{nonce}".encode("utf-8", "replace")
        return base64.urlsafe_b64encode(hmac.digest(self._secret, message, hashlib.sha256)).decode()

    def _url(self, file: File, at: float) -> str:
        key = file.related_id or ""
        timestamp, nonce = str(int(at)), secrets.token_hex(16)
        query = {"timestamp": timestamp, "nonce": nonce, "sign": self._sign(key, timestamp, nonce)}
        if file.transfer_method == "tool_file":
            extension = file.extension if re.fullmatch(r"\.[a-z0-9]+", file.extension or "") else ".bin"
            return f"{self._base()}/files/tools/{key}{extension}?{urlencode(query, safe='=')}"
        return f"{self._base()}/files/{key}/file-preview?{urlencode(query)}"

    def _signed(self, file: File, created_at: float) -> File:
        """The file with new URLs. An upload's `remote_url` has the time of the upload."""
        url = self._url(file, self._clock())
        remote = None if file.transfer_method == "tool_file" else self._url(file, created_at)
        return replace(file, remote_url=remote, url=url)

    def _base(self) -> str:
        base = self._public_url if isinstance(self._public_url, str) else self._public_url()
        return base.rstrip("/")

    def _own(self, url: str | None) -> str | None:
        """The id of the stored file in a validly signed URL of this server; None for other URLs."""
        if not url or not url.startswith(f"{self._base()}/files/"):
            return None
        match = _OWN_PATH.fullmatch(url[len(self._base()) :].partition("?")[0])
        if match is None:
            return None
        query = parse_qs(urlsplit(url).query)
        timestamp, nonce, sign = (query.get(name, [""])[0] for name in ("timestamp", "nonce", "sign"))
        return match["id"] if self.verify(match["id"], timestamp, nonce, sign) else None

    # ---------------------------------------------------------------------------------------------- resolving

    async def resolve(self, mapping: Mapping[str, Value], app: str | None = None, owners: Collection[str] = ()) -> File:
        """See `Files.resolve`. With `app` and `owners`, files of other apps and of other end users count as unknown."""
        method = mapping.get("transfer_method")
        if not method:
            raise InvalidParam("transfer_method is required in file mapping")
        file_type = mapping.get("type")
        if file_type and not (isinstance(file_type, str) and file_type in _TYPES):
            raise InvalidParam(f"Invalid file type: {file_type}")
        upload = mapping.get("upload_file_id")
        match method:
            case "local_file":
                return await self._stored(upload, "local_file", file_type or "custom", app, owners)
            case "tool_file":
                return await self._stored(mapping.get("tool_file_id"), "tool_file", file_type, app, owners)
            case "remote_url":
                if upload:
                    file = await self._stored(upload, "local_file", file_type, app, owners)
                    return replace(file, transfer_method="remote_url", remote_url=file.url)
                url = mapping.get("url") or mapping.get("remote_url")
                if not url or not isinstance(url, str):
                    raise InvalidParam("Invalid file url")
                return await self._remote(url, file_type)
            case _:
                raise InvalidParam(f"Invalid file transfer method: {method}")

    async def _stored(
        self, key: Value, method: str, file_type: str | None, app: str | None, owners: Collection[str]
    ) -> File:
        unknown = f"ToolFile {key} not found" if method == "tool_file" else "Invalid upload file"
        if not key:
            raise InvalidParam(unknown if method == "tool_file" else "Invalid upload file id")
        if not isinstance(key, str) or canonical_id(key) is None:
            raise InvalidParam(unknown if method == "tool_file" else "Invalid upload file id format")
        row = await self._use(key)
        if row is None or row.file.transfer_method != method or (app and row.app and row.app != app):
            raise InvalidParam(unknown)
        if owners and row.owner and row.owner not in owners:
            raise InvalidParam(unknown)
        file = self._signed(row.file, row.created_at)
        return replace(file, type=_checked(file.type, file_type))

    async def _remote(self, url: str, file_type: str | None) -> File:
        if (own := self._own(url)) and (row := await self._use(own)):  # no request to this server itself
            file = replace(row.file, transfer_method="remote_url", related_id=None, remote_url=url, url=url)
            return replace(file, type=_checked(file.type, file_type))
        if not url.startswith(("http://", "https://")):
            raise InvalidParam(f"Invalid file url: {url[:200]} does not start with http:// or https://")
        try:
            filename = basename(urlsplit(url).path)
        except ValueError as error:  # such as an unclosed bracket around the host
            raise InvalidParam(f"Invalid file url: {url[:200]} ({error})") from None
        mime_type = guess_type(filename)
        size = -1
        response = await self._ask(url)
        if response is not None and response.status == 200:
            headers = {name.lower(): value for name, value in reversed(response.headers)}
            filename = parse_disposition(headers.get("content-disposition", "")).filename or filename
            mime_type = guess_type(filename) or essence(headers.get("content-type", ""))
            length = headers.get("content-length", "")
            size = int(length) if length.isascii() and length.isdigit() else -1
        named_extension = extension_of(filename)
        extension = (
            named_extension
            if named_extension and mime_type in UNSPECIFIC
            else guess_extension(mime_type) or named_extension or ".bin"
        )
        if not filename:
            filename = f"{uuid.uuid4().hex}{extension}"
            mime_type = mime_type or guess_type(filename)
        kind = kind_of(extension, mime_type)
        return File(
            type=_checked(kind, file_type),
            transfer_method="remote_url",
            filename=filename,
            extension=extension,
            mime_type=mime_type,
            size=size,
            remote_url=url,
            url=url,
        )

    async def _ask(self, url: str) -> HttpResponse | None:
        """The response of a remote file's server to HEAD; None if egress to it is refused (a model may still fetch the
        file itself). InvalidParam if it cannot be reached."""
        request = HttpRequest("HEAD", url, connect_timeout=_ASK_SECONDS, read_timeout=_ASK_SECONDS, max_size=_MB)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await self._http.send(request)
        except TimeoutError:
            raise InvalidParam(f"The file at {url[:200]} cannot be reached: no answer within 5 s") from None
        except NodeError as error:
            if error.kind == "EgressRefused":
                return None
            raise InvalidParam(f"The file at {url[:200]} cannot be reached: {error}") from error


def _checked(actual: str, kind: str | None) -> str:
    """The detected type. InvalidParam if another one is declared, except custom."""
    if kind and kind not in (actual, "custom"):
        raise InvalidParam(_MISMATCH)
    return actual


def _too_large(file: File, max_size: int) -> NodeError:
    return NodeError(f"File '{file.filename}' is larger than {max_size / _MB:.2f} MB.", "FileFetchError")
