"""A backup: one tar file of an installation's database, secret and stored files, with checksums.

    manifest.json   first, so that an incompatible backup is refused before it is unpacked
    headrace.db     the database, as it was at one moment
    secret          the installation's secret
    files/ab/ID     the stored files that the database knows
    SHA256SUMS      last, in the format of sha256sum, so that a truncated archive has none

An archive is not trusted: only regular files of these names are unpacked, each once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from headrace.adapters.installation import FILES, SECRET
from headrace.errors import HeadraceError
from headrace.frozen import frozen

__all__ = ["DATABASE", "FILES", "FORMAT", "SECRET", "Manifest", "Packed", "pack", "unpack"]

FORMAT = 1
MANIFEST, DATABASE, SUMS = "manifest.json", "headrace.db", "SHA256SUMS"

_FILE = re.compile(r"files/([0-9a-f]{2})/(\1[0-9a-f]{6}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_SMALL = {MANIFEST: 100_000, SECRET: 1000}  # maximum sizes in bytes
_PIECE = 1024 * 1024
_GZIP = b"\x1f\x8b"


@frozen
class Manifest:
    """Describes a backup. `revision` is the database's schema; `created_at` in seconds since the epoch."""

    format: int
    headrace: str
    revision: str
    created_at: float
    files: bool


@frozen
class Packed:
    """The content of a backup: how many stored files it has, how many were missing, and its uncompressed size."""

    manifest: Manifest
    files: int
    missing: int
    size: int


# -------------------------------------------------------------------------------------------------------------- pack


