"""Requests to language models and their answers, as Dify's plugin SDK has them, to and from those of the port."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from headrace.adapters.models.request import encoded, state_schema, stop_words
from headrace.adapters.plugins.fields import items_of, mapping_of
from headrace.errors import HeadraceError
from headrace.ports.services import ChatChunk, ChatRequest, Files, FunctionTool, Message, ToolCall, ToolContext, Usage
from headrace.values import File, Value, to_json

if TYPE_CHECKING:
    from headrace.adapters.plugins.declarations import ModelDeclaration

_Fields: TypeAlias = Mapping[str, Any]

_OPAQUE = "opaque_body"
_NOTHING: _Fields = {}
_FEATURES: Mapping[str, str] = {"image": "vision", "document": "document", "audio": "audio", "video": "video"}
_SCHEMA_NAME = "llm_response"
_ROLES: Mapping[str, Any] = {"developer": "system", "system": "system", "assistant": "assistant", "tool": "tool"}

# ------------------------------------------------------------------------------------------------- to a plugin's model


async def llm_request(request: ChatRequest, model: ModelDeclaration | None, files: Files | None) -> dict[str, Value]:
    """The fields of `invoke_llm` that depend on the request. `model` is what the plugin declares of the model; None for
    one that people add by its name. NodeError if a parameter is malformed or a file no longer exists."""
    parameters: dict[str, Any] = {
        name: to_json(value)
        for name, value in request.parameters.items()
        if name != "stop" and value is not None and value != ""
    }
    messages = list(request.messages)
    if request.schema is not None:
        _bind(parameters, messages, cast("Mapping[str, Value]", to_json(dict(request.schema))), model)
    elif isinstance(parameters.get("json_schema"), dict):
        parameters["json_schema"] = json.dumps(parameters["json_schema"])
    if request.mode == "completion":
        messages = [Message("user", "\n\n".join(message.text for message in messages if message.text))]
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    prompt = [await _message(message, names, model, files) for message in messages]
    return {
        "prompt_messages": [
            message for message in prompt if message["content"] or message.keys() & {"tool_calls", "tool_call_id"}
        ],
        "model_parameters": parameters,
        "tools": [_tool(tool) for tool in request.tools] or None,
        "stop": stop_words(request) or None,
        "stream": True,
    }


def _bind(
    parameters: dict[str, Any], messages: list[Message], schema: Mapping[str, Value], model: ModelDeclaration | None
) -> None:
    """Binds the answer to a schema as far as the model supports it; otherwise the prompt states it."""
    options = [str(option) for option in items_of(_rule(model, "response_format").get("options"))]
    if model is not None and "structured-output" in model.features:
        schema_in_object = {"name": _SCHEMA_NAME, "schema": schema}
        parameters["json_schema"] = json.dumps(schema if "gemini" in model.name else schema_in_object)
        if "json_schema" in options:
            parameters["response_format"] = "json_schema"
        return
    for form in ("JSON", "json_object"):
        if form in options:
            parameters["response_format"] = form
            break
    state_schema(messages, schema)


def _rule(model: ModelDeclaration | None, name: str) -> _Fields:
    rules = model.rules if model is not None else ()
    return next((rule for rule in rules if rule.get("name") == name), _NOTHING)


def _tool(tool: FunctionTool) -> dict[str, Value]:
    return {"name": tool.name, "description": tool.description, "parameters": to_json(dict(tool.parameters))}


async def _message(
    message: Message, names: Mapping[str, str], model: ModelDeclaration | None, files: Files | None
) -> dict[str, Value]:
    """A message with its files; types of files that the model does not accept are left out, as in Dify."""
    parts = [
        await _part(file, message.detail, files)
        for file in message.files
        if file.type in _FEATURES and (model is None or _FEATURES[file.type] in model.features)
    ]
    if parts and message.text:
        parts.append({"type": "text", "data": message.text})
    body: dict[str, Value] = {"role": message.role, "content": parts or message.text, "name": None}
    if message.tool_calls:
        body["tool_calls"] = list(map(sent_call, message.tool_calls))
        body[_OPAQUE] = _opaque_of(message.tool_calls)
    if message.tool_call is not None:
        body["tool_call_id"] = message.tool_call
        body["name"] = names.get(message.tool_call)  # some protocols refer to a call by the function's name
    return body


def _opaque_of(calls: Sequence[ToolCall]) -> Value:
    extras = (call.extra_content for call in calls if call.extra_content)
    return next((to_json(extra[_OPAQUE]) for extra in extras if _OPAQUE in extra), None)


def sent_call(call: ToolCall) -> dict[str, Value]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


async def _part(file: File, detail: str, files: Files | None) -> dict[str, Value]:
    """A file as a part of a message: its content, because what a model's provider can fetch is not known."""
    if files is None:
        mime_type, data, url = file.mime_type or "application/octet-stream", "", file.remote_url or file.url or ""
    else:
        (mime_type, data), url = await encoded(file, files), ""
    part: dict[str, Value] = {
        "type": file.type,
        "format": (file.extension or "").removeprefix(".") or mime_type.rpartition("/")[2],
        "base64_data": data,
        "url": url,
        "mime_type": mime_type,
        "filename": file.filename or "",
    }
    return part | ({"detail": detail} if file.type == "image" else {})


async def chat_payload(chunk: _Fields, request: ChatRequest, files: Files | None) -> dict[str, Any]:
    """A chunk of the answer as an event of OpenAI's protocol, which is what `response.Answer` reads."""
    delta = mapping_of(chunk.get("delta"))
    message = mapping_of(delta.get("message"))
    calls = [dict(mapping_of(call)) for call in items_of(message.get("tool_calls"))]
    if calls and message.get(_OPAQUE) is not None:
        calls[0]["extra_content"] = {_OPAQUE: message[_OPAQUE]}
    content = {"content": await _text(message.get("content"), request, files), "tool_calls": calls}
    choice = {"delta": content, "finish_reason": delta.get("finish_reason")}
    return {"choices": [choice], "usage": mapping_of(delta.get("usage"))}


