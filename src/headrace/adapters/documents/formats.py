"""Which formats there are, by extension and by MIME type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headrace.adapters.documents import office, plain
from headrace.adapters.documents.bounds import TOO_MUCH_MEMORY, Budget, Unreadable
from headrace.adapters.documents.pdf import pdf
from headrace.errors import NodeError

UNSUPPORTED = "UnsupportedFileTypeError"


@dataclass(frozen=True, slots=True)
class Format:
    """`complex`: what a small document of it may cost is not bounded by its size."""

    name: str
    read: Callable[[bytes, Budget], str]
    extensions: frozenset[str]
    mime_types: frozenset[str]
    complex: bool


def _format(
    name: str, read: Callable[[bytes, Budget], str], extensions: str, *mime_types: str, complex: bool = False
) -> Format:
    return Format(name, read, frozenset(extensions.split()), frozenset(mime_types), complex)


_OOXML = "application/vnd.openxmlformats-officedocument"
_FORMATS = (
    _format(
        "text",
        plain.text,
        # what a reader of the source sees; HTML and XML too, as in Dify
        "txt text md mdx markdown html htm xml log srt rst tex tsv jsonl ndjson ini cfg conf toml env "
        "c h cc cpp cxx c++ hpp cs py js mjs ts jsx tsx vue java php rb go rs swift kt scala sh bash bat ps1 sql r m "
        "pl lua vim asm s css scss less sass",
        "text/plain",
        "text/html",
        "text/htm",
        "text/markdown",
        "text/xml",
        "application/xml",
    ),
    _format("JSON", plain.json_text, "json", "application/json"),
    _format("YAML", plain.yaml_text, "yaml yml", "application/yaml", "application/x-yaml", "text/yaml", complex=True),
    _format("CSV", plain.csv_text, "csv", "text/csv"),
    _format("properties", plain.properties, "properties", "text/properties"),
    _format("VTT", plain.vtt, "vtt", "text/vtt"),
    # a message in parts, in parts, in parts takes the square of their depth
    _format("EML", plain.eml, "eml", "message/rfc822", complex=True),
    _format("EPUB", plain.epub, "epub", "application/epub+zip", complex=True),
    _format("PDF", pdf, "pdf", "application/pdf", complex=True),
    _format("DOCX", office.docx, "docx", f"{_OOXML}.wordprocessingml.document", complex=True),
    _format("Excel", office.xlsx, "xlsx xlsm", f"{_OOXML}.spreadsheetml.sheet", complex=True),
    _format("PPTX", office.pptx, "pptx", f"{_OOXML}.presentationml.presentation", complex=True),
)
FORMATS = {each.name: each for each in _FORMATS}

_OLD = {
    "doc": "docx",
    "xls": "xlsx",
    "ppt": "pptx",
    "msg": "eml",
    "application/msword": "docx",
    "application/vnd.ms-excel": "xlsx",
    "application/vnd.ms-powerpoint": "pptx",
    "application/vnd.ms-outlook": "eml",
}
"""Formats that are not read, and what to save such a document as."""


def _lookup(kinds: Callable[[Format], Iterable[str]]) -> dict[str, Format]:
    return {kind: each for each in _FORMATS for kind in kinds(each)}


_BY_EXTENSION = _lookup(lambda each: each.extensions)
_BY_MIME_TYPE = _lookup(lambda each: each.mime_types)


def format_of(extension: str, mime_type: str | None) -> Format:
    """The format that the extension tells, or else the MIME type. NodeError with kind UnsupportedFileTypeError."""
    extension = extension.lower().removeprefix(".")
    mime_type = (mime_type or "").partition(";")[0].strip().lower()
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in _OLD:
        raise _not_read(f".{extension}", _OLD[extension])
    if mime_type in _BY_MIME_TYPE:
        return _BY_MIME_TYPE[mime_type]
    if mime_type in _OLD:
        raise _not_read(mime_type, _OLD[mime_type])
    if extension:
        raise NodeError(f"Unsupported Extension Type: .{extension}", UNSUPPORTED)
    if mime_type:
        raise NodeError(f"Unsupported MIME type: {mime_type}", UNSUPPORTED)
    raise NodeError("Unable to determine file type: MIME type or file extension is missing", UNSUPPORTED)


def _not_read(kind: str, better: str) -> NodeError:
    return NodeError(f"Documents of type {kind} are not read: save it as .{better}", UNSUPPORTED)


def read(found: Format, data: bytes, budget: Budget) -> str:
    """The document's text. Unreadable where it cannot be read, whatever the reason."""
    try:
        return found.read(data, budget)
    except Unreadable:
        raise
    except ImportError as error:
        library = (error.name or str(error)).partition(".")[0]
        raise Unreadable(f'{library} is not installed: pip install "headrace[documents]"') from error
    except RecursionError:
        raise Unreadable("it nests too deeply") from None
    except MemoryError:
        raise Unreadable(TOO_MUCH_MEMORY) from None
    except Exception as error:  # the libraries raise whatever a damaged document makes them stumble over
        raise Unreadable(f"it is damaged, or of another format ({type(error).__name__}: {error})") from error
