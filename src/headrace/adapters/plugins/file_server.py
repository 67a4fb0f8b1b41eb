"""A server on this machine that plugins fetch files from, and upload files to.

Plugins get their files as URLs. The addresses at which clients reach Headrace may not work from this machine (a proxy,
a private certificate), and a command like `headrace run` has none: so plugins have a server of their own, which starts
when a plugin first needs it. Its URLs cannot be guessed, and end with the call that they were made for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote

from headrace.adapters.plugins.backwards import Caller
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.errors import FileStorageError, HeadraceError, RequestError
from headrace.frozen import frozen
from headrace.ports import RemoteContent, StoredFile
from headrace.ports.services import ToolContext
from headrace.values import FILE_IDENTITY, File, Value, unwrap

if TYPE_CHECKING:
    from aiohttp import web

_LARGEST_UPLOAD = 100 * 1024 * 1024  # bytes
_UPLOAD_SECONDS = 600.0  # that an upload's URL is valid


class StoredFiles(Protocol):
    """What is needed here of the store of files."""

    async def open(self, file_id: str) -> tuple[StoredFile, Path | RemoteContent]:
        """(a stored file, its content). NotFound if there is none."""
        ...

    async def save(
        self, data: bytes, *, filename: str, mime_type: str, app: str | None = None, owner: str | None = None
    ) -> File:
        """Stores a file."""
        ...


@frozen
class _Upload:
    filename: str
    mime_type: str
    context: ToolContext


class FileServer:
    """The server. It listens on an address of this machine only."""

    def __init__(self, files: StoredFiles) -> None:
        self._files = files
        self._downloads: dict[str, File] = {}  # by the secret part of their URL
        self._uploads: dict[str, _Upload] = {}
        self._starting: asyncio.Task[str] | None = None
        self._runner: web.AppRunner | None = None

    @asynccontextmanager
    async def for_plugin(self, parameters: Mapping[str, Value]) -> AsyncGenerator[dict[str, Value]]:
        """Parameters with their files as the objects that a plugin takes, whose URLs are valid for the block."""
        names: list[str] = []
        try:
            yield {name: await self._for_plugin(unwrap(value), names) for name, value in parameters.items()}
        finally:
            for name in names:
                del self._downloads[name]

    async def upload(
        self, plugin: InstalledPlugin, request: Mapping[str, Value], caller: Caller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """Answers calls of the type `upload_file` (see `Handler`): with a URL that takes one file."""
        filename, mime_type = request.get("filename"), request.get("mimetype")
        if not isinstance(filename, str) or not isinstance(mime_type, str) or not filename:
            raise HeadraceError("upload file failed: filename and mimetype must be texts")
        url = await self._url()
        name = secrets.token_urlsafe(32)
        self._uploads[name] = _Upload(filename, mime_type, caller.context)
        asyncio.get_running_loop().call_later(_UPLOAD_SECONDS, self._uploads.pop, name, None)
        yield {"url": f"{url}/upload/{name}"}

    async def aclose(self) -> None:
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if self._runner is not None:
            await self._runner.cleanup()

    async def _for_plugin(self, value: Value, names: list[str]) -> Value:
        match value:
            case File():
                return await self._object(value, names)
            case list():
                return [await self._for_plugin(item, names) for item in cast("list[Value]", value)]
            case dict():
                items = cast("dict[str, Value]", value).items()
                return {name: await self._for_plugin(item, names) for name, item in items}
            case _:
                return value

    async def _object(self, file: File, names: list[str]) -> dict[str, Value]:
        url = file.remote_url or file.url
        if file.related_id:
            name = secrets.token_urlsafe(32)
            url = f"{await self._url()}/files/{name}/{quote(file.filename or 'file', safe='')}"
            self._downloads[name] = file
            names.append(name)
        return {
            "dify_model_identity": FILE_IDENTITY,
            "mime_type": file.mime_type,
            "filename": file.filename,
            "extension": file.extension,
            "size": file.size,
            "type": file.type,
            "url": url,
        }

    # ------------------------------------------------------------------------------------------------- the server

    async def _url(self) -> str:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="files of plugins")
        return await asyncio.shield(self._starting)

    async def _start(self) -> str:
        from aiohttp import web  # takes 0.1 s to import

        application = web.Application(client_max_size=_LARGEST_UPLOAD)
        application.router.add_get("/files/{name}/{filename}", self._download)
        application.router.add_post("/upload/{name}", self._receive)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _download(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        file = self._downloads.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        try:
            _, content = await self._files.open(file.related_id or "")
        except FileStorageError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from None
        except RequestError:
            raise web.HTTPNotFound from None
        headers = {"Content-Type": file.mime_type or "application/octet-stream"}
        if isinstance(content, Path):
            return web.FileResponse(content, headers=headers)
        response = web.StreamResponse(headers=headers | {"Content-Length": str(content.size)})
        await response.prepare(request)
        async with aclosing(content.read(0, content.size)) as pieces:
            async for piece in pieces:
                await response.write(piece)
        return response

    async def _receive(self, request: web.Request) -> web.Response:
        from aiohttp import web

        upload = self._uploads.get(request.match_info["name"])
        if upload is None:
            raise web.HTTPNotFound
        form = await request.post()
        part: Any = form.get("file")
        if not isinstance(part, web.FileField):
            raise web.HTTPBadRequest(text="the form has no file")
        content = await asyncio.to_thread(part.file.read)
        file = await self._files.save(
            content,
            filename=upload.filename,
            mime_type=upload.mime_type,
            app=upload.context.app or None,
            owner=upload.context.user or None,
        )
        response: dict[str, Value] = {
            "id": file.related_id,
            "name": file.filename,
            "size": file.size,
            "extension": file.extension,
            "mime_type": file.mime_type,
            "preview_url": file.url,
        }
        self._uploads.pop(request.match_info["name"], None)
        return web.json_response(response, status=201)
