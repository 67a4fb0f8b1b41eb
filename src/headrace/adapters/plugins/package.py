"""The package of a plugin: a zip archive (`.difypkg`), or the folder that it was made from.

A package is not trusted. Only regular files with plain relative names are unpacked, each once, up to a total size. They
are hashed on the way, for the checksum by which Dify identifies a package and for its signature.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

from headrace.adapters.plugins.identifiers import PluginId
from headrace.adapters.plugins.manifest import FILE_NAME, Manifest
from headrace.errors import HeadraceError
from headrace.frozen import frozen

MAX_PACKED = 500 * 1024 * 1024  # bytes; Dify's 50 MB have no room for wheels, which some packages bring
MAX_UNPACKED = 1024 * 1024 * 1024
MAX_FILES = 10_000
MAX_NAME = 1024  # bytes
_MAX_DIRECTORY = 4 * 1024 * 1024  # bytes of the archive's list of files
_PIECE = 1024 * 1024
_END = b"PK\x05\x06"
_IGNORED = frozenset(
    {".git", ".venv", "venv", ".env", "__pycache__", ".DS_Store", ".idea", ".vscode", ".pytest_cache", ".ruff_cache"}
)

_Entry: TypeAlias = tuple[str, Callable[[], AbstractContextManager[IO[bytes]]]]


@frozen
class Package:
    """A package that was unpacked. `digests` are the SHA-256 of its files in the archive's order, and `comment` is the
    archive's, which has the signature; a folder has none."""

    id: PluginId
    manifest: Manifest
    digests: Sequence[bytes]
    comment: bytes


def unpack(source: Path | IO[bytes], into: Path, name: str = "") -> Package:
    """Unpacks a package, at a path or in an open file, into an empty folder. `name` is what errors call it, if not by
    its path. HeadraceError if it is not one, damaged, hostile or too large; then the content of the folder is
    invalid."""
    try:
        if not isinstance(source, Path):
            return _unzipped(source, into)
        if source.is_dir():
            return _copied(_folder_entries(source, source), into, b"")
        if not source.is_file():
            raise HeadraceError("it is not a file" if source.exists() else "there is no such file")
        with source.open("rb") as content:
            return _unzipped(content, into)
    except HeadraceError as error:
        raise HeadraceError(f"{name or source} is not a valid package: {error}") from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError) as error:
        raise HeadraceError(f"{name or source} is not a valid package: {error}") from error
    except OSError as error:
        raise HeadraceError(f"{name or source} cannot be unpacked: {error.strerror or error}") from error


def _copied(entries: Iterator[_Entry], into: Path, comment: bytes) -> Package:
    digests: dict[str, bytes] = {}
    names = _Names()
    left = MAX_UNPACKED
    for name, open_ in entries:
        names.add(name)
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with open_() as content, path.open("xb") as out:
            while data := content.read(_PIECE):
                left -= len(data)
                if left < 0:
                    raise HeadraceError(f"it is larger than {MAX_UNPACKED} bytes when it is unpacked")
                digest.update(data)
                out.write(data)
        digests[name] = digest.digest()
    if FILE_NAME not in digests:
        raise HeadraceError(f"it has no {FILE_NAME}")
    manifest = Manifest.read(into)
    return Package(manifest.id(_checksum(digests)), manifest, list(digests.values()), comment)


def _checksum(digests: dict[str, bytes]) -> str:
    checksum = hashlib.sha256()
    for name in sorted(digests, key=str.encode):
        checksum.update(hashlib.sha256(name.encode()).digest() + digests[name])
    return checksum.hexdigest()


class _Names:
    """The names of a package's files. HeadraceError for one that is not safe, or that stands for the same file as
    another one, on file systems that ignore case too."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        name_in_quotes = repr(name[:100])
        if len(self._files) >= MAX_FILES:
            raise HeadraceError(f"it has more than {MAX_FILES} files")
        parts = name.split("/")
        control = any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
        if not name or "\\" in name or control or any(part in ("", ".", "..") for part in parts):
            raise HeadraceError(f"it has a file with the name {name_in_quotes}")
        if len(name.encode()) > MAX_NAME:
            raise HeadraceError(f"it has a file with a name of more than {MAX_NAME} bytes")
        key = PurePosixPath(unicodedata.normalize("NFC", name).casefold())
        folders = {str(folder) for folder in key.parents}
        if str(key) in self._files | self._folders or folders & self._files:
            raise HeadraceError(f"it has the file {name_in_quotes} twice, or as a folder too")
        self._files.add(str(key))
        self._folders |= folders


# ----------------------------------------------------------------------------------------------------------- archives


def _unzipped(content: IO[bytes], into: Path) -> Package:
    _check_size(content)
    with zipfile.ZipFile(content) as archive:
        return _copied(_archive_entries(archive), into, archive.comment)


def _check_size(content: IO[bytes]) -> None:
    """Before `zipfile` reads the list of files as a whole."""
    size = content.seek(0, os.SEEK_END)
    if size > MAX_PACKED:
        raise HeadraceError(f"it is larger than {MAX_PACKED} bytes")
    content.seek(max(0, size - 22 - 0xFFFF))
    tail = content.read()
    end = tail.rfind(_END)
    if end >= 0 and len(tail) >= end + 16 and struct.unpack_from("<L", tail, end + 12)[0] > _MAX_DIRECTORY:
        raise HeadraceError(f"it has more than {MAX_FILES} files")


def _archive_entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for entry in archive.infolist():
        mode = entry.external_attr >> 16
        if entry.is_dir():
            continue
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise HeadraceError(f"it has a link or a device ({entry.orig_filename[:100]!r})")
        yield entry.orig_filename, lambda entry=entry: archive.open(entry)


# ------------------------------------------------------------------------------------------------------------ folders


def _folder_entries(root: Path, folder: Path) -> Iterator[_Entry]:
    """Without what belongs to the developer's machine."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in _IGNORED:
            continue
        path = folder / entry.name
        name = path.relative_to(root).as_posix()
        if entry.is_dir(follow_symlinks=False):
            yield from _folder_entries(root, path)
        elif entry.is_file(follow_symlinks=False):
            yield name, lambda path=path: path.open("rb")
        else:
            raise HeadraceError(f"it has a link or a device ({name[:100]!r})")
