"""What a response answers, as items of OpenAI's responses: rebuilt from its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from headrace.api.openai.response_schemas import InputFile, InputImage, InputItem, InputText
from headrace.kernel.events import RunId, RunQueued
from headrace.values import File, Value


def input_items(run: RunId, request: RunQueued) -> list[InputItem]:
    """The messages of a request, the oldest first."""
    metadata = request.metadata or {}
    history = cast("Sequence[Mapping[str, str]]", request.system.get("history") or ())
    if metadata.get("instructions"):
        history = history[1:]  # the first message has them
    items = [
        _item(f"msg_{run}_{place}", message["role"], [_text(message["role"], message["content"])])
        for place, message in enumerate(history)
    ]
    text = str(request.system.get("query") or metadata.get("input") or "")
    files = _files([request.system.get("files"), *request.inputs.values()])
    content = [*map(_file, files), *([_text("user", text)] if text else [])]
    return [*items, _item(f"msg_{run}_{len(items)}", "user", content)] if content else items


def _item(id_: str, role: str, content: list[InputText | InputImage | InputFile]) -> InputItem:
    return {"id": id_, "type": "message", "role": role, "status": "completed", "content": content}


def _text(role: str, text: str) -> InputText:
    return {"type": "output_text" if role == "assistant" else "input_text", "text": text}


def _files(values: Iterable[Value]) -> Iterator[File]:
    for value in values:
        if isinstance(value, File):
            yield value
        elif isinstance(value, list):
            yield from _files(cast("list[Value]", value))


def _file(file: File) -> InputImage | InputFile:
    if file.type == "image":
        return {"type": "input_image", "detail": "auto", "file_id": file.related_id, "image_url": file.remote_url}
    return {
        "type": "input_file",
        "file_id": file.related_id,
        "file_url": file.remote_url,
        "filename": file.filename,
    }
