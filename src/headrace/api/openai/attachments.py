"""Images and files of OpenAI's requests, as files of a run."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from headrace.api.auth import Api
from headrace.api.dify.upload_rules import Uploads
from headrace.api.http.errors import BadParameter, file_too_large
from headrace.content.filetypes import extension_of, guess_extension, guess_type, kind_of
from headrace.errors import NotFound
from headrace.frozen import frozen
from headrace.ports import App, EndUser
from headrace.values import Value


@frozen
class Attachment:
    """A part of a message that is not text: a URL, bytes, or the id of an uploaded file."""

    is_image: bool
    url: str = ""
    data: bytes = b""
    mime_type: str = ""
    filename: str = ""
    file_id: str = ""

    @classmethod
    def of_url(cls, url: str, where: str, *, is_image: bool, filename: str = "") -> Attachment:
        """From a URL, which may be a data URL. BadParameter where it is not valid."""
        if not url.startswith("data:"):
            return cls(is_image, url=url)
        head, _, data = url[len("data:") :].partition(",")
        mime_type, *more = head.lower().split(";")
        if (is_image and not mime_type.startswith("image/")) or "base64" not in more:
            kind = "image/png" if is_image else "application/pdf"
            raise BadParameter(f"A data URL must be like data:{kind};base64,...", where)
        return cls.of_base64(data, where, mime_type, is_image=is_image, filename=filename)

    @classmethod
    def of_base64(cls, data: str, where: str, mime_type: str, *, is_image: bool, filename: str) -> Attachment:
        try:
            content = base64.b64decode(data, validate=True)
        except ValueError:  # also of letters that are not ASCII
            raise BadParameter("The data URL is not valid base64.", where) from None
        subtype = mime_type.partition("/")[2].partition("+")[0]
        name = filename or (f"image.{subtype}" if is_image else f"file{guess_extension(mime_type) or '.bin'}")
        return cls(is_image, data=content, mime_type=mime_type or guess_type(name), filename=name)

    async def mapping(self, api: Api, app: App, end_user: EndUser) -> Mapping[str, Value]:
        """As in requests of Dify's API; one whose bytes are in the request is stored."""
        if self.data:
            limit = api.upload_limit(extension_of(self.filename))
            if len(self.data) > limit:
                raise file_too_large(limit)
            file = await api.files.save(
                self.data,
                filename=self.filename,
                mime_type=self.mime_type,
                transfer_method="local_file",
                app=app.id,
                owner=end_user.id,
            )
            kind = "image" if self.is_image else file.type
            return {"type": kind, "transfer_method": "local_file", "upload_file_id": file.related_id}
        if self.file_id:
            kind = "image" if self.is_image else await self._kind_of_upload(api)
            return {"type": kind, "transfer_method": "local_file", "upload_file_id": self.file_id}
        kind = "image" if self.is_image else kind_of(extension_of(urlsplit(self.url).path), "")
        return {"type": kind, "transfer_method": "remote_url", "url": self.url}

    async def _kind_of_upload(self, api: Api) -> str:
        try:
            return (await api.files.open(self.file_id))[0].file.type
        except NotFound:  # which is reported as any id of another app's file: when the run is submitted
            return "custom"


def with_files(
    files: Sequence[Mapping[str, Value]],
    form: Sequence[Mapping[str, Value]],
    inputs: Mapping[str, Value],
    uploads: Uploads,
    param: str,
) -> tuple[dict[str, Value], Sequence[Mapping[str, Value]]]:
    """(inputs, files) with the files in the first fields of the form that take their type and are free; else, where the
    app takes files, beside the inputs. BadParameter where the app takes none."""
    new_inputs, rest = dict(inputs), list(files)
    for entry in form:
        for kind, field in entry.items():
            fitting = [file for file in rest if file["type"] in (field.get("allowed_file_types") or [file["type"]])]
            if not fitting or field["variable"] in new_inputs or kind not in ("file", "file-list"):
                continue
            some = fitting[:1] if kind == "file" else fitting
            new_inputs[field["variable"]] = some[0] if kind == "file" else some
            rest = [file for file in rest if file not in some]
    if rest and not uploads.are_enabled:
        what = "images" if all(file["type"] == "image" for file in rest) else "files"
        raise BadParameter(f"This app takes no {what}.", param, "unsupported_content")
    return new_inputs, uploads.accepted(rest)
