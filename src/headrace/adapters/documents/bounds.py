"""Limits for reading a document: characters, cells, seconds; and protection against ZIP bombs."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator

_MB = 1024 * 1024
_MOST_ENTRIES = 20_000
_LARGEST_ARCHIVE = 300 * _MB  # bytes of all that is in it, unpacked
_CHUNK = 1 * _MB
_ENTITY = b"<!ENTITY"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


TOO_MUCH_MEMORY = "it takes too much memory"


class Unreadable(Exception):
    """A document cannot be read; `str` says why."""


def too_slow(seconds: float) -> str:
    return f"it takes longer than {seconds:g} seconds"


class Budget:
    """The remaining budget of one document. Raises Unreadable once it is used up.

    `characters` of text, `cells` of tables, `seconds` from now on.
    """

    def __init__(self, *, characters: int, cells: int, seconds: float) -> None:
        self._characters = self._most_characters = characters
        self._cells = self._most_cells = cells
        self._until = time.monotonic() + seconds
        self._seconds = seconds

    def check(self) -> None:
        if time.monotonic() > self._until:
            raise Unreadable(too_slow(self._seconds))

    def text(self, text: str) -> str:
        """Counts the text, and returns it."""
        self._characters -= len(text)
        if self._characters < 0:
            raise Unreadable(f"its text is longer than {self._most_characters:,} characters")
        self.check()
        return text

    def cells(self, count: int) -> None:
        self._cells -= count
        if self._cells < 0:
            raise Unreadable(f"its tables have more than {self._most_cells:,} cells")


def archive(data: bytes, most_xml: int) -> zipfile.ZipFile:
    """A ZIP archive that is safe to read: its uncompressed size is limited, at most `most_xml` bytes are XML, and no
    XML declares entities. Unreadable if it is not."""
    if data.startswith(_OLE):
        raise Unreadable("it is encrypted, or in the binary format of Office 97")
    if data.count(b"PK\x01\x02") > _MOST_ENTRIES:  # before they become objects
        raise Unreadable(f"it has more than {_MOST_ENTRIES:,} parts")
    try:
        zip_file = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Unreadable(f"it is damaged, or of another format ({error})") from None
    entries = zip_file.infolist()
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unreadable("it is encrypted")
    # zipfile never reads more of an entry than its declared size
    if sum(entry.file_size for entry in entries) > _LARGEST_ARCHIVE:
        raise Unreadable(f"it is larger than {_LARGEST_ARCHIVE // _MB} MB unpacked")
    markup_entries = [entry for entry in entries if entry.filename.lower().endswith((".xml", ".rels", ".opf"))]
    if sum(entry.file_size for entry in markup_entries) > most_xml:
        raise Unreadable(f"it has more than {most_xml // _MB} MB of XML")
    for entry in markup_entries:
        try:
            _refuse_entities(zip_file, entry)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
            raise Unreadable(f"it is damaged ({error})") from None
    return zip_file


def _refuse_entities(zip_file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    tail = b""
    for chunk in _chunks(zip_file, entry):
        window = (tail + chunk).replace(b"\0", b"")  # ASCII in UTF-16 has NULs in between
        if _ENTITY in window:
            raise Unreadable("its XML declares entities")
        tail = chunk[-2 * len(_ENTITY) :]


def _chunks(zip_file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with zip_file.open(entry) as file:
        while chunk := file.read(_CHUNK):
            yield chunk
