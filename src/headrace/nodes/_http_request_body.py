"""The body of an http-request, and the text that the trace shows of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias
from urllib.parse import urlencode

from pydantic import field_validator

from headrace.errors import NodeError
from headrace.node import SELECTOR, Config, Context
from headrace.nodes._json_body import json_of
from headrace.ports.services import Part
from headrace.values import File, files_in
from headrace.values import text as text_of

BodyType: TypeAlias = Literal["none", "form-data", "x-www-form-urlencoded", "raw-text", "json", "binary"]

CONTENT_TYPES: Mapping[str, str] = {
    "json": "application/json",
    "x-www-form-urlencoded": "application/x-www-form-urlencoded",
    "form-data": "multipart/form-data",
    "raw-text": "text/plain",
}
# Dify sends this in an empty form, because many servers cannot parse a form without parts.
_PLACEHOLDER = Part("__multipart_placeholder__", b"", "", "application/octet-stream")


class BodyItem(Config):
    """`file` is the selector of a file or a list of files, `value` a template."""

    key: str = ""
    type: Literal["file", "text"] = "text"
    value: str = ""
    file: Annotated[Sequence[str], SELECTOR] = ()

    @field_validator("key", "value", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return text_of(value) if value is None or isinstance(value, int | float | dict | list) else value

    @field_validator("type", mode="before")
    @classmethod
    def _kind(cls, value: object) -> object:
        return value or "text"

    @field_validator("file", mode="before")
    @classmethod
    def _selector(cls, value: object) -> object:
        return value or ()


class Body(NamedTuple):
    """`parts` for multipart, else `content`. `log` is the text for the trace."""

    content: bytes | None = None
    parts: Sequence[Part] = ()
    content_type: str = ""
    log: str = ""


def key_values(lines: str) -> list[tuple[str, str]]:
    """The pairs of a text with a `key:value` on each line; a line without a colon is a key without a value."""
    split = (line.partition(":") for line in lines.splitlines() if line.strip())
    return [(key.strip(), value.strip()) for key, _, value in split]


async def build_body(kind: BodyType, data: Sequence[BodyItem] | str, ctx: Context) -> Body:
    """NodeError: `RequestBodyError` (invalid JSON, not exactly one item), `FileFetchError` (no such file)."""
    if isinstance(data, str):
        data = _items_of(kind, data)
    content_type = CONTENT_TYPES.get(kind, "")
    match kind:
        case "none":
            return Body()
        case "raw-text":
            text = ctx.variables.render(_only_item(kind, data).value)
            return Body(_bytes(text), (), content_type, text)
        case "json":
            return await _json(_only_item(kind, data).value, ctx)
        case "binary":
            selector = _only_item(kind, data).file
            file = ctx.variables.get(selector)
            if not isinstance(file, File):
                raise NodeError(f"cannot fetch file with selector {list(selector)}", "FileFetchError")
            content = await ctx.resources.files.read(file)
            return Body(content, (), "", f"<binary_content: size={len(content)} bytes>" if content else "")
        case "x-www-form-urlencoded":
            pairs = {ctx.variables.render(item.key): ctx.variables.render(item.value) for item in data}
            query = urlencode(pairs, errors="replace")
            return Body(query.encode(), (), content_type, query)
        case "form-data":
            return await _form(data, ctx)


def _items_of(kind: BodyType, data: str) -> list[BodyItem]:
    """The items of a body that an old file has as one text."""
    if kind in ("form-data", "x-www-form-urlencoded"):
        return [BodyItem(key=key, value=value) for key, value in key_values(data)]
    return [BodyItem(value=data)]


def _only_item(kind: BodyType, data: Sequence[BodyItem]) -> BodyItem:
    if len(data) != 1:
        raise NodeError(f"{kind} body type should have exactly one item, not {len(data)}", "RequestBodyError")
    return data[0]


async def _json(template: str, ctx: Context) -> Body:
    """The template as JSON, parsed and serialized again, as in Dify."""
    try:
        text = json.dumps(await json_of(template, ctx.variables), allow_nan=False)
    except (ValueError, RecursionError) as error:
        body_text = ctx.variables.render(template)
        excerpt = body_text if len(body_text) <= 500 else f"{body_text[:500]}..."
        raise NodeError(f"Failed to parse JSON: {excerpt} ({error})", "RequestBodyError") from error
    return Body(text.encode(), (), CONTENT_TYPES["json"], text)


async def _form(data: Sequence[BodyItem], ctx: Context) -> Body:
    fields: dict[str, str] = {}
    selectors: dict[str, Sequence[str]] = {}
    for item in data:
        key = ctx.variables.render(item.key)
        if item.type == "text":
            fields[key] = ctx.variables.render(item.value)
        else:
            selectors[key] = item.file
    parts = [Part(key, _bytes(value)) for key, value in fields.items()]
    log = list(fields.items())
    files: list[Part] = []
    for key, selector in selectors.items():
        for file in files_in({key: ctx.variables.get(selector)}):
            content = await ctx.resources.files.read(file)
            mime_type = file.mime_type or "application/octet-stream"
            files.append(Part(key, content, file.filename or "file", mime_type))
            summary = f"'{file.filename or 'unknown'}', type='{mime_type}', size={len(content)} bytes"
            log.append((key, f"<file_content_binary: {summary}>"))
    # the boundary in the log is not the one that is sent, which the HTTP client chooses
    boundary = f"----WebKitFormBoundary{ctx.new_id().replace('-', '')[:16]}"
    lines = [f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in log]
    text = "".join([*lines, f"--{boundary}--\r\n"]) if log else ""
    return Body(None, [*parts, *files] or [_PLACEHOLDER], f"multipart/form-data; boundary={boundary}", text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
