"""A tool's messages: how their files are stored, and what they add up to as outputs of a node."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from headrace.errors import NodeError
from headrace.kernel.summary import UsageTotal
from headrace.node import Context
from headrace.ports.services import (
    BlobChunkMessage,
    BlobMessage,
    FileMessage,
    HttpRequest,
    ImageMessage,
    JsonMessage,
    LinkMessage,
    LogMessage,
    SourcesMessage,
    TextMessage,
    ToolContext,
    ToolMessage,
    UsageMessage,
    VariableMessage,
)
from headrace.values import File, Value

LARGEST_BLOB = 30 * 1024 * 1024  # bytes; Dify's limit
SOURCES = "retriever_resources"
_RESERVED = frozenset(("text", "files", "json"))  # the node's own outputs
_UNKNOWN_TYPE = "application/octet-stream"
_FILE_ERROR = "ToolFileError"


def tool_context(ctx: Context, step: str = "") -> ToolContext:
    """The context of a call that a step makes; without one, the node itself."""
    context = ToolContext(ctx.run, ctx.app, ctx.user, ctx.key, ctx.step)
    return context.within(step) if step else context


Stored: TypeAlias = (
    TextMessage | JsonMessage | LinkMessage | FileMessage | VariableMessage | LogMessage | SourcesMessage | UsageMessage
)


async def with_files_stored(messages: AsyncGenerator[ToolMessage], ctx: Context) -> AsyncGenerator[Stored]:
    """The messages, with a stored file in place of each image and blob. An image that cannot be downloaded becomes a
    text that says so, as in Dify. NodeError if a blob is too large or incomplete."""
    chunks: dict[str, bytearray] = {}
    async with aclosing(messages):
        async for message in messages:
            match message:
                case ImageMessage(url):
                    yield await _downloaded(url, ctx)
                case BlobMessage():
                    yield await _stored(message, ctx)
                case BlobChunkMessage():
                    if (blob := _joined(message, chunks)) is not None:
                        yield await _stored(blob, ctx)
                case _:
                    yield message
    if chunks:
        raise NodeError("The tool sent only a part of a file.", _FILE_ERROR)


async def _downloaded(url: str, ctx: Context) -> TextMessage | FileMessage:
    try:
        response = await ctx.resources.http.send(HttpRequest("GET", url, max_size=LARGEST_BLOB))
        if response.status >= 400:
            raise NodeError(f"HTTP status {response.status}", _FILE_ERROR)
    except NodeError as error:
        return TextMessage(f"Failed to download image: {url}: {error}, you can try to download it yourself.")
    mime_type = next((value for name, value in response.headers if name.lower() == "content-type"), "")
    name = urlsplit(response.url).path.rpartition("/")[2]
    return await _stored(BlobMessage(response.body, mime_type, name if "." in name else ""), ctx)


def _joined(chunk: BlobChunkMessage, chunks: dict[str, bytearray]) -> BlobMessage | None:
    """The blob that a chunk completes."""
    data = chunks.setdefault(chunk.id, bytearray())
    data += chunk.data
    _check_size(sum(map(len, chunks.values())))
    if not chunk.end:
        return None
    del chunks[chunk.id]
    if len(data) != chunk.total_length:
        raise NodeError(f"The tool sent {len(data)} bytes of a file of {chunk.total_length}.", _FILE_ERROR)
    return BlobMessage(bytes(data), chunk.mime_type, chunk.filename)


def _check_size(size: int) -> None:
    if size > LARGEST_BLOB:
        raise NodeError(f"The tool's files are larger than {LARGEST_BLOB} bytes.", _FILE_ERROR)


async def _stored(blob: BlobMessage, ctx: Context) -> FileMessage:
    _check_size(len(blob.data))
    file = await ctx.resources.files.save(
        blob.data,
        filename=blob.filename,
        mime_type=blob.mime_type or ("" if blob.filename else _UNKNOWN_TYPE),
        app=ctx.app,
        owner=ctx.user,
    )
    return FileMessage(file)


def sum_of(usages: Sequence[Mapping[str, Value]]) -> Mapping[str, Value] | None:
    """What several models used; None if none was called."""
    if len(usages) < 2:
        return usages[0] if usages else None
    total = UsageTotal()
    for usage in usages:
        total.add(usage)
    return total.wire()


def cited(sources: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """The process data of a node whose tool names the sources of its answer: the message cites them."""
    return {SOURCES: list(sources)} if sources else {}


@dataclass(slots=True)
class ToolOutputs:
    """What the messages of one call add up to. Text, and variables that stream, are streamed as they come; logs are
    given to `on_log`."""

    ctx: Context
    on_log: Callable[[LogMessage], None] | None = None
    text: list[str] = field(default_factory=list[str])
    files: list[File] = field(default_factory=list[File])
    json: list[Value] = field(default_factory=list[Value])
    variables: dict[str, Value] = field(default_factory=dict[str, Value])
    logs: list[LogMessage] = field(default_factory=list[LogMessage])
    usages: list[Mapping[str, Value]] = field(default_factory=list[Mapping[str, Value]])
    sources: list[Mapping[str, Value]] = field(default_factory=list[Mapping[str, Value]])
    _size: int = 0

    async def add_all(self, messages: AsyncGenerator[ToolMessage]) -> None:
        async with aclosing(with_files_stored(messages, self.ctx)) as messages_with_files:
            async for message in messages_with_files:
                match message:
                    case TextMessage(text):
                        self._say(text)
                    case LinkMessage(url):
                        self._say(f"Link: {url}\n")
                    case FileMessage(file, mention):
                        self.files.append(file)
                        if mention:
                            self._say(f"File: {file.url}\n")
                    case JsonMessage(value):
                        if value:
                            self.json.append(value)
                    case VariableMessage():
                        self._set(message)
                    case LogMessage():
                        self.logs.append(message)
                        if self.on_log is not None:
                            self.on_log(message)
                    case SourcesMessage(sources):
                        self.sources += sources
                    case UsageMessage(usage):
                        self.usages.append(usage)

    def outputs(self) -> dict[str, Value]:
        """The outputs of a tool node."""
        return {
            **self.variables,
            "text": "".join(self.text),
            "files": self.files,
            "json": self.json or [{"data": []}],
        }

    def usage(self) -> Mapping[str, Value] | None:
        """What the tool's models used, in all."""
        return sum_of(self.usages)

    def _say(self, text: str) -> None:
        self._limit(text)
        self.text.append(text)
        self.ctx.emit("text", text)

    def _set(self, message: VariableMessage) -> None:
        if message.name in _RESERVED:  # `structuredContent` of an MCP tool may well have such a key
            return
        if not message.stream:
            self.variables[message.name] = message.value
            return
        if not isinstance(message.value, str):
            raise NodeError("When 'stream' is True, 'variable_value' must be a string.", "ToolInvokeError")
        self._limit(message.value)
        self.variables[message.name] = f"{self.variables.get(message.name) or ''}{message.value}"
        self.ctx.emit(message.name, message.value)

    def _limit(self, text: str) -> None:
        self._size += len(text)
        if self._size > self.ctx.limits.max_text:
            raise NodeError(f"The tool's text is longer than {self.ctx.limits.max_text} characters.", "ToolInvokeError")
