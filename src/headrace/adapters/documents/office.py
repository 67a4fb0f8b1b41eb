"""Office documents: docx, xlsx, pptx. Their libraries (the extra `documents`) are imported when needed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from headrace.adapters.documents.bounds import Budget, archive
from headrace.adapters.documents.tables import one_line, row, table

if TYPE_CHECKING:
    from docx.table import Table

_MB = 1024 * 1024
_MOST_TREE = 60 * _MB  # bytes of XML that becomes a tree in memory
_MOST_STREAM = 250 * _MB  # bytes of XML that is read piece by piece
_MOST_SPAN = 100  # columns that one cell may cover


# --------------------------------------------------------------------------------------------------------------- docx


def docx(data: bytes, budget: Budget) -> str:
    """Paragraphs and tables in their order."""
    from docx import Document
    from docx.table import Table

    with archive(data, _MOST_TREE) as zip_file:
        document = Document(io.BytesIO(_straightened(zip_file, data)))
    parts: list[str] = []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            if table_text := _docx_table(block, budget):
                parts.append(table_text)
        else:
            parts.append(budget.text(block.text))
    return "\n".join(parts)


def _straightened(zip_file: zipfile.ZipFile, data: bytes) -> bytes:
    """The archive with slashes in its names, because some programs write backslashes."""
    if not any("\\" in name.orig_filename for name in zip_file.infolist()):
        return data
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as straight:
        for entry in zip_file.infolist():
            straight.writestr(entry.filename.replace("\\", "/"), zip_file.read(entry))
    return output.getvalue()


def _docx_table(block: Table, budget: Budget) -> str:
    """The table as Markdown, "" if it is empty. A merged cell is repeated."""
    rows: list[list[str]] = []
    for cells in _docx_rows(block):
        budget.cells(len(cells))
        rows.append([budget.text(cell.replace("\n", "<br>")) for cell in cells])
    if not any(cell.strip() for cells in rows for cell in cells):
        return ""
    head, *rest = rows
    return "".join(line + "\n" for line in [row(head), row(["---"] * len(head)), *map(row, rest)])


def _docx_rows(block: Table) -> Iterator[list[str]]:
    # not `row.cells`, which repeats a cell as often as the file says
    from docx.table import _Cell as Cell  # pyright: ignore[reportPrivateUsage]  # has no public name

    above: list[str] = []
    for line in block._tbl.tr_lst:  # pyright: ignore[reportPrivateUsage]
        cells: list[str] = []
        for cell in line.tc_lst:
            at = len(cells)
            text = above[at] if cell.vMerge == "continue" and at < len(above) else Cell(cell, block).text
            cells += [text] * max(1, min(cell.grid_span, _MOST_SPAN))
        yield cells
        above = cells


# --------------------------------------------------------------------------------------------------------------- xlsx


def xlsx(data: bytes, budget: Budget) -> str:
    """Every non-empty sheet as a Markdown table with its first row as the header."""
    from openpyxl import load_workbook

    archive(data, _MOST_STREAM).close()
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    try:
        sheets = [_sheet(sheet, budget) for sheet in cast("list[Any]", book.worksheets)]
    finally:
        book.close()
    return "".join(f"{sheet}\n\n" for sheet in sheets if sheet)


def _sheet(sheet: Any, budget: Budget) -> str:
    sheet.reset_dimensions()  # the declared size may be wrong
    rows: list[list[str]] = []
    for values in cast("Iterable[tuple[Any, ...]]", sheet.iter_rows(values_only=True)):
        budget.cells(len(values) + 1)
        cells = [budget.text(_cell(value)) for value in values]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            rows.append(cells)
        else:
            budget.check()
    width = max(map(len, rows), default=0)
    budget.cells(width * len(rows))
    return table([cells + [""] * (width - len(cells)) for cells in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else one_line(str(value))


# --------------------------------------------------------------------------------------------------------------- pptx


def pptx(data: bytes, budget: Budget) -> str:
    """The texts and tables of each slide, then its notes."""
    from pptx import Presentation

    archive(data, _MOST_TREE).close()
    parts: list[str] = []
    for slide in cast("Iterable[Any]", Presentation(io.BytesIO(data)).slides):
        parts += _shapes(slide.shapes, budget)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
            parts.append(budget.text(notes.text))
    return "\n".join(text for text in parts if text.strip())


def _shapes(shapes: Iterable[Any], budget: Budget) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):  # a group
            yield from _shapes(shape.shapes, budget)
        elif getattr(shape, "has_table", False):
            rows = [[one_line(cell.text) for cell in line.cells] for line in shape.table.rows]
            budget.cells(sum(map(len, rows)))
            yield budget.text(table(rows))
        elif shape.has_text_frame:
            yield budget.text(shape.text_frame.text.replace("\v", "\n"))
