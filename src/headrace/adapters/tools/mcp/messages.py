"""Tools and results of MCP servers, as those of workflows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from headrace.adapters.tools.schemas import MOST_REFERENCES, PARAMETER_TYPES, inlined
from headrace.content.python_json import load_json
from headrace.errors import NodeError
from headrace.ports.services import (
    BlobMessage,
    JsonMessage,
    LinkMessage,
    TextMessage,
    ToolMessage,
    ToolParameter,
    ToolSpec,
    VariableMessage,
)
from headrace.values import Value

if TYPE_CHECKING:
    from mcp.types import CallToolResult, ContentBlock, Tool

INVOKE_ERROR = "ToolInvokeError"
_DEFINITIONS = ("$defs", "definitions")


def tool_spec(tool: Tool) -> ToolSpec:
    """A tool of a server. One whose schema does not say which parameters there are takes any."""
    schema = cast("Mapping[str, Value]", tool.input_schema)
    properties = cast("Mapping[str, Any]", schema.get("properties") or {})
    required = cast("Sequence[str]", schema.get("required") or ())
    parameters = [
        _parameter(name, _standalone(property_schema, schema), required=name in required)
        for name, property_schema in properties.items()
    ]
    return ToolSpec(
        tool.name,
        tool.title or tool.name,
        tool.description or "",
        parameters,
        tool.output_schema,
        open="properties" not in schema and schema.get("additionalProperties") is not False,
    )


def _parameter(name: str, property_schema: Value, *, required: bool) -> ToolParameter:
    schema = cast("dict[str, Value]", property_schema) if isinstance(property_schema, dict) else {}
    types = _types(schema) - {"null"}
    type_ = PARAMETER_TYPES.get(types.pop(), "any") if len(types) == 1 else "any"
    enum = schema.get("enum")
    options: Sequence[Value] = cast("list[Value]", enum) if isinstance(enum, list) else ()
    is_choice = type_ == "string" and all(isinstance(option, str) for option in options)
    # a model gets the schema as it is wherever type, description and options say less
    plain = schema.keys() <= {"type", "title", "description", "default"} | ({"enum"} if is_choice else set())
    says_all = plain and type_ in ("string", "number", "boolean") and schema.get("type") == type_
    return ToolParameter(
        name,
        type_,
        required=required,
        default=schema.get("default"),
        options=options if is_choice else (),
        label=str(schema.get("title") or name),
        description=str(schema.get("description") or ""),
        input_schema=None if says_all else schema,
    )


def _types(schema: Value) -> set[str]:
    """The types that a value may have; "any" if the schema does not say."""
    if not isinstance(schema, dict):
        return {"any"}
    fields = cast("dict[str, Any]", schema)
    choices = fields.get("anyOf") or fields.get("oneOf")
    if isinstance(choices, list):
        return {type_ for choice in cast("list[Value]", choices) for type_ in _types(choice)}
    type_ = fields.get("type", "any")
    types = cast("list[Any]", type_ if isinstance(type_, list) else [type_])
    return {type_ if isinstance(type_, str) else "any" for type_ in types}


def _standalone(schema: Value, root: Mapping[str, Value]) -> Value:
    """A part of a schema with what it refers to in place of its references. What refers to itself, is nested too deep,
    or cannot be found, is replaced by a schema that anything fits."""
    return inlined(lambda depth, references: _resolved(schema, root, depth, references))


def _resolved(
    schema: Value, root: Mapping[str, Value], depth: int, references: Iterator[int], within: Sequence[str] = ()
) -> Any:
    """`within` are the references that lead here."""

    def resolved(part: Value, within: Sequence[str] = within) -> Any:
        return _resolved(part, root, depth, references, within)

    if isinstance(schema, list):
        return [resolved(item) for item in cast("list[Value]", schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Value]", schema)
    reference = fields.get("$ref")
    if not isinstance(reference, str):
        return {name: resolved(item) for name, item in fields.items() if name not in _DEFINITIONS}
    is_cut = reference in within or len(within) >= depth or next(references) > MOST_REFERENCES
    target: Any = root if reference.startswith("#/") and not is_cut else None
    for part in reference[2:].split("/"):
        target = cast("dict[str, Value]", target).get(part) if isinstance(target, dict) else None
    siblings = {name: resolved(item) for name, item in fields.items() if name != "$ref"}
    copy: Any = resolved(target, (*within, reference))
    return {**(cast("dict[str, Value]", copy) if isinstance(copy, dict) else {}), **siblings}


def arguments(parameters: Mapping[str, Value]) -> dict[str, Value]:
    """What a server is given: as in Dify, without what is empty."""
    return {name: value for name, value in parameters.items() if value is not None and value != ""}


def messages(result: CallToolResult, spec: ToolSpec) -> Iterator[ToolMessage]:
    """What a call results in. NodeError if the tool says that it failed: its text would pass for a result."""
    if result.is_error:
        texts = [content.text for content in result.content if content.type == "text"]
        raise NodeError("\n".join(texts) or "The tool failed without saying why.", INVOKE_ERROR)
    for content in result.content:
        yield from _content(content)
    structured_content: Any = result.structured_content
    if spec.output_schema is not None and isinstance(structured_content, dict):
        for name, value in cast("dict[str, Value]", structured_content).items():
            yield VariableMessage(name, value)


def _content(content: ContentBlock) -> Iterator[ToolMessage]:
    match content.type:
        case "text":
            yield from _text(content.text)
        case "image" | "audio":
            yield BlobMessage(_bytes(content.data), content.mime_type)
        case "resource_link":
            uri = str(content.uri)
            yield LinkMessage(uri) if uri.startswith(("http://", "https://")) else TextMessage(uri)
        case "resource":
            resource = content.resource
            blob = getattr(resource, "blob", None)
            if blob is None:
                yield TextMessage(getattr(resource, "text", ""))
            else:
                filename = str(resource.uri).rstrip("/").rpartition("/")[2]
                yield BlobMessage(_bytes(blob), resource.mime_type or "", filename)


def _text(text: str) -> Iterator[ToolMessage]:
    """A text; if it is JSON of an object, or of a list of objects, those."""
    try:
        content: Any = load_json(text)
    except ValueError:
        content = None
    items = cast("list[Any]", content if isinstance(content, list) else [content])
    if items and all(isinstance(item, dict) for item in items):
        for item in items:
            yield JsonMessage(item)
    else:
        yield TextMessage(text)


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise NodeError("The tool sent a file that is not valid base64.", INVOKE_ERROR) from None