async def _text(content: object, request: ChatRequest, files: Files | None) -> str:
    """The text of an answer's content. Images among it are stored, and mentioned in the text, as in Dify."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in map(mapping_of, items_of(content)):
        if part.get("type") == "text":
            texts.append(str(part.get("data") or ""))
        elif part.get("url"):
            texts.append(f"![]({part['url']})")
        elif part.get("base64_data") and files is not None:
            data = _decoded(part["base64_data"])
            file = await files.save(data, filename="", mime_type=str(part.get("mime_type") or ""), owner=request.user)
            texts.append(file.markdown)
    return "".join(texts)


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError as error:
        raise HeadraceError("a file in a message is not valid base64") from error


def priced(usage: Usage, usage_fields: _Fields) -> Usage:
    """The usage with the prices that the plugin reports."""
    try:
        return Usage(
            usage.prompt_tokens,
            usage.completion_tokens,
            Decimal(str(usage_fields["prompt_unit_price"])),
            Decimal(str(usage_fields["completion_unit_price"])),
            Decimal(str(usage_fields["prompt_price_unit"])),
            str(usage_fields["currency"]),
            usage.latency,
            usage.time_to_first_token,
            usage.time_to_generate,
        )
    except (KeyError, InvalidOperation):
        return usage


# ------------------------------------------------------------------------------------------- from a plugin that calls


async def chat_request(request: _Fields, context: ToolContext, files: Files) -> ChatRequest:
    """The request of a plugin that calls a model back. HeadraceError if it is malformed."""
    provider, model = request.get("provider"), request.get("model")
    if not (isinstance(provider, str) and isinstance(model, str) and provider and model):
        raise HeadraceError("provider and model must be texts")
    messages = [
        await _received(mapping_of(message), context.user, context.app, files)
        for message in items_of(request.get("prompt_messages"))
    ]
    if not messages:
        raise HeadraceError("prompt_messages must be a list of messages")
    stop = [word for word in items_of(request.get("stop")) if isinstance(word, str) and word]
    return ChatRequest(
        provider,
        model,
        messages,
        mapping_of(request.get("completion_params")),
        stop,
        mapping_of(request.get("structured_output_schema")) or None,
        context.user or None,
        str(request.get("mode") or "chat"),
        [_received_tool(mapping_of(tool)) for tool in items_of(request.get("tools"))],
        context.run,
    )


async def _received(message: _Fields, user: str, app: str, files: Files) -> Message:
    content, texts, received_files, detail = message.get("content"), list[str](), list[File](), "low"
    if isinstance(content, str):
        texts.append(content)
    for part in map(mapping_of, items_of(content)):
        if part.get("type") == "text":
            texts.append(str(part.get("data") or ""))
        else:
            received_files.append(await _received_file(part, user, app, files))
            detail = str(part.get("detail") or detail)
    extras = mapping_of(message.get(_OPAQUE))
    calls = [_received_call(mapping_of(call), extras) for call in items_of(message.get("tool_calls"))]
    call_id = message.get("tool_call_id")
    return Message(
        _ROLES.get(str(message.get("role")), "user"),
        "".join(texts),
        received_files,
        detail,
        calls,
        None if call_id is None else str(call_id),
    )


async def _received_file(part: _Fields, user: str, app: str, files: Files) -> File:
    type_, mime_type = str(part.get("type")), str(part.get("mime_type") or "")
    if type_ not in _FEATURES:
        raise HeadraceError(f"a message has content of an unknown type: {type_[:100]!r}")
    filename = str(part.get("filename") or "")
    if not part.get("base64_data"):
        if not isinstance(part.get("url"), str):
            raise HeadraceError("a file in a message has neither base64_data nor a url")
        extension = f".{part['format']}" if part.get("format") else None
        return File(type_, "remote_url", filename or None, extension, mime_type or None, remote_url=part["url"])
    data = _decoded(part["base64_data"])
    return await files.save(data, filename=filename, mime_type=mime_type, app=app or None, owner=user or None)


def _received_call(call: _Fields, extras: _Fields) -> ToolCall:
    function, id_ = mapping_of(call.get("function")), str(call.get("id") or "")
    name, arguments = str(function.get("name") or ""), str(function.get("arguments") or "")
    return ToolCall(id_, name, arguments, mapping_of(extras.get(id_)) or None)


def _received_tool(tool: _Fields) -> FunctionTool:
    return FunctionTool(str(tool.get("name")), str(tool.get("description") or ""), mapping_of(tool.get("parameters")))


def sent_chunk(model: str, index: int, text: str, chunk: ChatChunk) -> dict[str, Value]:
    """A piece of an answer for a plugin that called a model. `text` is that of the chunk, reasoning included."""
    extras = {call.id: to_json(dict(call.extra_content)) for call in chunk.tool_calls if call.extra_content}
    message: dict[str, Value] = {
        "role": "assistant",
        "content": text,
        "name": None,
        "tool_calls": list(map(sent_call, chunk.tool_calls)),
        _OPAQUE: extras or None,  # plugins return it with the calls
    }
    usage = chunk.usage.wire() if chunk.usage is not None else None
    delta = {"index": index, "message": message, "usage": usage, "finish_reason": chunk.finish_reason}
    return {"model": model, "prompt_messages": [], "system_fingerprint": None, "delta": delta}
