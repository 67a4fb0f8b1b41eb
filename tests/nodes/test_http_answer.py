"""What an http-request makes of answers: text or a file, and of which type."""

from __future__ import annotations

import io
import tarfile
import time

import pytest

from headrace.nodes._http_response import ResponseContent
from headrace.ports.services import HttpResponse
from tests.documents.making import packed

OOXML = "application/vnd.openxmlformats-officedocument"
WORD = f"{OOXML}.wordprocessingml.document"
DOCX = packed({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>"})
XLSX = packed({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<workbook/>"})
PPTX = packed({"[Content_Types].xml": b"<Types/>", "ppt/presentation.xml": b"<p/>"})
ZIP = packed({"a.txt": b"a"})
PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n"
RTF = b"{\\rtf1\\ansi Hello}"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a[1].txt"))
    return content.getvalue()


def answer(
    body: bytes, kind: str | None = None, disposition: str | None = None, url: str = "http://x/"
) -> ResponseContent:
    headers = [("Content-Type", kind), ("Content-Disposition", disposition)]
    return ResponseContent(
        HttpResponse(200, [(name, value) for name, value in headers if value is not None], body, url)
    )


@pytest.mark.parametrize(
    ("body", "kind", "extension"),
    [
        (DOCX, WORD, ".docx"),
        (XLSX, f"{OOXML}.spreadsheetml.sheet", ".xlsx"),
        (PPTX, f"{OOXML}.presentationml.presentation", ".pptx"),
        (DOCX, f"{WORD.upper()}; charset=UTF-8", ".docx"),
        (b"not even a ZIP", WORD, ".docx"),
        (PDF, "application/pdf", ".pdf"),
        (RTF, "application/rtf", ".rtf"),
        (RTF, "text/rtf", ".rtf"),
        (ZIP, "application/zip", ".zip"),
        (ZIP, "application/x-zip-compressed", ".zip"),
        (ZIP, "application/epub+zip", ".epub"),
        (tar(), "application/x-tar", ".tar"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed", ".7z"),
        (b"Rar!\x1a\x07\x00", "application/vnd.rar", ".rar"),
        (b"<svg/>", "image/svg+xml", ".svg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", ".webp"),
        (b"\0\0\0 ftypM4A ", "audio/mp4", ".m4a"),
        (b"\0\1\0\0", "font/ttf", ".ttf"),
        # of no type, or of a wrong one
        (DOCX, None, ".docx"),
        (DOCX, "application/octet-stream", ".docx"),
        (XLSX, "binary/octet-stream", ".xlsx"),
        (PPTX, "application/zip", ".zip"),
        (PDF, "text/plain", ".pdf"),
        (PDF, "text/html; charset=utf-8", ".pdf"),
        (PNG, "application/json", ".png"),
        (PNG, "", ".png"),
        (b"\0\1\2\xff", "application/octet-stream", ".bin"),
        (b"\x7fELF\2\1\1\0\0\0\0\xff\xfe\3", "text/plain", ".bin"),
        (b"plain", "application/octet-stream", ".bin"),
    ],
)
def test_files_by_type_and_content(body: bytes, kind: str | None, extension: str) -> None:
    content = answer(body, kind)
    assert (content.is_file, content.extension) == (True, extension)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"x", "text/plain"),
        (b"a,b", "text/csv"),
        (b"# a", "text/markdown"),
        (b"a: 1", "application/yaml"),
        (b"a: 1", "application/x-yaml"),
        (b"{}", "application/json"),
        (b"{}", "APPLICATION/JSON;charset=utf-8"),
        (b"{}", "application/problem+json"),
        (b"{}\n{}", "application/x-ndjson"),
        (b"<a/>", "application/xml"),
        (b"<a/>", "application/atom+xml"),
        (b"<a/>", "application/xhtml+xml"),
        (b"let a", "application/javascript"),
        (b"a=1", "application/x-www-form-urlencoded"),
        (b"Subject: a\n\nb", "message/rfc822"),
        (b'{"error": "no such file"}', "application/octet-stream"),
        (b'{"error": "no such file"}', "application/pdf"),  # what was to be one
        (b"<html>404</html>", "application/zip"),
        (b"plain", "binary/octet-stream"),
        (b"plain", "application/x-unknown"),
        (b"plain", None),
        (b"", None),
        (b"", "application/json"),
        ("naïve".encode("utf-16"), "text/plain"),
        ("naïve".encode("utf-16-le"), "text/plain"),
        ("日本".encode("shift_jis"), "text/plain"),
        (b"a\0b", "text/plain"),
    ],
)
def test_text(body: bytes, kind: str | None) -> None:
    assert not answer(body, kind).is_file


@pytest.mark.parametrize(
    ("disposition", "extension", "mime_type"),
    [
        ('attachment; filename="report.docx"', ".docx", WORD),
        ('attachment; filename="REPORT.DOCX"', ".docx", WORD),
        ("attachment; filename*=UTF-8''%e6%8a%a5%e5%91%8a.xlsx", ".xlsx", f"{OOXML}.spreadsheetml.sheet"),
        ('attachment; filename="=?UTF-8?B?5oql5ZGKLnBwdHg=?="', ".pptx", f"{OOXML}.presentationml.presentation"),
        (r'attachment; filename="a \"b\".md"', ".md", "text/markdown"),
        ('inline; filename="a.epub"', ".epub", "application/epub+zip"),
        ('attachment; filename="a.7z"', ".7z", "application/x-7z-compressed"),
        ('attachment; filename="a.m4a"', ".m4a", "audio/mp4"),
        ('attachment; filename="a.yaml"', ".yaml", "application/yaml"),
        ('attachment; filename="a.blend"', ".blend", "application/octet-stream"),
        ('attachment; filename="a"', ".bin", "application/octet-stream"),
        ("attachment", ".bin", "application/octet-stream"),
    ],
)
@pytest.mark.parametrize("kind", ["application/octet-stream", "", None])
def test_a_name_tells_the_type(kind: str | None, disposition: str, extension: str, mime_type: str) -> None:
    content = answer(b"\0\1", kind, disposition)
    assert content.is_file
    assert (content.extension, content.mime_type) == (extension, mime_type)


@pytest.mark.parametrize(
    ("url", "body", "kind", "extension"),
    [
        ("http://x/a/report.docx?sig=1.pdf", b"\0", "application/octet-stream", ".docx"),
        ("http://x/%E6%8A%A5.XLSX", b"\0", None, ".xlsx"),
        ("http://x/song.m4a", b"\0\xff", "binary/octet-stream", ".m4a"),
        ("http://x/book.odt", ZIP, None, ".odt"),
        ("http://x/a.docx", PDF, "application/octet-stream", ".pdf"),
        ("http://x/get.php", PDF, "application/octet-stream", ".pdf"),
        ("http://x/get.html", b"\0\xff", "application/octet-stream", ".bin"),
        ("http://x/a.png", b"\0", "application/vnd.ms-excel", ".xls"),
        ("http://[x", b"\0\xff", "application/octet-stream", ".bin"),
    ],
)
def test_a_url_tells_the_type_last(url: str, body: bytes, kind: str | None, extension: str) -> None:
    content = answer(body, kind, None, url)
    assert content.extension == extension


@pytest.mark.parametrize(
    ("kind", "text", "encoding"),
    [
        ("text/plain", "商品名と値段の一覧です。りんごは百円、みかんは五十円です。", "shift_jis"),
        ("text/plain", "It’s “fresh” – café crème, 5 €", "cp1252"),
        ("text/plain; charset=utf-8", "Привет, как дела?", "cp1251"),
        ("text/plain; charset=iso-8859-1", "Grüße", "utf-8-sig"),
        ("text/xml", '<?xml version="1.0" encoding="iso-8859-2"?><a>ą</a>', "iso8859-2"),
        ("application/json", '{"a": "한국어 문장입니다."}', "euc-kr"),
    ],
)
def test_encodings(kind: str, text: str, encoding: str) -> None:
    assert answer(text.encode(encoding), kind).text == text


def test_a_long_content_type_holds_nobody_up() -> None:
    began = time.thread_time()
    assert answer(b"hello", 'text/plain; charset=utf-8; a="' + ";" * 60_000).text == "hello"
    assert time.thread_time() - began < 1  # some 2 ms
