"""Files in the shape that a workflow's variables want. No network here."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast
from urllib.parse import unquote, urlsplit

from headrace_client.errors import UsageError
from headrace_client.models import AppParameters, UploadedFile

Kind = Literal["image", "document", "audio", "video", "custom"]

_EXTENSIONS: Mapping[Kind, str] = {
    "image": "jpg jpeg png webp gif svg",
    "document": "txt markdown md mdx pdf html htm xlsx xls vtt properties doc docx csv eml msg pptx ppt xml epub",
    "audio": "mp3 m4a wav amr mpga",
    "video": "mp4 mov mpeg webm",
}
_KINDS: Mapping[str, Kind] = {end: kind for kind, ends in _EXTENSIONS.items() for end in ends.split()}
_MAGIC: Sequence[tuple[bytes, str]] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"%PDF-", "pdf"),
    (b"ID3", "mp3"),
)
_BINARY = "application/octet-stream"
FILE_VARIABLES = ("file", "file-list")


@dataclass(frozen=True)
class File:
    """A file to upload: a path, bytes, or a file object opened in binary mode, with what is not to be guessed.

    `type` is what the workflow takes it for: image, document, audio, video or custom.
    """

    content: str | PathLike[str] | bytes | IO[bytes]
    filename: str | None = None
    mime_type: str | None = None
    type: Kind | None = None

    def named(self) -> str:
        """The name that it is uploaded with; made up from the content where there is none."""
        if self.filename:
            return self.filename
        content = self.content
        if isinstance(content, (str, PathLike)):
            return Path(content).name
        if not isinstance(content, bytes):
            name = getattr(content, "name", None)
            if isinstance(name, str) and name:
                return Path(name).name
            return f"file.{_extension(_head(content))}"
        return f"file.{_extension(content)}"

    def part(self) -> Part:
        """What is sent. The caller closes it. UsageError where it cannot be read."""
        content = self.content
        if isinstance(content, io.TextIOBase):
            raise UsageError("The file is opened as text; open it in binary mode ('rb').")
        if not isinstance(content, (str, PathLike, bytes)) and (not content.seekable() or content.tell()):
            # httpx would send all of it, or could not send it twice
            name = getattr(content, "name", None)
            known = Path(name).name if isinstance(name, str) and name else None
            return File(content.read(), self.filename or known, self.mime_type).part()
        name = self.named()
        declared = self.mime_type or mimetypes.guess_type(name)[0] or _BINARY
        if isinstance(content, (str, PathLike)):
            try:
                return Part(name, open(fspath(content), "rb"), declared, owned=True)
            except OSError as error:
                raise UsageError(f"The file cannot be read: {error}") from error
        if isinstance(content, bytes):
            return Part(name, io.BytesIO(content), declared, owned=True)
        return Part(name, content, declared, owned=False)


def _head(file: IO[bytes]) -> bytes:
    """What a file object goes on with; it stays where it is."""
    place = file.tell()
    try:
        return file.read(4096)
    finally:
        file.seek(place)


def _extension(content: bytes) -> str:
    """What a file without a name seems to be, by how it begins."""
    for magic, end in _MAGIC:
        if content.startswith(magic):
            return end
    if content[:4] == b"RIFF" and content[8:12] in (b"WEBP", b"WAVE"):
        return "webp" if content[8:12] == b"WEBP" else "wav"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return "bin" if error.start < len(content) - 4 else "txt"  # it may end within a character
    return "txt"


@dataclass
class Part:
    """A file as it is sent, as often as it takes."""

    name: str
    content: IO[bytes]
    mime_type: str
    owned: bool

    def again(self) -> tuple[str, IO[bytes], str]:
        self.content.seek(0)
        return self.name, self.content, self.mime_type

    def close(self) -> None:
        if self.owned:
            self.content.close()


@dataclass(frozen=True)
class Variable:
    """What a workflow's form says of a variable."""

    kind: str
    allowed: Sequence[str] = ()


def variables_of(parameters: AppParameters) -> dict[str, Variable]:
    """The variables of an app's form, by name."""
    found: dict[str, Variable] = {}
    for entry in parameters.user_input_form:
        for kind, told in entry.items():
            name, allowed = told.get("variable"), told.get("allowed_file_types")
            if isinstance(name, str):
                listed = cast("list[str]", allowed) if isinstance(allowed, list) else []
                found[name] = Variable(str(told.get("type") or kind), listed)
    return found


def is_url(value: Any) -> bool:
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://"))


def is_file(value: Any) -> bool:
    """Whether a value can only be a file."""
    return isinstance(value, (File, UploadedFile, PathLike, bytes, bytearray, io.IOBase)) or (
        not isinstance(value, (str, Mapping)) and callable(getattr(value, "read", None))
    )


def may_be_file(value: Any) -> bool:
    """Whether a value, or one in its list, is a file or a URL, which may stand for one."""
    return any(is_file(each) or is_url(each) for each in listed(value))


def listed(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        yield from cast("Sequence[Any]", value)
    else:
        yield value


def as_file(value: Any) -> File:
    """A value as a file to upload."""
    if isinstance(value, File):
        return value
    return File(bytes(value) if isinstance(value, bytearray) else value)


def kind_of(name: str, variable: Variable | None, stated: str | None = None) -> str:
    """What a file of this name is taken for, by a variable that may allow only some kinds."""
    if stated:
        return stated
    allowed = variable.allowed if variable is not None else ()
    usual = _KINDS.get(name.rpartition(".")[2].lower()) if "." in name else None
    if usual is not None and (not allowed or usual in allowed):
        return usual
    if not allowed:
        return "document" if usual is None else usual
    return "custom" if "custom" in allowed else allowed[0] if usual is None else usual


def remote(url: str, variable: Variable | None) -> dict[str, Any]:
    """A URL in the shape that a run takes."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return {"type": kind_of(name, variable), "transfer_method": "remote_url", "url": url}


def local(uploaded: UploadedFile, variable: Variable | None, stated: str | None = None) -> dict[str, Any]:
    """An uploaded file in the shape that a run takes."""
    name = uploaded.name or f".{uploaded.extension or ''}"
    return {"type": kind_of(name, variable, stated), "transfer_method": "local_file", "upload_file_id": uploaded.id}


def shaped(many: Sequence[Any], given: Any, variable: Variable | None) -> Any:
    """One file or a list of them, as the variable wants it; as it was given where that is not known."""
    if variable is not None and variable.kind == "file-list":
        return list(many)
    if variable is not None and variable.kind == "file" and len(many) == 1:
        return many[0]
    return list(many) if isinstance(given, (list, tuple)) else many[0]
