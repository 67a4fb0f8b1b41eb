"""PDF, read with PDFium. Its library (in the extra `documents`) is imported when needed."""

from __future__ import annotations

from typing import Any

from headrace.adapters.documents.bounds import Budget, Unreadable

_MOST_PAGES = 20_000


def pdf(data: bytes, budget: Budget) -> str:
    """The text of the pages, without OCR."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise Unreadable(_why(error)) from None
    try:
        if len(document) > _MOST_PAGES:
            raise Unreadable(f"it has more than {_MOST_PAGES:,} pages")
        pages = [_page(document, number, budget) for number in range(len(document))]
    except pypdfium2.PdfiumError as error:
        raise Unreadable(f"it is damaged ({error})") from None
    finally:
        document.close()
    return "\n".join(page.removesuffix("\n").removesuffix("\r") for page in pages)


def _page(document: Any, number: int, budget: Budget) -> str:
    page = document[number]
    try:
        text_page = page.get_textpage()
        try:
            return budget.text(text_page.get_text_range())
        finally:
            text_page.close()
    finally:
        page.close()


def _why(error: Exception) -> str:
    message = str(error)
    if "password" in message.lower() or "security" in message.lower():
        return "it is encrypted: remove its password first"
    return f"it is damaged, or of another format ({message})"
