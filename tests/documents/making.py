"""Documents made by the libraries that real programs use, or byte by byte where a document has to be bad."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import openpyxl
import pytest

from headrace.adapters.documents import DocumentReader
from headrace.errors import NodeError


async def text(data: bytes, extension: str, mime_type: str | None = None, **bounds: Any) -> str:
    return await DocumentReader(**bounds).text(data, extension=extension, mime_type=mime_type)


async def failure(data: bytes, extension: str, mime_type: str | None = None, **bounds: Any) -> NodeError:
    with pytest.raises(NodeError) as raised:
        await text(data, extension, mime_type, **bounds)
    return raised.value


async def refusal(data: bytes, extension: str, mime_type: str | None = None, **bounds: Any) -> str:
    """Why a document of a format that is known cannot be read."""
    error = await failure(data, extension, mime_type, **bounds)
    assert error.kind == "TextExtractionError"
    return str(error)


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def pdf(*pages: bytes, trailer: bytes = b"") -> bytes:
    """A PDF whose pages have these content streams."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%b]/Count %d>>" % (kids, len(pages)),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, content in enumerate(pages):
        packed = zlib.compress(content)
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents %d 0 R/Resources<</Font<</F1 3 0 R>>>>>>"
            % (5 + 2 * number)
        )
        objects.append(b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(packed), packed))
    out, places = b"%PDF-1.4\n", b""
    for number, content in enumerate(objects, 1):
        places += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, places)
    return out + table + b"trailer<</Size %d/Root 1 0 R%b>>\nstartxref\n%d\n%%%%EOF" % (size, trailer, len(out))


def words(said: str) -> bytes:
    return b"BT /F1 12 Tf 20 200 Td (%b) Tj ET\n" % said.encode()


def sheet(*rows: Sequence[Any]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    return saved(book)


def packed(parts: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def with_part(data: bytes, name: str, content: bytes) -> bytes:
    """A document of parts with one of them replaced."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {item: archive.read(item) for item in archive.namelist()}
    return packed({**parts, name: content})


CONTAINER = """<?xml version="1.0"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">
<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>
<item id="two" href="text/chapter%202.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="one.xhtml" media-type="application/xhtml+xml"/>
</manifest><spine><itemref idref="one"/><itemref idref="two"/><itemref idref="gone"/></spine></package>"""


def book(package: str = PACKAGE, **more: bytes | str) -> bytes:
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "OEBPS/book.opf": package,
            "OEBPS/one.xhtml": "<html><head><title>no</title></head><body><h1>First</h1><p>A &amp; B</p></body></html>",
            "OEBPS/text/chapter 2.xhtml": "<html><body><p>Sec<b>ond</b></p></body></html>",
            **more,
        }
    )
