"""Types of files, and whether bytes are text."""

from __future__ import annotations

import pytest

from headrace.content.filetypes import (
    extension_of,
    guess_extension,
    guess_type,
    is_plain_utf8,
    is_text_type,
    kind_of,
    type_by_content,
)

OOXML = "application/vnd.openxmlformats-officedocument"


@pytest.mark.parametrize(
    ("extension", "mime_type", "kind"),
    [
        ("docx", f"{OOXML}.wordprocessingml.document", "document"),
        ("xlsx", f"{OOXML}.spreadsheetml.sheet", "document"),
        ("pptx", f"{OOXML}.presentationml.presentation", "custom"),
        ("doc", "application/msword", "custom"),
        ("xls", "application/vnd.ms-excel", "document"),
        ("pdf", "application/pdf", "document"),
        ("epub", "application/epub+zip", "custom"),
        ("md", "text/markdown", "document"),
        ("csv", "text/csv", "document"),
        ("html", "text/html", "document"),
        ("txt", "text/plain", "document"),
        ("vtt", "text/vtt", "document"),
        ("json", "application/json", "custom"),
        ("yaml", "application/yaml", "custom"),
        ("xml", "application/xml", "custom"),
        ("xhtml", "application/xhtml+xml", "custom"),
        ("svg", "image/svg+xml", "image"),
        ("webp", "image/webp", "image"),
        ("jpg", "image/jpeg", "image"),
        ("png", "image/png", "image"),
        ("heic", "image/heic", "image"),
        ("m4a", "audio/mp4", "audio"),
        ("mp3", "audio/mpeg", "audio"),
        ("wav", "audio/x-wav", "audio"),
        ("amr", "audio/amr", "audio"),
        ("mp4", "video/mp4", "video"),
        ("mov", "video/quicktime", "video"),
        ("webm", "video/webm", "video"),
        ("mpeg", "video/mpeg", "video"),
        ("7z", "application/x-7z-compressed", "custom"),
        ("rar", "application/vnd.rar", "custom"),
        ("zip", "application/zip", "custom"),
        ("gz", "application/gzip", "custom"),
        ("bin", "application/octet-stream", "custom"),
    ],
)
def test_an_extension_and_its_type(extension: str, mime_type: str, kind: str) -> None:
    assert guess_type(f"A name.{extension.upper()}") == mime_type
    assert guess_extension(mime_type) == guess_extension(f"{mime_type.upper()}; charset=x") == f".{extension}"
    assert kind_of(f".{extension.upper()}", mime_type) == kind


@pytest.mark.parametrize(
    ("name", "mime_type"),
    [
        ("a.jpeg", "image/jpeg"),
        ("a.yml", "application/yaml"),
        ("a.markdown", "text/markdown"),
        ("a.mpga", "audio/mpeg"),
        ("a.tar.gz", "application/gzip"),
        ("a", ""),
        (".docx", ""),
        ("a.", ""),
        ("a.nonsense", ""),
        ("", ""),
    ],
)
def test_types_of_names(name: str, mime_type: str) -> None:
    assert guess_type(name) == mime_type


def test_other_names_of_a_type() -> None:
    for alias, extension in {
        "image/jpg": ".jpg",
        "audio/mp3": ".mp3",
        "audio/x-m4a": ".m4a",
        "application/x-yaml": ".yaml",
        "text/xml": ".xml",
        "application/javascript": ".js",
        "application/x-zip-compressed": ".zip",
        "application/x-rar-compressed": ".rar",
        "application/csv": ".csv",
        "application/x-pdf": ".pdf",
    }.items():
        assert guess_extension(alias) == extension
    assert extension_of("A.TXT") == ".txt"


@pytest.mark.parametrize(
    ("mime_type", "text"),
    [
        ("text/plain", True),
        ("TEXT/HTML; charset=UTF-8", True),
        ("application/json", True),
        ("application/problem+json", True),
        ("application/vnd.api+json; ext=x", True),
        ("application/xhtml+xml", True),
        ("application/atom+xml", True),
        ("application/x-javascript", True),
        ("application/x-ndjson", True),
        ("application/yaml", True),
        ("application/vnd.yaml", True),
        ("application/graphql", True),
        ("application/x-www-form-urlencoded", True),
        ("image/svg+xml", True),
        (f"{OOXML}.wordprocessingml.document", False),
        (f"{OOXML}.spreadsheetml.sheet", False),
        (f"{OOXML}.presentationml.presentation", False),
        ("application/epub+zip", False),
        ("application/pdf", False),
        ("text/rtf", False),
        ("application/octet-stream", False),
        ("image/png", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_which_types_are_text(mime_type: str, text: bool) -> None:
    assert is_text_type(mime_type) is text


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (b"%PDF-1.4\n1 0 obj <<", "application/pdf"),
        (b"{\\rtf1\\ansi", "application/rtf"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF89a", "image/gif"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/x-wav"),
        (b"\0\0\0 ftypM4A ", "audio/mp4"),
        (b"\0\0\0 ftypisom", "video/mp4"),
        (b"PK\x03\x04" + b"\0" * 26 + b"a.txt", "application/zip"),
        (b"PK\x03\x04" + b"\0" * 26 + b"word/document.xml", f"{OOXML}.wordprocessingml.document"),
        (b"PK\x03\x04" + b"\0" * 99999 + b"xl/workbook.xml", f"{OOXML}.spreadsheetml.sheet"),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/epub+zip", "application/epub+zip"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (b"Rar!\x1a\x07\x00", "application/vnd.rar"),
        (b"\x1f\x8b\x08", "application/gzip"),
        (b"GIF is a format", ""),
        (b"RIFF", ""),
        (b"PK", ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_types_by_content(data: bytes, mime_type: str) -> None:
    assert type_by_content(data) == mime_type


def test_plain_utf_8() -> None:
    assert is_plain_utf8("漢字".encode() * 5000)  # the sample ends in mid-character
    assert is_plain_utf8(b"")
    assert not is_plain_utf8("漢".encode()[:-1])
    assert not is_plain_utf8(b"a\0b")
    assert not is_plain_utf8(b"\xff")
