"""The formats of documents by extension and MIME type."""

from __future__ import annotations

from collections.abc import Callable

from headrace.adapters.documents import office, plain
from headrace.adapters.documents.article import article
from headrace.adapters.documents.bounds import TOO_MUCH_MEMORY, Budget, Unreadable
from headrace.adapters.documents.pdf import pdf
from headrace.content.filetypes import essence, guess_extension, guess_type, is_text_type
from headrace.errors import NodeError
from headrace.frozen import frozen

UNSUPPORTED = "UnsupportedFileTypeError"


@frozen
class Format:
    """`complex`: even a small document may be expensive to read."""

    name: str
    read: Callable[[bytes, Budget], str]
    extensions: frozenset[str]
    complex: bool


def _format(name: str, read: Callable[[bytes, Budget], str], extensions: str, *, complex: bool = False) -> Format:
    return Format(name, read, frozenset(extensions.split()), complex)


_TEXT = _format(
    "text",
    plain.text,
    # the source, also of HTML, XML and subtitles, as in Dify
    "txt text md mdx markdown html htm xml log srt vtt rst tex tsv jsonl ndjson ini cfg conf toml env "
    "c h cc cpp cxx c++ hpp cs py js mjs ts jsx tsx vue java php rb go rs swift kt scala sh bash bat ps1 sql r m "
    "pl lua vim asm s css scss less sass",
)
# WebVTT by MIME type only
_VTT = _format("VTT", plain.vtt, "")
ARTICLE = _format("web page", article, "", complex=True)
_FORMATS = (
    _TEXT,
    _VTT,
    _format("JSON", plain.json_text, "json"),
    _format("YAML", plain.yaml_text, "yaml yml", complex=True),
    _format("CSV", plain.csv_text, "csv"),
    _format("properties", plain.properties, "properties"),
    # nested multipart messages take quadratic time
    _format("EML", plain.eml, "eml", complex=True),
    _format("EPUB", plain.epub, "epub", complex=True),
    _format("PDF", pdf, "pdf", complex=True),
    _format("DOCX", office.docx, "docx", complex=True),
    _format("Excel", office.xlsx, "xlsx xlsm", complex=True),
    _format("PPTX", office.pptx, "pptx", complex=True),
    ARTICLE,
)
FORMATS = {format_.name: format_ for format_ in _FORMATS}
_BY_EXTENSION = {extension: format_ for format_ in _FORMATS for extension in format_.extensions}
_OLD = {"doc": "docx", "xls": "xlsx", "ppt": "pptx", "msg": "eml"}
"""Unsupported formats, and those to convert them to."""


def format_of(extension: str, mime_type: str | None) -> Format:
    """The format by extension, else by MIME type; text if either is a type of text. NodeError with kind
    UnsupportedFileTypeError."""
    extension = extension.lower().removeprefix(".")
    mime_type = essence(mime_type or "")
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in _OLD:
        raise _not_read(f".{extension}", _OLD[extension])
    if mime_type == "text/vtt":
        return _VTT
    usual = guess_extension(mime_type).removeprefix(".")
    if usual in _BY_EXTENSION:
        return _BY_EXTENSION[usual]
    if usual in _OLD:
        raise _not_read(mime_type, _OLD[usual])
    if is_text_type(mime_type) or is_text_type(guess_type(f"name.{extension}")):
        return _TEXT
    if extension:
        raise NodeError(f"Unsupported Extension Type: .{extension}", UNSUPPORTED)
    if mime_type:
        raise NodeError(f"Unsupported MIME type: {mime_type}", UNSUPPORTED)
    raise NodeError("Unable to determine file type: MIME type or file extension is missing", UNSUPPORTED)


def _not_read(kind: str, better: str) -> NodeError:
    return NodeError(f"Documents of type {kind} are not read: save it as .{better}", UNSUPPORTED)


def read(document_format: Format, data: bytes, budget: Budget) -> str:
    """The document's text. Unreadable if it cannot be read, for whatever reason."""
    try:
        return document_format.read(data, budget)
    except Unreadable:
        raise
    except ImportError as error:
        library = (error.name or str(error)).partition(".")[0]
        extra = "web" if document_format is ARTICLE else "documents"
        raise Unreadable(f'{library} is not installed: pip install "headrace[{extra}]"') from error
    except RecursionError:
        raise Unreadable("it nests too deeply") from None
    except MemoryError:
        raise Unreadable(TOO_MUCH_MEMORY) from None
    except Exception as error:  # for a damaged document, the libraries may raise anything
        raise Unreadable(f"it is damaged, or of another format ({type(error).__name__}: {error})") from error
