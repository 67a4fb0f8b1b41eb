"""Types of files: extension, MIME type and Dify's type in one table; and whether bytes are text.

Types that are not in it come from the standard library's table. The host's tables are not read, so that the same
response makes the same file everywhere.
"""

from __future__ import annotations

import codecs
import os.path
import re
from functools import cache
from mimetypes import MimeTypes
from typing import NamedTuple

OCTET_STREAM = "application/octet-stream"
_OOXML = "application/vnd.openxmlformats-officedocument"
_ODF = "application/vnd.oasis.opendocument"


class _Row(NamedTuple):
    """`extensions`: the usual one first; `aliases`: other names of the MIME type; `dify`: Dify's type for the
    extensions (if empty, it follows from the MIME type)."""

    mime_type: str
    extensions: str
    dify: str = ""
    aliases: str = ""


_ROWS = (
    _Row("image/jpeg", "jpg jpeg", "image", "image/jpg image/pjpeg"),
    _Row("image/png", "png", "image", "image/x-png"),
    _Row("image/webp", "webp", "image"),
    _Row("image/gif", "gif", "image"),
    _Row("image/svg+xml", "svg", "image", "image/svg"),
    _Row("image/bmp", "bmp", "", "image/x-ms-bmp"),
    _Row("image/tiff", "tiff tif"),
    _Row("image/avif", "avif"),
    _Row("image/heic", "heic"),
    _Row("image/vnd.microsoft.icon", "ico", "", "image/x-icon"),
    _Row("video/mp4", "mp4", "video"),
    _Row("video/quicktime", "mov", "video"),
    _Row("video/mpeg", "mpeg", "video"),
    _Row("video/mpeg", "mpg"),
    _Row("video/webm", "webm", "video"),
    _Row("video/x-msvideo", "avi"),
    _Row("video/x-matroska", "mkv"),
    _Row("audio/mpeg", "mp3 mpga", "audio", "audio/mp3 audio/x-mp3"),
    _Row("audio/mp4", "m4a", "audio", "audio/m4a audio/x-m4a"),
    _Row("audio/x-wav", "wav", "audio", "audio/wav audio/wave audio/vnd.wave"),
    _Row("audio/amr", "amr", "audio"),
    _Row("audio/ogg", "ogg oga opus", "", "application/ogg audio/opus"),
    _Row("audio/flac", "flac", "", "audio/x-flac"),
    _Row("audio/aac", "aac"),
    _Row("text/plain", "txt", "document"),
    _Row("text/plain", "text log"),
    _Row("text/markdown", "md markdown mdx", "document", "text/x-markdown"),
    _Row("text/html", "html htm", "document", "text/htm"),
    _Row("text/csv", "csv", "document", "application/csv text/x-csv"),
    _Row("text/vtt", "vtt", "document"),
    _Row("text/properties", "properties", "document", "text/x-java-properties"),
    _Row("text/css", "css"),
    _Row("text/calendar", "ics"),
    _Row("text/javascript", "js mjs", "", "application/javascript application/x-javascript"),
    _Row("application/json", "json", "", "text/json"),
    _Row("application/x-ndjson", "ndjson jsonl", "", "application/jsonl application/jsonlines"),
    _Row("application/xml", "xml", "", "text/xml"),
    _Row("application/xhtml+xml", "xhtml"),
    _Row("application/yaml", "yaml yml", "", "application/x-yaml text/yaml text/x-yaml"),
    _Row("application/toml", "toml"),
    _Row("application/sql", "sql"),
    _Row("application/x-sh", "sh"),
    _Row("application/pdf", "pdf", "document", "application/x-pdf"),
    _Row(f"{_OOXML}.wordprocessingml.document", "docx", "document"),
    _Row(f"{_OOXML}.spreadsheetml.sheet", "xlsx", "document"),
    _Row(f"{_OOXML}.presentationml.presentation", "pptx"),
    _Row("application/vnd.ms-excel.sheet.macroenabled.12", "xlsm"),
    _Row("application/msword", "doc"),
    _Row("application/vnd.ms-excel", "xls", "document"),
    _Row("application/vnd.ms-powerpoint", "ppt"),
    _Row("application/vnd.ms-outlook", "msg"),
    _Row("message/rfc822", "eml"),
    _Row(f"{_ODF}.text", "odt"),
    _Row(f"{_ODF}.spreadsheet", "ods"),
    _Row(f"{_ODF}.presentation", "odp"),
    _Row("application/rtf", "rtf", "", "text/rtf"),
    _Row("application/epub+zip", "epub"),
    _Row("application/zip", "zip", "", "application/x-zip-compressed application/x-zip"),
    _Row("application/gzip", "gz", "", "application/x-gzip"),
    _Row("application/x-7z-compressed", "7z"),
    _Row("application/vnd.rar", "rar", "", "application/x-rar-compressed application/x-rar"),
    _Row("application/x-tar", "tar"),
    _Row("application/vnd.apache.parquet", "parquet"),
    _Row("font/woff", "woff", "", "application/font-woff"),
    _Row("font/woff2", "woff2"),
    _Row("font/ttf", "ttf"),
    _Row(OCTET_STREAM, "bin"),
)
_BY_EXTENSION = {extension: row for row in _ROWS for extension in row.extensions.split()}
_BY_MIME_TYPE = {name: row for row in reversed(_ROWS) for name in (row.mime_type, *row.aliases.split())}

