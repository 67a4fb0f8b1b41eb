"""App packages (`.ifpkg`) of later versions of Dify: ZIP archives with the app's DSL in them.

`manifest.yaml` describes the content. Format `dify.app` holds a workflow, a chatflow or another app in
`apps[0].path`, with its size and SHA-256, and the files and skills of the agents in its nodes under
`agent_resources`; format `dify.roster-agent` holds an app of mode `agent`. All members are at the root.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from typing import IO, cast

from headrace.dsl.check import excerpt, mapping
from headrace.dsl.yaml_reader import MAX_CHARACTERS, read
from headrace.errors import LoadError, Problem
from headrace.values import Value

MANIFEST = "manifest.yaml"
_APP, _AGENT = "dify.app", "dify.roster-agent"
_VERSION = 1
_MAX_MANIFEST = 1024 * 1024  # bytes
_MAX_MEMBERS = 10_000
_LONGEST_NAME = 60  # characters, in messages
_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # of an archive, and of an empty one
SIGNATURE_LENGTH = 4
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others cannot be unpacked in part
_UNREADABLE = (OSError, zipfile.BadZipFile, EOFError, RuntimeError, ValueError, struct.error, zlib.error)
"""The errors of `zipfile` for an archive that is damaged or encrypted."""


def is_package(start: bytes) -> bool:
    """Whether a file that starts with these bytes (`SIGNATURE_LENGTH` are enough) is a ZIP archive."""
    return start.startswith(_SIGNATURES)


def text_of(content: bytes, source: str) -> str:
    """The text of a workflow file, or of the one in an app package. LoadError if there is none."""
    if is_package(content):
        return packaged(io.BytesIO(content), source)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LoadError(source, [Problem(f"is not UTF-8 text (byte {error.start})", line=line)]) from error


def packaged(file: IO[bytes], source: str) -> str:
    """The DSL of the app in a package. LoadError if there is none that Headrace supports."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _Package(archive, source).app()
    except _UNREADABLE as error:
        raise _refused(source, f"the package cannot be unpacked: {error}") from error


def _refused(source: str, message: str, field: str | None = None) -> LoadError:
    return LoadError(source, [Problem(message, field=field)])


def _member_label(name: str) -> str:
    """A member's name in messages; quoted if it has characters that a terminal or a log would interpret."""
    return name if name.isprintable() and len(name) <= _LONGEST_NAME else excerpt(name)


class _Package:
    def __init__(self, archive: zipfile.ZipFile, source: str) -> None:
        self._archive = archive
        self._source = source

    def app(self) -> str:
        manifest = self._manifest()
        path, size, digest = self._indexed(manifest)
        content = self._member(path, 4 * MAX_CHARACTERS)
        if (size is not None and size != len(content)) or (
            digest is not None and digest.lower() != hashlib.sha256(content).hexdigest()
        ):
            raise self._refused(f"the package is damaged: {_member_label(path)} is not what {MANIFEST} says of it")
        if is_package(content):
            raise self._refused(f"{_member_label(path)} in the package is an archive itself, not a workflow file")
        return text_of(content, f"{self._source}, {_member_label(path)}")

    def _manifest(self) -> dict[str, Value]:
        members = self._archive.infolist()
        if len(members) > _MAX_MEMBERS:
            raise self._refused(f"the package has more than {_MAX_MEMBERS} members")
        names = [member.filename for member in members]
        if MANIFEST not in names:
            flows = [name for name in names if name.endswith((".yml", ".yaml"))]
            hint = f": unpack it, and use {_member_label(flows[0])}" if flows else ""
            message = f"is a ZIP archive without a {MANIFEST}, so not an app package of Dify (.ifpkg){hint}"
            raise self._refused(message)
        return read(self._member(MANIFEST, _MAX_MANIFEST), f"{self._source}, {MANIFEST}").value

    def _indexed(self, manifest: dict[str, Value]) -> tuple[str, int | None, str | None]:
        """(path, size, SHA-256) of the app in the manifest."""
        kind, version = manifest.get("format"), manifest.get("format_version")
        if kind == _AGENT:
            message = "the package holds an agent (an app of mode 'agent'), which Headrace does not run"
            raise self._refused(message, "format")
        if kind != _APP:
            raise self._refused(f"packages of format {excerpt(kind)} are not supported", "format")
        if version != _VERSION:
            message = f"packages of format version {excerpt(version)} are not supported, only {_VERSION}"
            raise self._refused(message, "format_version")
        apps = manifest.get("apps")
        entries = [mapping(entry) or {} for entry in cast("list[Value]", apps)] if isinstance(apps, list) else []
        entry = entries[0] if len(entries) == 1 else {}
        path = entry.get("path")
        if not isinstance(path, str):
            raise self._refused(f"{MANIFEST} must name one app, with its path", "apps")
        size, digest = entry.get("size"), entry.get("sha256")
        return path, size if isinstance(size, int) else None, digest if isinstance(digest, str) else None

    def _member(self, path: str, limit: int) -> bytes:
        """A member's content; never more than `limit` bytes are unpacked."""
        members = [member for member in self._archive.infolist() if member.filename == path]
        if len(members) != 1:
            raise self._refused(f"the package has {len(members) or 'no'} members named {excerpt(path)}, not one")
        if members[0].compress_type not in _COMPRESSIONS:
            raise self._refused(f"{_member_label(path)} in the package is compressed by an unsupported method")
        with self._archive.open(members[0]) as member:
            content = member.read(limit + 1)
        if len(content) > limit:
            raise self._refused(f"{_member_label(path)} in the package is larger than {limit // 1024 // 1024} MB")
        return content

    def _refused(self, message: str, field: str | None = None) -> LoadError:
        return _refused(self._source, message, field)
