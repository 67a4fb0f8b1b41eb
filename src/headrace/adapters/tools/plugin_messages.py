"""The messages of plugins' tools, as Dify's SDK has them, from and to those of the port."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from headrace.adapters.plugins.fields import items_of
from headrace.errors import NodeError
from headrace.ports.services import (
    BlobChunkMessage,
    BlobMessage,
    FileMessage,
    ImageMessage,
    JsonMessage,
    LinkMessage,
    LogMessage,
    SourcesMessage,
    TextMessage,
    ToolMessage,
    UsageMessage,
    VariableMessage,
)
from headrace.values import Value, to_json

PLUGIN_ERROR = "PluginInvokeError"
_Fields: TypeAlias = Mapping[str, Any]


def tool_message(fields: _Fields) -> ToolMessage | None:
    """A message of a tool; None for one that says nothing to its caller. NodeError if it is malformed."""
    type_ = fields.get("type")
    content, meta = _object(fields.get("message")), _object(fields.get("meta"))
    match type_:
        case "text":
            return TextMessage(_text(content, "text"))
        case "json":
            return JsonMessage(content.get("json_object"))
        case "link":
            return LinkMessage(_text(content, "text"))
        case "image" | "image_link":
            return ImageMessage(_text(content, "text"))
        case "blob":
            return BlobMessage(_bytes(content), *_named(meta))
        case "blob_chunk":
            length, end = content.get("total_length"), content.get("end")
            if not isinstance(length, int):
                raise _malformed("blob_chunk")
            return BlobChunkMessage(_text(content, "id"), _bytes(content), length, bool(end), *_named(meta))
        case "variable":
            name = _text(content, "variable_name")
            return VariableMessage(name, content.get("variable_value"), stream=bool(content.get("stream")))
        case "log":
            return _log(content)
        case "retriever_resources":
            sources = content.get("retriever_resources")
            return SourcesMessage([_without_nulls(_object(source)) for source in items_of(sources)])
        case "file":
            return None  # as in Dify: a file's object does not survive the way out of the plugin
        case _:
            raise _malformed(str(type_)[:100])


def _log(content: _Fields) -> LogMessage:
    status, error, parent = content.get("status"), content.get("error"), content.get("parent_id")
    if status not in ("start", "success", "error"):
        raise _malformed("log")
    return LogMessage(
        _text(content, "id"),
        _text(content, "label"),
        status,
        parent if isinstance(parent, str) else None,
        None if error is None else str(error),
        _object(content.get("data")),
        _object(content.get("metadata")),
    )


def file_id(fields: _Fields) -> str:
    """The id of the stored file that a message is about, which a tool gave the plugin; "" if there is none."""
    id_ = _object(fields.get("meta")).get("tool_file_id")
    return id_ if isinstance(id_, str) and fields.get("type") in ("link", "image", "image_link") else ""


def _without_nulls(fields: dict[str, Any]) -> dict[str, Value]:
    return {name: value for name, value in fields.items() if value is not None}


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(content: _Fields, name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise NodeError(f"The plugin sent a message whose {name} is not a text.", PLUGIN_ERROR)
    return value


def _bytes(content: _Fields) -> bytes:
    try:
        return base64.b64decode(_text(content, "blob"), validate=True)
    except ValueError:
        raise NodeError("The plugin sent a file that is not valid base64.", PLUGIN_ERROR) from None


def _named(meta: _Fields) -> tuple[str, str]:
    """(MIME type, name) of a file."""
    return str(meta.get("mime_type") or ""), str(meta.get("filename") or meta.get("file_name") or "")


def _malformed(type_: str) -> NodeError:
    return NodeError(f"The plugin sent a message of the type {type_!r} that is not valid.", PLUGIN_ERROR)


def sent_message(message: ToolMessage) -> dict[str, Value] | None:
    """A message for a plugin that called a tool; None for one that plugins have no form for."""
    match message:
        case TextMessage(text):
            return _sent("text", {"text": text})
        case JsonMessage(value):
            return _sent("json", {"json_object": value if isinstance(value, dict | list) else {"data": value}})
        case LinkMessage(url):
            return _sent("link", {"text": url})
        case ImageMessage(url):
            return _sent("image", {"text": url})
        case BlobMessage(data, mime_type, filename):
            blob = base64.b64encode(data).decode()
            return _sent("blob", {"blob": blob}, {"mime_type": mime_type, "filename": filename})
        case BlobChunkMessage(id_, data, total_length, end, mime_type, filename):
            chunk: dict[str, Value] = {
                "id": id_,
                "sequence": 0,
                "total_length": total_length,
                "blob": base64.b64encode(data).decode(),
                "end": end,
            }
            return _sent("blob_chunk", chunk, {"mime_type": mime_type, "filename": filename})
        case FileMessage(file):
            meta = {"tool_file_id": file.related_id, "mime_type": file.mime_type, "filename": file.filename}
            type_ = "image_link" if file.type == "image" else "link"
            return _sent(type_, {"text": file.url or file.remote_url or ""}, meta if file.related_id else None)
        case VariableMessage(name, value, stream):
            content = {"variable_name": name, "variable_value": to_json(value), "stream": stream}
            return _sent("variable", content)
        case LogMessage():
            return _sent("log", message.body())
        case SourcesMessage(sources):
            return _sent("retriever_resources", {"retriever_resources": list(sources), "context": ""})
        case UsageMessage():
            return None


def _sent(type_: str, content: Mapping[str, Value], meta: Mapping[str, Value] | None = None) -> dict[str, Value]:
    return {"type": type_, "message": content, "meta": meta}