UNSPECIFIC = frozenset(
    {"", OCTET_STREAM, "binary/octet-stream", "application/binary", "application/x-binary", "application/download"}
    | {"application/x-download", "application/force-download", "application/unknown", "unknown/unknown"}
)
"""MIME types that say nothing about the content."""

# Words in a MIME type's name that mean text ("openxmlformats" is one word, and not among them).
_TEXT_WORDS = frozenset(
    {"json", "json5", "jsonl", "jsonlines", "ndjson", "xml", "javascript", "ecmascript", "typescript"}
    | {"yaml", "toml", "graphql", "urlencoded", "sql", "sh"}
)
_WORDS = re.compile(r"[^a-z0-9]+")

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "application/pdf"),
    (b"{\\rtf", "application/rtf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"OggS\0", "audio/ogg"),
    (b"ID3\x03", "audio/mpeg"),
    (b"ID3\x04", "audio/mpeg"),
    (b"fLaC\0", "audio/flac"),
)
# Names of parts that identify a ZIP archive's type; they occur at its beginning and again at its end.
_IN_ARCHIVES: tuple[tuple[bytes, str], ...] = (
    (b"mimetypeapplication/epub+zip", "epub"),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", "odt"),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "ods"),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", "odp"),
    (b"word/document.xml", "docx"),
    (b"xl/workbook.xml", "xlsx"),
    (b"ppt/presentation.xml", "pptx"),
)
_HEAD, _TAIL = 4096, 65536
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@cache
def _standard() -> MimeTypes:
    """The standard library's table, of 0.4 MB: made when a type is not in ours."""
    return MimeTypes()


def extension_of(filename: str) -> str:
    """A name's extension in lower case with its dot; "" if it has none."""
    extension = os.path.splitext(filename)[1].lower()
    return extension if len(extension) > 1 else ""


def essence(mime_type: str) -> str:
    """A MIME type without its parameters, in lower case."""
    return mime_type.partition(";")[0].partition(",")[0].strip().lower()


def guess_type(filename: str) -> str:
    """The MIME type for a name's extension; "" if there is none."""
    extension = extension_of(filename)
    row = _BY_EXTENSION.get(extension[1:])
    return row.mime_type if row else _standard().guess_type(f"name{extension}")[0] or ""


def guess_extension(mime_type: str) -> str:
    """The usual extension of a MIME type, with its dot; "" if it has none."""
    row = _BY_MIME_TYPE.get(essence(mime_type))
    return f".{row.extensions.split()[0]}" if row else _standard().guess_extension(essence(mime_type)) or ""


def kind_of(extension: str, mime_type: str) -> str:
    """image, document, audio, video or custom: by the extension, or else by the MIME type, as in Dify."""
    row = _BY_EXTENSION.get(extension.lower().removeprefix("."))
    if row and row.dify:
        return row.dify
    for kind in ("image", "video", "audio"):
        if kind in mime_type:
            return kind
    return "document" if "text" in mime_type or "pdf" in mime_type else "custom"


def extensions_of(kind: str) -> list[str]:
    """The extensions of files that are image, document, audio or video by their name, with their dots."""
    return [f".{extension}" for extension, row in _BY_EXTENSION.items() if row.dify == kind]


def is_text_type(mime_type: str) -> bool:
    """Whether content of this MIME type is text."""
    mime_type = essence(mime_type)
    row = _BY_MIME_TYPE.get(mime_type)
    main, _, subtype = (row.mime_type if row else mime_type).partition("/")
    return main == "text" or not _TEXT_WORDS.isdisjoint(_WORDS.split(subtype))


def type_by_content(data: bytes) -> str:
    """The MIME type by the first bytes, for a ZIP archive by its parts; "" if unknown."""
    if data.startswith(b"RIFF") and (kind := {b"WEBP": "image/webp", b"WAVE": "audio/x-wav"}.get(data[8:12])):
        return kind
    if data[4:8] == b"ftyp" and data[:3] == b"\0\0\0":
        return {b"M4A ": "audio/mp4", b"avif": "image/avif", b"heic": "image/heic"}.get(data[8:12], "video/mp4")
    mime = next((mime_type for mark, mime_type in _SIGNATURES if data.startswith(mark)), "")
    if mime == "application/zip":
        names = data[:_HEAD] + data[-_TAIL:]
        inside = next((extension for name, extension in _IN_ARCHIVES if name in names), "zip")
        return guess_type(f"name.{inside}")
    return mime


def is_plain_utf8(data: bytes) -> bool:
    """Whether the beginning of the bytes is UTF-8 without control characters."""
    head = data[:_HEAD]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(data) <= _HEAD)
    except UnicodeDecodeError:
        return False
    return not _CONTROLS.search(head)
