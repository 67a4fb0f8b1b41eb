"""Files: uploaded, and downloaded with the app's key or by a signed URL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from headrace.api.auth import Api, as_uuid, flag
from headrace.api.dify import examples
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.dify.schemas.app import EndUser, UploadedFile
from headrace.api.http.errors import (
    end_user_not_found,
    file_not_found,
    file_too_large,
    no_file_uploaded,
    no_filename,
    unsupported_file_type,
)
from headrace.api.http.json import iso
from headrace.api.http.multipart import Form, form_of
from headrace.api.http.responses import json_response
from headrace.api.http.routing import TEXT_SCHEMA, Operation, parameter
from headrace.api.http.schema import BINARY, UPLOAD, Media
from headrace.errors import Forbidden, NotFound, RequestError
from headrace.ports import StoredFile

# Types that a browser may display, since they cannot run anything in our origin.
_SHOWN = frozenset({"application/pdf", "image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp"})
_SHOWN_KINDS = ("audio/", "video/")
_TEXT = frozenset({"text/plain", "text/csv", "text/markdown", "application/json"})
_SVG = "image/svg+xml"  # may be embedded (an <img> runs no scripts), but opens as a download
_BINARY = "application/octet-stream"
_FILE = Media(None, "...", _BINARY, BINARY)
_AS_ATTACHMENT = parameter(
    "query", "as_attachment", "To be saved, not displayed", {"type": "boolean", "default": False}
)
_SIGNATURE = tuple(parameter("query", name, "From the URL", TEXT_SCHEMA) for name in ("timestamp", "nonce", "sign"))


class FileRoutes:
    """`/v1/files/...`, `/v1/end-users/{id}`, and the signed `/files/...`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        # the largest of all kinds: which kind a file is of is known only once the body comes
        self._largest = max(api.options.limit_for(extension) for extension in (".png", ".mp3", ".mp4", ".txt", ""))

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                "POST",
                "/files/upload",
                self.upload,
                id="uploadFile",
                tag="Files",
                summary="Upload a file",
                description="A run takes its `id` as `upload_file_id`, with the `transfer_method` local_file.",
                body=UPLOAD,
                response={201: Media(UploadedFile, examples.UPLOADED_FILE)},
                errors=(no_file_uploaded(), no_filename(), file_too_large(15 * 1024 * 1024), unsupported_file_type()),
            ),
            Operation(
                "GET",
                "/files/{file_id}/preview",
                self.preview,
                id="previewFile",
                tag="Files",
                summary="Download a file",
                description="The bytes of an uploaded file, or a range of them. What a browser could run is sent as an "
                "attachment.",
                parameters=(_AS_ATTACHMENT, parameter("query", "user", "Accepted, and of no effect", TEXT_SCHEMA)),
                response=_FILE,
                errors=(file_not_found(),),
            ),
            Operation(
                "GET",
                "/end-users/{end_user_id}",
                self.end_user,
                id="getEndUser",
                tag="Files",
                summary="Get an end user",
                description="The end user of an id such as `created_by`.",
                response=Media(EndUser, examples.END_USER_DETAIL),
                errors=(end_user_not_found(),),
            ),
        )

    def signed_operations(self) -> Sequence[Operation]:
        """What needs no key, since its URL is signed."""
        return (
            Operation(
                "GET",
                "/files/{file_id}/file-preview",
                self.signed,
                id="signedFile",
                tag="Files",
                summary="Download a file by its signed URL",
                description="Needs no key.",
                parameters=(*_SIGNATURE, _AS_ATTACHMENT),
                response=_FILE,
                errors=(NotFound("File not found or signature is invalid"),),
            ),
            Operation(
                "GET",
                "/files/tools/{name}",
                self.signed_tool,
                id="signedToolFile",
                tag="Files",
                summary="Download a node's file by its signed URL",
                description="Needs no key.",
                parameters=(*_SIGNATURE, _AS_ATTACHMENT),
                response=_FILE,
                errors=(Forbidden("Invalid request."), file_not_found()),
            ),
        )

    # ------------------------------------------------------------------------------------------------------- upload

    async def upload(self, request: Request) -> Response:
        """Stores one file; of several the first, as Dify does."""
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
        response: UploadedFile = {
            "id": stored.id,
            "name": file.filename or "",
            "size": file.size,
            "extension": (file.extension or "").lstrip("."),
            "mime_type": file.mime_type or "",
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
        return json_response(response, 201)

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
        id_ = as_uuid(request.path_params["end_user_id"], end_user_not_found())
        end_user = await self.api.apps.catalog.find_end_user(id_)
        if end_user is None or end_user.app != served.app.id:
            raise end_user_not_found()
        response: EndUser = {
            "id": end_user.id,
            "tenant_id": None,
            "app_id": end_user.app,
            "type": "service-api",
            "external_user_id": end_user.session,
            "name": None,
            "is_anonymous": end_user.session == ANONYMOUS,
            "session_id": end_user.session,
            "created_at": iso(end_user.created_at),
            "updated_at": iso(end_user.updated_at),
        }
        return json_response(response)


def _presented(stored: StoredFile, *, attachment: bool) -> tuple[str, str]:
    """(Content-Type, Content-Disposition's type) of a stored file. What could run in our origin is only saved."""
    mime_type = stored.file.mime_type or _BINARY
    if attachment:
        return _BINARY, "attachment"
    if mime_type in _SHOWN or mime_type.startswith(_SHOWN_KINDS):
        return mime_type, "inline"
    if mime_type in _TEXT:
        return f"{mime_type}; charset=utf-8", "inline"
    return (mime_type if mime_type == _SVG else _BINARY), "attachment"
