"""Office documents and PDF: made by their libraries, read back; and bad ones, which are refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import signal
import subprocess
import sys
import zipfile
from typing import Any

import docx
import openpyxl
import pptx
import pytest

from headrace.adapters.documents import DocumentReader
from headrace.adapters.documents import formats as known_formats
from headrace.adapters.documents.bounds import Budget, Unreadable
from tests.documents.making import CONTAINER, book, packed, pdf, refusal, saved, sheet, text, with_part, words


def report() -> Any:
    document = docx.Document()
    document.add_heading("Report", 1)
    document.add_paragraph("Grüße, 世界")
    table = document.add_table(3, 2)
    for at, said in {(0, 0): "name", (0, 1): "no\nte", (1, 0): "both"}.items():
        table.cell(*at).text = said
    table.cell(1, 0).merge(table.cell(1, 1))
    document.add_table(1, 1)
    document.add_paragraph("end")
    return document


@pytest.mark.usefixtures("apart")
async def test_docx_is_paragraphs_and_tables_in_order() -> None:
    table = "| name | no<br>te |\n| --- | --- |\n| both | both |\n|  |  |\n"
    assert await text(saved(report()), ".docx") == f"Report\nGrüße, 世界\n{table}\nend"


async def test_cells_merged_downwards_are_reported_in_every_row() -> None:
    document = docx.Document()
    table = document.add_table(2, 2)
    table.cell(0, 0).merge(table.cell(1, 0)).text = "tall"
    table.cell(1, 1).text = "x"
    assert await text(saved(document), ".docx") == "| tall |  |\n| --- | --- |\n| tall | x |\n"


async def test_docx_with_backslashes_in_its_names() -> None:
    with zipfile.ZipFile(io.BytesIO(saved(report()))) as archive:
        parts = {name.replace("/", "\\"): archive.read(name) for name in archive.namelist()}
    assert (await text(packed(parts), ".docx")).startswith("Report\n")


async def test_a_cell_that_claims_a_million_columns_is_cut() -> None:
    data = saved(report())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        xml = archive.read("word/document.xml")
    wide = xml.replace(b'<w:gridSpan w:val="2"/>', b'<w:gridSpan w:val="100000000"/>')
    assert wide != xml
    assert (await text(with_part(data, "word/document.xml", wide), ".docx")).count("both") == 100


async def test_whole_numbers_stay_whole_beside_empty_cells() -> None:
    """In Dify they become 1.0: there a column with a gap is one of floats."""
    workbook = openpyxl.Workbook()
    for row in (["id", "n"], [1, 10], [2, None], [None, 30], [3, 0.5]):
        workbook.worksheets[0].append(row)
    assert await text(saved(workbook), ".xlsx") == (
        "| id | n |\n| -- | - |\n| 1 | 10 |\n| 2 |  |\n|  | 30 |\n| 3 | 0.5 |\n\n"
    )


@pytest.mark.usefixtures("apart")
async def test_xlsx_is_a_table_a_sheet() -> None:
    workbook = openpyxl.Workbook()
    first = workbook.worksheets[0]
    for row in (["name", "a\nb", None], [], ["ann", 2.0, None, True], [dt.date(2024, 5, 1), 1.5]):
        first.append(row)
    workbook.create_sheet("nothing")
    workbook.create_sheet("more").append(["x"])
    assert await text(saved(workbook), ".xlsx") == (
        "| name | a b |  |  |\n| ---- | --- | - | - |\n| ann | 2 |  | True |\n| 2024-05-01 00:00:00 | 1.5 |  |  |\n\n"
        "| x |\n| - |\n\n"
    )


async def test_a_sheet_that_lies_about_its_size() -> None:
    data = sheet(["a"], ["b"])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        xml = archive.read("xl/worksheets/sheet1.xml")
    lying = xml.replace(b'ref="A1:A2"', b'ref="A1:XFD1048576"')
    assert lying != xml
    assert await text(with_part(data, "xl/worksheets/sheet1.xml", lying), ".xlsx") == "| a |\n| - |\n| b |\n\n"


@pytest.mark.usefixtures("apart")
async def test_pptx_is_its_slides_with_tables_and_notes() -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Title"
    slide.placeholders[1].text = "one\ntwo\vthree"
    table = slide.shapes.add_table(2, 2, 0, 0, 10, 10).table
    table.cell(0, 0).text = "a"
    table.cell(1, 1).text = "b"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 1, 1).text_frame.text = "in a group"
    slide.notes_slide.notes_text_frame.text = "say this"
    assert await text(saved(deck), ".pptx") == (
        "Title\none\ntwo\nthree\n| a |  |\n| - | - |\n|  | b |\nin a group\nsay this"
    )


@pytest.mark.usefixtures("apart")
async def test_pdf_is_its_pages() -> None:
    assert await text(pdf(words("Hello"), b"", words("World")), ".pdf") == "Hello\n\nWorld"


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4 and no more", pdf(words("x"))[:120], b"PK\x03\x04"])
async def test_a_pdf_cut_off_or_none_at_all(data: bytes) -> None:
    assert "Failed to extract text from PDF: it is damaged, or of another format" in await refusal(data, ".pdf")


async def test_an_encrypted_pdf_says_so() -> None:
    locked = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O(%b)/U(%b)>>/ID[(a)(a)]" % (b"o" * 32, b"u" * 32)
    assert "it is encrypted: remove its password first" in await refusal(pdf(words("x"), trailer=locked), ".pdf")


@pytest.mark.parametrize("extension", [".docx", ".xlsx", ".pptx", ".epub"])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "damaged, or of another format"),
        (b"%PDF-1.4", "damaged, or of another format"),
        (packed({"a.txt": "a"}), ""),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "encrypted, or in the binary format of Office 97"),
        (packed({"word/document.xml": '<!DOCTYPE d [<!ENTITY a "aaa">]><d>&a;</d>'}), "its XML declares entities"),
        (packed({"a.xml": '<!DOCTYPE d [<!ENTITY a "a">]><d/>'.encode("utf-16")}), "its XML declares entities"),
    ],
    ids=["empty", "other", "bare", "ole", "entities", "entities-16"],
)
async def test_archives_that_are_none(extension: str, data: bytes, why: str) -> None:
    assert why in await refusal(data, extension)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return packed({"a.bin": bytes(310 * 1024 * 1024)})


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("extension", [".docx", ".xlsx", ".pptx", ".epub"])
async def test_archives_that_are_bombs(bomb: bytes, extension: str) -> None:
    assert "larger than 300 MB unpacked" in await refusal(bomb, extension)


async def test_an_archive_cut_off() -> None:
    data = saved(report())
    assert "damaged, or of another format" in await refusal(data[: len(data) // 2], ".docx")


async def test_a_part_that_is_damaged() -> None:
    data = bytearray(saved(report()))
    at = data.index(b"word/document.xml") + 200
    data[at : at + 50] = bytes(50)
    assert "Failed to extract text from DOCX: it is damaged" in await refusal(bytes(data), ".docx")


async def test_a_book_without_its_package() -> None:
    assert "its part 'OEBPS/book.opf' is missing" in await refusal(
        packed({"META-INF/container.xml": CONTAINER}), ".epub"
    )
    assert "its XML is damaged" in await refusal(book(package="<package"), ".epub")


@pytest.mark.usefixtures("apart")
async def test_too_many_cells_and_too_much_text() -> None:
    data = sheet(*(["x"] * 20 for _ in range(20)))
    assert "more than 100 cells" in await refusal(data, ".xlsx", cells=100)
    assert "longer than 50 characters" in await refusal(data, ".xlsx", characters=50)
    assert "more than 30 cells" in await refusal(b"a,b\n" * 20, ".csv", cells=30)


@pytest.mark.usefixtures("apart")
async def test_a_pdf_that_would_fill_the_memory() -> None:
    assert "it takes too much memory" in await refusal(
        pdf(b"BT /F1 9 Tf 9 9 Td (A) Tj ET\n" * 1_000_000), ".pdf", memory=400 * 1024 * 1024
    )


@pytest.mark.usefixtures("apart")
async def test_what_takes_too_long_is_ended() -> None:
    assert "longer than 0 seconds" in await refusal(pdf(words("x")), ".pdf", seconds=0)
    assert "longer than 0 seconds" in await refusal(b"x", ".txt", seconds=0)


@pytest.mark.usefixtures("apart")
async def test_large_texts_are_read_apart() -> None:
    words = "Grüße 世界\n" * 100_000
    assert await text(words.encode(), ".txt") == words


Started = asyncio.Queue[tuple[asyncio.subprocess.Process, dict[str, str]]]


@pytest.fixture
def started(apart: None, monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that are started, with their environment."""
    received: Started = asyncio.Queue()
    start = asyncio.create_subprocess_exec

    async def tell(*args: Any, env: dict[str, str], **options: Any) -> asyncio.subprocess.Process:
        process = await start(*args, env=env, **options)
        received.put_nowait((process, env))
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", tell)
    return received


