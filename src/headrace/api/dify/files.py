"""Files: uploaded, and downloaded with the app's key or by a signed URL."""

from __future__ import annotations

from pathlib import Path, PurePath

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from headrace.api.auth import Api, as_uuid
from headrace.api.dify import examples
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.dify.schemas.app import EndUser, UploadedFile
from headrace.api.http.content_response import ContentResponse
from headrace.api.http.errors import (
    end_user_not_found,
    file_not_found,
    file_too_large,
    no_file_uploaded,
    no_filename,
    unsupported_file_type,
)
from headrace.api.http.multipart import Form, form_of
from headrace.api.http.params import boolean, text
from headrace.api.http.responses import iso, json_response
from headrace.api.http.routing import Operation, Routes
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
_AS_ATTACHMENT = boolean("as_attachment", "To be saved, not displayed")
_SIGNATURE = tuple(text(name, "From the URL") for name in ("timestamp", "nonce", "sign"))


class FileRoutes(Routes):
    """`/v1/files/...`, `/v1/end-users/{id}`, and the signed `/files/...`."""

    tag = "Files"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        # the largest of all kinds: which kind a file is of is known only once the body comes
        self._largest = max(api.options.limit_for(extension) for extension in (".png", ".mp3", ".mp4", ".txt", ""))

    # ------------------------------------------------------------------------------------------------------- upload

    @Operation(
        "POST",
        "/files/upload",
        {201: Media(UploadedFile, examples.UPLOADED_FILE)},
        body=UPLOAD,
        errors=(no_file_uploaded(), no_filename(), file_too_large(15 * 1024 * 1024), unsupported_file_type()),
    )
    async def upload_file(self, request: Request) -> Response:
        """Upload a file.

        A run takes its `id` as `upload_file_id`, with the `transfer_method` local_file.
        """
        release = await self.api.authenticate(request)
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise no_file_uploaded()
        form = await self._form(request)
        with form.file:
            end_user = await self.api.caller(release.app, form.fields.get("user"))
            if form.filename is None:
                raise no_file_uploaded()
            if not form.filename:
                raise no_filename()
            if not form.content_type:
                raise unsupported_file_type()
            file = await self.api.files.save(
                form.file,
                filename=form.filename,
                mime_type=form.content_type,
                transfer_method="local_file",
                app=release.app.id,
                owner=end_user.id,
            )
        file_row, _ = await self.api.files.open(file.related_id or "")
        response: UploadedFile = {
            "id": file_row.id,
            "name": file.filename or "",
            "size": file.size,
            "extension": (file.extension or "").lstrip("."),
            "mime_type": file.mime_type or "",
            "created_by": end_user.id,
            "created_at": int(file_row.created_at),
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

    @Operation(
        "GET",
        "/files/{file_id}/preview",
        _FILE,
        parameters=(_AS_ATTACHMENT, text("user", "Accepted, and of no effect")),
        errors=(file_not_found(),),
    )
    async def preview_file(self, request: Request) -> Response:
        """Download a file.

        The bytes of an uploaded file, or a range of them. What a browser could run is sent as an attachment.
        """
        release = await self.api.authenticate(request)
        return await self._file(request, request.path_params["file_id"], file_not_found(), release.app.id)

    @Operation(
        "GET",
        "/files/{file_id}/file-preview",
        _FILE,
        public=True,
        parameters=(*_SIGNATURE, _AS_ATTACHMENT),
        errors=(NotFound("File not found or signature is invalid"),),
    )
    async def signed_file(self, request: Request) -> Response:
        """Download a file by its signed URL.

        Needs no key.
        """
        unknown = NotFound("File not found or signature is invalid")
        return await self._signed(request, request.path_params["file_id"], unknown)

    @Operation(
        "GET",
        "/files/tools/{name}",
        _FILE,
        public=True,
        parameters=(*_SIGNATURE, _AS_ATTACHMENT),
        errors=(Forbidden("Invalid request."), file_not_found()),
    )
    async def signed_tool_file(self, request: Request) -> Response:
        """Download a node's file by its signed URL.

        Needs no key.
        """
        return await self._signed(request, request.path_params["name"].partition(".")[0], Forbidden("Invalid request."))

    async def _signed(self, request: Request, file_id: str, refusal: RequestError) -> Response:
        timestamp, nonce, sign = (parameter.of(request) or "" for parameter in _SIGNATURE)
        if not self.api.files.verify(as_uuid(file_id, refusal), timestamp, nonce, sign):
            raise refusal
        return await self._file(request, file_id, file_not_found())

    async def _file(self, request: Request, file_id: str, unknown: RequestError, app: str | None = None) -> Response:
        """The bytes of a stored file, of that app if one is given; also parts of it (Range)."""
        try:
            file, content = await self.api.files.open(as_uuid(file_id, unknown))
        except NotFound:
            raise unknown from None
        if app is not None and file.app != app:
            raise unknown
        mime_type, disposition = _presented(file, attachment=_AS_ATTACHMENT.of(request))
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            "Cache-Control": "private, max-age=3600",
        }
        name = file.file.filename or file.id
        if not isinstance(content, Path):
            return ContentResponse(content, headers, mime_type, name, disposition)
        return FileResponse(
            content, headers=headers, media_type=mime_type, filename=name, content_disposition_type=disposition
        )

    @Operation(
        "GET", "/end-users/{end_user_id}", Media(EndUser, examples.END_USER_DETAIL), errors=(end_user_not_found(),)
    )
    async def get_end_user(self, request: Request) -> Response:
        """Get an end user.

        The end user of an id such as `created_by`.
        """
        release = await self.api.authenticate(request)
        id_ = as_uuid(request.path_params["end_user_id"], end_user_not_found())
        end_user = await self.api.apps.catalog.find_end_user(id_)
        if end_user is None or end_user.app != release.app.id:
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


def _presented(file: StoredFile, *, attachment: bool) -> tuple[str, str]:
    """(Content-Type, Content-Disposition's type) of a stored file. What could run in our origin is only saved."""
    mime_type = file.file.mime_type or _BINARY
    if attachment:
        return _BINARY, "attachment"
    if mime_type in _SHOWN or mime_type.startswith(_SHOWN_KINDS):
        return mime_type, "inline"
    if mime_type in _TEXT:
        return f"{mime_type}; charset=utf-8", "inline"
    return (mime_type if mime_type == _SVG else _BINARY), "attachment"
