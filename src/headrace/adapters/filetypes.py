"""What type of file an extension or a MIME type stands for, as Dify sees it.

The tables are the standard library's own and a few more; those of the host are left alone, so that the same answer
makes the same file everywhere.
"""

from __future__ import annotations

import os.path
from mimetypes import MimeTypes

_IMAGE = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".svg"})
_VIDEO = frozenset({".mp4", ".mov", ".mpeg", ".webm"})
_AUDIO = frozenset({".mp3", ".m4a", ".wav", ".amr", ".mpga"})
_DOCUMENT = frozenset(
    {
        ".txt",
        ".markdown",
        ".md",
        ".mdx",
        ".pdf",
        ".html",
        ".htm",
        ".xlsx",
        ".xls",
        ".vtt",
        ".properties",
        ".docx",
        ".csv",
    }
)

_TABLE = MimeTypes()
for _type, _extension in (
    ("image/webp", ".webp"),
    ("image/avif", ".avif"),
    ("image/heic", ".heic"),
    ("audio/mp4", ".m4a"),
    ("audio/amr", ".amr"),
    ("audio/ogg", ".ogg"),
    ("audio/flac", ".flac"),
    ("video/webm", ".webm"),
    ("text/markdown", ".md"),
    ("text/vtt", ".vtt"),
    ("application/epub+zip", ".epub"),
    ("application/gzip", ".gz"),
    ("application/x-7z-compressed", ".7z"),
    ("application/vnd.rar", ".rar"),
    ("application/yaml", ".yaml"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx"),
):
    _TABLE.add_type(_type, _extension)


def extension_of(filename: str) -> str:
    """A name's extension in lower case with its dot; "" where it has none."""
    extension = os.path.splitext(filename)[1].lower()
    return extension if len(extension) > 1 else ""


def guess_type(filename: str) -> str:
    """The MIME type that goes with a name's extension; "" where none does."""
    return _TABLE.guess_type(f"name{extension_of(filename)}")[0] or ""


def guess_extension(mime_type: str) -> str:
    """The usual extension of a MIME type, with its dot; "" where it has none."""
    return _TABLE.guess_extension(mime_type) or ""


def kind_of(extension: str, mime_type: str) -> str:
    """image, document, audio, video or custom: by the extension, or else by the MIME type."""
    extension = extension.lower()
    for kind, extensions in (("image", _IMAGE), ("video", _VIDEO), ("audio", _AUDIO), ("document", _DOCUMENT)):
        if extension in extensions:
            return kind
    for kind in ("image", "video", "audio"):
        if kind in mime_type:
            return kind
    return "document" if "text" in mime_type or "pdf" in mime_type else "custom"