async def test_nobody_waits_any_more(started: Started) -> None:
    reading = asyncio.create_task(text(pdf(*[words("x" * 50)] * 3000), ".pdf"))
    process, _ = await started.get()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert process.returncode == -signal.SIGKILL


async def test_the_process_that_reads_knows_no_secret(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert await text(pdf(words("x")), ".pdf") == "x"
    _, environment = started.get_nowait()
    assert "sk-secret" not in environment.values()
    assert "PATH" not in environment


@pytest.mark.usefixtures("apart")
async def test_several_at_once() -> None:
    reader = DocumentReader()
    data = [pdf(words(f"number {n}")) for n in range(5)]
    texts = await asyncio.gather(*(reader.text(item, extension=".pdf", mime_type=None) for item in data))
    assert texts == [f"number {n}" for n in range(5)]


@pytest.mark.parametrize(
    ("name", "module", "data"),
    [
        ("PDF", "pypdfium2", pdf(words("x"))),
        ("DOCX", "docx", saved(docx.Document())),
        ("Excel", "openpyxl", sheet(["a"])),
        ("PPTX", "pptx", saved(pptx.Presentation())),
    ],
)
def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, data: bytes
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    budget = Budget(characters=100, cells=100, seconds=10)
    with pytest.raises(Unreadable, match=rf'{module} is not installed: pip install "headrace\[documents\]"'):
        known_formats.read(known_formats.FORMATS[name], data, budget)


def test_libraries_are_loaded_only_when_needed() -> None:
    code = (
        "import sys, headrace.adapters.documents; "
        "print([m for m in ('docx', 'pptx', 'openpyxl', 'pypdfium2', 'lxml') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
