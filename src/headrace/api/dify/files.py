"""Files: taken in, shown to who has the app's key, and handed out to who holds a signed URL."""

from __future__ import annotations

import asyncio
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from headrace.api import openapi
from headrace.api.auth import Api, as_uuid, flag
from headrace.api.dify import run_docs
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.errors import (
    end_user_not_found,
    file_not_found,
    file_too_large,
    no_file_uploaded,
    no_filename,
    unsupported_file_type,
)
from headrace.api.http.json import encode, iso
from headrace.api.http.multipart import Form, form_of
from headrace.api.http.routing import OperationList
from headrace.errors import Forbidden, NotFound, RequestError
from headrace.ports import StoredFile

# What a browser may show in place: types that cannot run anything in our origin.
_SHOWN = frozenset({"application/pdf", "image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp"})
_SHOWN_KINDS = ("audio/", "video/")
_TEXT = frozenset({"text/plain", "text/csv", "text/markdown", "application/json"})
_SVG = "image/svg+xml"  # may be embedded (an <img> runs no scripts), but opens as a download
_BINARY = "application/octet-stream"


class FileRoutes:
    """`/v1/files/...`, `/v1/end-users/{id}`, and the signed `/files/...`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        # the largest of all kinds: which kind it is shows only once the body comes
        self._largest = max(api.options.limit_for(each) for each in (".png", ".mp3", ".mp4", ".txt", ""))

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/files/upload", self.upload, methods=["POST"], **run_docs.UPLOAD)
        openapi.add_get(router, "/files/{file_id}/preview", self.preview, run_docs.PREVIEW)
        router.add_api_route("/end-users/{end_user_id}", self.end_user, methods=["GET"], **run_docs.END_USER)

    def add_signed_to(self, router: OperationList) -> None:
        openapi.add_get(router, "/files/{file_id}/file-preview", self.signed, run_docs.SIGNED)
        openapi.add_get(router, "/files/tools/{name}", self.signed_tool, run_docs.SIGNED_TOOL)

    # ------------------------------------------------------------------------------------------------------- upload

    async def upload(self, request: Request) -> Response:
        """Takes one file in; of several the first, as Dify does."""
        served = await self.api.authenticate(request)
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise no_file_uploaded()
        form = await self._form(request)
        with form.file:
            end_user = await self.api.caller(served.app, form.fields.get("user"))
            if form.filename is None:
                raise no_file_uploaded()
            if not form.filename:
                raise no_filename()
            if not form.content_type:
                raise unsupported_file_type()
            file = await self.api.files.save(
                await asyncio.to_thread(form.file.read),
                filename=form.filename,
                mime_type=form.content_type,
                transfer_method="local_file",
                app=served.app.id,
                owner=end_user.id,
            )
        stored, _ = await self.api.files.open(file.related_id or "")
        told = {
            "id": file.related_id,
            "name": file.filename,
            "size": file.size,
            "extension": (file.extension or "").lstrip("."),
            "mime_type": file.mime_type,
            "created_by": end_user.id,
            "created_at": int(stored.created_at),
            "preview_url": None,
            "source_url": file.url,
            "original_url": None,
            "user_id": None,
            "tenant_id": None,
            "conversation_id": None,
            "file_key": None,
            "reference": None,  # of files of agents and tools only
        }
        return Response(encode(told), 201, media_type="application/json")

    async def _form(self, request: Request) -> Form:
        largest = self.api.upload_limit("", self._largest)
        return await form_of(request, largest, file_too_large(largest), self._too_large)

    def _too_large(self, filename: str, size: int) -> RequestError | None:
        limit = self.api.upload_limit(PurePath(filename).suffix)
        return file_too_large(limit) if size > limit else None

    # ------------------------------------------------------------------------------------------------------ hand out

    async def preview(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        return await self._file(request, request.path_params["file_id"], file_not_found(), served.app.id)

    async def signed(self, request: Request) -> Response:
        unknown = NotFound("File not found or signature is invalid")
        return await self._signed(request, request.path_params["file_id"], unknown)

    async def signed_tool(self, request: Request) -> Response:
        return await self._signed(request, request.path_params["name"].partition(".")[0], Forbidden("Invalid request."))

    async def _signed(self, request: Request, file_id: str, refusal: RequestError) -> Response:
        query = request.query_params
        if not self.api.files.verify(
            as_uuid(file_id, refusal), query.get("timestamp", ""), query.get("nonce", ""), query.get("sign", "")
        ):
            raise refusal
        return await self._file(request, file_id, file_not_found())

    async def _file(self, request: Request, file_id: str, unknown: RequestError, app: str | None = None) -> Response:
        """The bytes of a stored file, of that app if one is given; also parts of it (Range)."""
        try:
            stored, path = await self.api.files.open(as_uuid(file_id, unknown))
        except NotFound:
            raise unknown from None
        if app is not None and stored.app != app:
            raise unknown
        mime_type, disposition = _presented(stored, attachment=flag(request, "as_attachment"))
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            "Cache-Control": "private, max-age=3600",
        }
        name = stored.file.filename or stored.id
        return FileResponse(
            path, headers=headers, media_type=mime_type, filename=name, content_disposition_type=disposition
        )

    async def end_user(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        wanted = as_uuid(request.path_params["end_user_id"], end_user_not_found())
        found = await self.api.apps.catalog.find_end_user(wanted)
        if found is None or found.app != served.app.id:
            raise end_user_not_found()
        told = {
            "id": found.id,
            "tenant_id": None,
            "app_id": found.app,
            "type": "service-api",
            "external_user_id": found.session,
            "name": None,
            "is_anonymous": found.session == ANONYMOUS,
            "session_id": found.session,
            "created_at": iso(found.created_at),
            "updated_at": iso(found.updated_at),
        }
        return Response(encode(told), media_type="application/json")


def _presented(stored: StoredFile, *, attachment: bool) -> tuple[str, str]:
    """(Content-Type, Content-Disposition's type) of a stored file. What could act in our origin is only saved."""
    mime_type = stored.file.mime_type or _BINARY
    if attachment:
        return _BINARY, "attachment"
    if mime_type in _SHOWN or mime_type.startswith(_SHOWN_KINDS):
        return mime_type, "inline"
    if mime_type in _TEXT:
        return f"{mime_type}; charset=utf-8", "inline"
    return (mime_type if mime_type == _SVG else _BINARY), "attachment"
