"""Files in the form that a workflow's variables expect. No network access here."""

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

_EXTENSIONS_BY_KIND: Mapping[Kind, str] = {
    "image": "jpg jpeg png webp gif svg",
    "document": "txt markdown md mdx pdf html htm xlsx xls vtt properties doc docx csv eml msg pptx ppt xml epub",
    "audio": "mp3 m4a wav amr mpga",
    "video": "mp4 mov mpeg webm",
}
_KINDS: Mapping[str, Kind] = {
    extension: kind for kind, extensions in _EXTENSIONS_BY_KIND.items() for extension in extensions.split()
}
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
    """A file to upload: a path, bytes, or a file object opened in binary mode. Fields that are None are guessed.

    `type` is the file's type in the workflow: image, document, audio, video or custom.
    """

    content: str | PathLike[str] | bytes | IO[bytes]
    filename: str | None = None
    mime_type: str | None = None
    type: Kind | None = None

    def named(self) -> str:
        """The name that it is uploaded with; derived from the content if there is none."""
        if self.filename:
            return self.filename
        content = self.content
        if isinstance(content, (str, PathLike)):
            return Path(content).name
        if not isinstance(content, bytes):
            name = getattr(content, "name", None)
            if isinstance(name, str) and name:
                return Path(name).name
            return f"file.{_guess_extension(_peek(content))}"
        return f"file.{_guess_extension(content)}"

    def part(self) -> Part:
        """The form part to send. The caller closes it. UsageError if the file cannot be read."""
        content = self.content
        if isinstance(content, io.TextIOBase):
            raise UsageError("The file is open in text mode; open it in binary mode ('rb').")
        if not isinstance(content, (str, PathLike, bytes)) and (not content.seekable() or content.tell()):
            # httpx would send it from its start, or could not send it twice
            name = getattr(content, "name", None)
            filename = Path(name).name if isinstance(name, str) and name else None
            return File(content.read(), self.filename or filename, self.mime_type).part()
        name = self.named()
        mime_type = self.mime_type or mimetypes.guess_type(name)[0] or _BINARY
        if isinstance(content, (str, PathLike)):
            try:
                return Part(name, open(fspath(content), "rb"), mime_type, owned=True)
            except OSError as error:
                raise UsageError(f"The file cannot be read: {error}") from error
        if isinstance(content, bytes):
            return Part(name, io.BytesIO(content), mime_type, owned=True)
        return Part(name, content, mime_type, owned=False)


def _peek(file: IO[bytes]) -> bytes:
    """The next bytes of a file object, whose position stays the same."""
    position = file.tell()
    try:
        return file.read(4096)
    finally:
        file.seek(position)


def _guess_extension(content: bytes) -> str:
    """The extension of a file without a name, by its first bytes."""
    for magic, extension in _MAGIC:
        if content.startswith(magic):
            return extension
    if content[:4] == b"RIFF" and content[8:12] in (b"WEBP", b"WAVE"):
        return "webp" if content[8:12] == b"WEBP" else "wav"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return "bin" if error.start < len(content) - 4 else "txt"  # a character may be cut off at the end
    return "txt"


@dataclass
class Part:
    """A file as a part of a multipart form."""

    name: str
    content: IO[bytes]
    mime_type: str
    owned: bool

    def rewind(self) -> tuple[str, IO[bytes], str]:
        """The part as httpx takes it, from the start of the file: it is sent once per attempt."""
        self.content.seek(0)
        return self.name, self.content, self.mime_type

    def close(self) -> None:
        if self.owned:
            self.content.close()


@dataclass(frozen=True)
class Variable:
    """A variable of a workflow's form."""

    kind: str
    allowed_types: Sequence[str] = ()


def parse_variables(parameters: AppParameters) -> dict[str, Variable]:
    """The variables of an app's form, by name."""
    variables: dict[str, Variable] = {}
    for entry in parameters.user_input_form:
        for kind, field in entry.items():
            name, allowed = field.get("variable"), field.get("allowed_file_types")
            if isinstance(name, str):
                allowed_types = cast("list[str]", allowed) if isinstance(allowed, list) else []
                variables[name] = Variable(str(field.get("type") or kind), allowed_types)
    return variables


def is_url(value: Any) -> bool:
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://"))


def is_file(value: Any) -> bool:
    """Whether a value can only be a file."""
    return isinstance(value, (File, UploadedFile, PathLike, bytes, bytearray, io.IOBase)) or (
        not isinstance(value, (str, Mapping)) and callable(getattr(value, "read", None))
    )


def may_be_file(value: Any) -> bool:
    """Whether a value, or an item of a list, is a file, or a URL, which can be one."""
    return any(is_file(item) or is_url(item) for item in iter_items(value))


def iter_items(value: Any) -> Iterator[Any]:
    """The items of a list; a value that is not a list is its only item."""
    if isinstance(value, (list, tuple)):
        yield from cast("Sequence[Any]", value)
    else:
        yield value


def to_file(value: Any) -> File:
    """A value as a file to upload."""
    if isinstance(value, File):
        return value
    return File(bytes(value) if isinstance(value, bytearray) else value)


def guess_type(name: str, variable: Variable | None, explicit: str | None = None) -> str:
    """The type of a file by its name, for a variable that may allow only some types."""
    if explicit:
        return explicit
    allowed = variable.allowed_types if variable is not None else ()
    guess = _KINDS.get(name.rpartition(".")[2].lower()) if "." in name else None
    if guess is not None and (not allowed or guess in allowed):
        return guess
    if not allowed:
        return "document" if guess is None else guess
    return "custom" if "custom" in allowed else allowed[0] if guess is None else guess


def map_remote_file(url: str, variable: Variable | None) -> dict[str, Any]:
    """A URL in the form that a run's request expects."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    return {"type": guess_type(name, variable), "transfer_method": "remote_url", "url": url}


def map_local_file(uploaded: UploadedFile, variable: Variable | None, explicit: str | None = None) -> dict[str, Any]:
    """An uploaded file in the form that a run's request expects."""
    name = uploaded.name or f".{uploaded.extension or ''}"
    return {
        "type": guess_type(name, variable, explicit),
        "transfer_method": "local_file",
        "upload_file_id": uploaded.id,
    }


def fit_to_variable(files: Sequence[Any], value: Any, variable: Variable | None) -> Any:
    """One file or a list, as the variable requires; if that is not known, a list if the caller's value is one."""
    if variable is not None and variable.kind == "file-list":
        return list(files)
    if variable is not None and variable.kind == "file" and len(files) == 1:
        return files[0]
    return list(files) if isinstance(value, (list, tuple)) else files[0]