def pack(
    target: Path, manifest: Manifest, database: Path, secret: Path | None, files: Iterable[tuple[str, Path]]
) -> Packed:
    """Writes a backup, compressed if its name ends in .gz or .tgz, as a whole or not at all, readable by its owner
    only. A missing file (id, path) is skipped. HeadraceError if the backup cannot be written."""
    with (
        _written(target) as raw,
        _compressed(raw, target) as out,
        tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        sums: list[str] = []
        size = 0

        def add(name: str, content: IO[bytes], length: int, at: float) -> None:
            nonlocal size
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = length, int(at), 0o600
            stream = _Hashed(content)
            tar.addfile(entry, cast("IO[bytes]", stream))
            vars(tar)["members"].clear()  # it would remember them all
            sums.append(f"{stream.digest.hexdigest()}  {name}\n")
            size += length

        def add_file(name: str, path: Path) -> None:
            with path.open("rb") as content:
                status = os.fstat(content.fileno())
                add(name, content, status.st_size, status.st_mtime)

        content_bytes = json.dumps(asdict(manifest)).encode()
        add(MANIFEST, BytesIO(content_bytes), len(content_bytes), manifest.created_at)
        add_file(DATABASE, database)
        if secret is not None:
            add_file(SECRET, secret)
        packed_size = missing = 0
        for file, path in files:
            try:
                add_file(f"{FILES}/{file[:2]}/{file}", path)
            except FileNotFoundError:
                missing += 1
            else:
                packed_size += 1
        content_bytes = "".join(sums).encode()
        add(SUMS, BytesIO(content_bytes), len(content_bytes), manifest.created_at)
    return Packed(manifest, packed_size, missing, size)


class _Hashed:
    """A file to read from, with the checksum of what was read."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._content.read(size)
        self.digest.update(data)
        return data


@contextmanager
def _written(target: Path) -> Generator[IO[bytes]]:
    """A new file, which gets its name once it is complete and on the disk."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(target)
    except OSError as error:
        raise HeadraceError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _compressed(raw: IO[bytes], target: Path) -> Generator[IO[bytes]]:
    if target.name.endswith((".gz", ".tgz")):
        with gzip.GzipFile("", "wb", 6, raw) as out:
            yield cast("IO[bytes]", out)
    else:
        yield raw


# ------------------------------------------------------------------------------------------------------------ unpack


class _Plain(tarfile.TarInfo):
    """A member that is a regular file: no link, no device, and no header of arbitrary length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Plain:
        entry = super().frombuf(buf, encoding, errors)
        if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.size < 0:
            raise HeadraceError(f"it has an entry that is not a regular file ({entry.name[:100]!r})")
        return entry


def unpack(source: Path, into: Path, accept: Callable[[Manifest], None]) -> Packed:
    """Unpacks a backup into an empty folder, and verifies it: all checksums match, and there is nothing else in it.
    `accept` may refuse the manifest by a HeadraceError. HeadraceError if it is not a backup, damaged, or refused; then
    the content of the folder is invalid."""
    try:
        with source.open("rb") as raw:
            gzipped = raw.read(2) == _GZIP
            raw.seek(0)
            content = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if gzipped else raw
            with tarfile.open(fileobj=content, mode="r|", tarinfo=_Plain, encoding="utf-8") as tar:
                packed = _unpack(tar, into, accept)
                while content.read(_PIECE):  # gzip's own checksum is at the end
                    pass
            return packed
    except HeadraceError as error:
        raise HeadraceError(f"{source} cannot be restored: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HeadraceError(f"{source} is not a backup of Headrace, or it is cut off or damaged ({error})") from error


def _unpack(tar: tarfile.TarFile, into: Path, accept: Callable[[Manifest], None]) -> Packed:
    manifest: Manifest | None = None
    digests: dict[str, str] = {}
    size = 0
    while (entry := tar.next()) is not None:
        name = entry.name
        vars(tar)["members"].clear()  # it would remember them all
        if manifest is None and name != MANIFEST:
            raise HeadraceError("it is not a backup of Headrace: it has no manifest")
        content = tar.extractfile(entry)
        assert content is not None  # it is a plain file
        if name == SUMS:
            _compare(content, digests)
            if tar.next() is not None:
                raise HeadraceError("it has data after its end")
            assert manifest is not None
            if DATABASE not in digests:
                raise HeadraceError("it has no database")
            files = sum(name.startswith(f"{FILES}/") for name in digests)
            return Packed(manifest, files, 0, size)
        if name in digests:
            raise HeadraceError(f"it has {name[:100]!r} twice")
        if name not in (MANIFEST, DATABASE, SECRET) and not _FILE.fullmatch(name):
            raise HeadraceError(f"it has an unexpected file ({name[:100]!r})")
        if entry.size > _SMALL.get(name, entry.size):
            raise HeadraceError(f"its {name} is too large")
        path = into / name
        digests[name] = _copy(content, path, entry)
        size += entry.size
        if name == MANIFEST:
            manifest = _manifest(path)
            accept(manifest)
            path.unlink()
    raise HeadraceError("it is cut off: its checksums are missing")


def _copy(content: IO[bytes], path: Path, entry: tarfile.TarInfo) -> str:
    """Writes a member's content, readable by its owner only; returns the checksum."""
    digest = hashlib.sha256()
    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        if entry.size > shutil.disk_usage(path.parent).free:
            raise HeadraceError(f"there is not enough space for {entry.name} ({entry.size} bytes) in {path.parent}")
        out = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise HeadraceError(f"{path} cannot be written: {error.strerror or error}") from error
    with out:
        while data := content.read(_PIECE):
            digest.update(data)
            try:
                out.write(data)
            except OSError as error:
                raise HeadraceError(f"{path} cannot be written: {error.strerror or error}") from error
        if out.tell() != entry.size:
            raise HeadraceError(f"it is cut off in {entry.name}")
    # keeps the time when a stored file was last used
    os.utime(path, (time.time(), max(0.0, min(float(entry.mtime), time.time()))))
    return digest.hexdigest()


def _manifest(path: Path) -> Manifest:
    wrong = HeadraceError("its manifest cannot be read")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise wrong from error
    if not isinstance(document, dict):
        raise wrong
    values = cast("dict[str, Any]", document)
    if values.get("format") != FORMAT:
        raise HeadraceError("it was made by another version of Headrace (its format is unknown)")
    types = {"format": int, "headrace": str, "revision": str, "created_at": int | float, "files": bool}
    if any(not isinstance(values.get(name), kind) for name, kind in types.items()):
        raise wrong
    return Manifest(**{field.name: values[field.name] for field in fields(Manifest)})


def _compare(content: IO[bytes], digests: dict[str, str]) -> None:
    """Raises HeadraceError unless the checksums match those of all unpacked files, and no others."""
    expected = dict(digests)
    while line := content.readline(300):
        digest, _, name = line.decode("utf-8", "replace").rstrip("\n").partition("  ")
        if expected.pop(name, None) != digest:
            raise HeadraceError(f"it is damaged: the checksum of {name[:100]!r} is wrong")
    if expected:
        raise HeadraceError(f"it is damaged: the checksum of {min(expected)!r} is missing")
