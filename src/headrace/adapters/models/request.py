"""The body of a request, in the form that a provider accepts."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from headrace.adapters.models.endpoint import Provider
from headrace.errors import NodeError
from headrace.ports.services import ChatRequest, Files, FunctionTool, Message
from headrace.values import File, Value, to_json

_MAX_FILE = 50 * 1024 * 1024  # bytes; no provider takes more in a request
_SCHEMA_NAME = "llm_response"

# Names of the same parameter. The first one that is set is used.
_MAX_TOKENS = ("max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")
# OpenAI's reasoning models refuse `max_tokens`.
_COMPLETION_TOKENS = re.compile(r"(o\d|gpt-5)(\b|-)", re.IGNORECASE)
_RENAMING = frozenset({"openai", "azure_openai", "openai_api_compatible"})
# Parameters for Dify, not for the provider.
_DIFY_ONLY = frozenset({"json_schema", "response_format", "stop", "enable_stream", "thinking", "enable_thinking"})
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


async def build(request: ChatRequest, provider: Provider, files: Files | None) -> dict[str, Any]:
    """The JSON body of a streaming request. NodeError if a parameter is malformed or a file no longer exists."""
    body: dict[str, Any] = {"model": request.model, "stream": True}
    if provider.stream_usage:
        body["stream_options"] = {"include_usage": True}
    body |= _parameters(request, provider)
    if provider.user and request.user:
        body["user"] = request.user
    messages = list(request.messages)
    if request.schema is not None:
        _bind(body, messages, request.schema, provider)
    if request.tools:
        if request.mode == "completion":
            raise NodeError("A model in completion mode does not support tools.", "InvokeBadRequestError")
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.mode == "completion":
        body["prompt"] = "\n\n".join(message.text for message in messages if message.text)
    else:
        bodies = [await _message(message, provider, files) for message in messages]
        body["messages"] = [
            message_body
            for message_body in bodies
            if message_body["content"] or "tool_calls" in message_body or "tool_call_id" in message_body
        ]
    if not body.get("messages") and not body.get("prompt"):
        raise NodeError(f"Nothing to send: {provider.name} accepts no part of the prompt.", "InvokeBadRequestError")
    return body


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Prompts may have lone surrogates, and parameters integers over 64 bits: orjson refuses both, so
    then Python's encoder writes the body."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return json.dumps(body, default=str).encode()


# ------------------------------------------------------------------------------------------------------ parameters


def _parameters(request: ChatRequest, provider: Provider) -> dict[str, Any]:
    parameters = {
        name: to_json(value) for name, value in request.parameters.items() if value is not None and value != ""
    }
    body = {name: value for name, value in parameters.items() if name not in _DIFY_ONLY and name not in _MAX_TOKENS}
    if (limit := token_limit(parameters)) is not None:
        renamed = provider.name in _RENAMING and _COMPLETION_TOKENS.match(request.model)
        body.setdefault("max_completion_tokens" if renamed else "max_tokens", limit)
    if stop := stop_words(request):
        body["stop"] = stop
    if response_format := _response_format(parameters):
        body["response_format"] = response_format
    _think(body, parameters, provider)
    return body


def stop_words(request: ChatRequest) -> list[str]:
    """The stop words of a request and of its parameters, where they are a list or a single one."""
    stop: Any = to_json(request.parameters.get("stop"))
    words = cast("list[Any]", stop) if isinstance(stop, list) else [stop]
    return list(dict.fromkeys([*request.stop, *(word for word in words if isinstance(word, str) and word)]))


def token_limit(parameters: Mapping[str, Any]) -> Any:
    """The highest number of tokens of an answer, under any of its names; None if it is not set."""
    return next((parameters[name] for name in _MAX_TOKENS if name in parameters), None)


def _response_format(parameters: Mapping[str, Value]) -> Value:
    """`response_format` of the protocol, from Dify's: a name, and the schema as text in another parameter."""
    format_name = parameters.get("response_format")
    if not isinstance(format_name, str):
        return format_name
    match format_name.lower():
        case "json_schema":
            return {"type": "json_schema", "json_schema": _named(schema_of(parameters.get("json_schema")))}
        case "json" | "json_object":
            return {"type": "json_object"}
        case "xml" | "text":  # for some models Dify offers XML, which the prompt asks for
            return None if format_name.lower() == "xml" else {"type": "text"}
        case _:
            return {"type": format_name}


def schema_of(value: Value) -> Mapping[str, Value]:
    try:
        schema: Value = orjson.loads(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError as error:
        raise NodeError(
            f"completion parameter json_schema is not valid JSON: {error}", "InvokeBadRequestError"
        ) from error
    if not isinstance(schema, Mapping) or not schema:
        raise NodeError(
            "completion parameter response_format is json_schema, but json_schema is not a JSON object.",
            "InvokeBadRequestError",
        )
    return cast("Mapping[str, Value]", schema)


def _named(schema: Mapping[str, Value]) -> Mapping[str, Value]:
    """The schema, wrapped as the protocol requires if it is not yet."""
    return schema if isinstance(schema.get("schema"), Mapping) else {"name": _SCHEMA_NAME, "schema": schema}


def _think(body: dict[str, Any], parameters: Mapping[str, Value], provider: Provider) -> None:
    thinking, enabled = parameters.get("thinking"), parameters.get("enable_thinking")
    if provider.thinking == "object":
        thinking_type = thinking if thinking is not None else enabled
        if isinstance(thinking_type, bool):
            thinking_type = "enabled" if thinking_type else "disabled"
        if thinking_type is not None:
            body["thinking"] = {"type": thinking_type} if isinstance(thinking_type, str) else thinking_type
        return
    if thinking is not None:
        body["thinking"] = thinking
    if enabled is not None:
        body["enable_thinking"] = enabled
        if provider.thinking == "template":
            body.setdefault("chat_template_kwargs", {"enable_thinking": enabled})


def _bind(body: dict[str, Any], messages: list[Message], schema: Mapping[str, Value], provider: Provider) -> None:
    """Binds the answer to a schema as far as the provider supports it; otherwise the prompt states it as well."""
    json_schema = cast("Mapping[str, Value]", to_json(dict(schema)))
    native = {"type": "json_schema", "json_schema": {"name": _SCHEMA_NAME, "schema": json_schema}}
    body["response_format"] = {"type": "json_object"} if provider.schema == "object" else native
    if provider.schema != "native":
        state_schema(messages, json_schema)


def state_schema(messages: list[Message], schema: Mapping[str, Value]) -> None:
    """Adds the schema to the system prompt."""
    instruct(
        messages,
        "Answer with one JSON object and nothing else: no explanation, no code fence. "
        f"It must be valid against this JSON schema:\n{json.dumps(schema, ensure_ascii=False, default=str)}",
    )


def instruct(messages: list[Message], instruction: str) -> None:
    """Puts an instruction in front of the system prompt."""
    first = next((index for index, message in enumerate(messages) if message.role == "system"), None)
    if first is None:
        messages.insert(0, Message("system", instruction))
    else:
        messages[first] = Message("system", f"{instruction}\n\n{messages[first].text}", messages[first].files)


# -------------------------------------------------------------------------------------------------------- messages


def _tool(tool: FunctionTool) -> dict[str, Any]:
    parameters = to_json(dict(tool.parameters))
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


async def _message(message: Message, provider: Provider, files: Files | None) -> dict[str, Any]:
    """A message with its files; types of files that the provider does not accept are left out, as in Dify."""
    parts = [
        part
        for file in message.files
        if file.type in provider.media and (part := await _part(file, message.detail, files))
    ]
    if message.tool_calls:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            | ({"extra_content": to_json(dict(call.extra_content))} if call.extra_content else {})
            for call in message.tool_calls
        ]
        return {"role": message.role, "content": message.text or None, "tool_calls": calls}
    if message.tool_call is not None:
        return {"role": message.role, "content": message.text, "tool_call_id": message.tool_call}
    if not parts:
        return {"role": message.role, "content": message.text}
    if message.text:
        parts.append({"type": "text", "text": message.text})
    return {"role": message.role, "content": parts}


async def _part(file: File, detail: str, files: Files | None) -> dict[str, Any] | None:
    match file.type:
        case "image":
            return {"type": "image_url", "image_url": {"url": await _data_url(file, files), "detail": detail}}
        case "video":
            return {"type": "video_url", "video_url": {"url": await _data_url(file, files)}}
        case "document":
            url = await _data_url(file, files)
            return {"type": "file", "file": {"filename": file.filename or "document", "file_data": url}}
        case "audio":
            form = _AUDIO.get(file.mime_type or "") or (file.extension or "").removeprefix(".").lower()
            if form not in _AUDIO.values() or files is None:
                return None
            data = base64.b64encode(await files.read(file, _MAX_FILE)).decode()
            return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
        case _:
            return None


async def _data_url(file: File, files: Files | None) -> str:
    """The file inside the request: providers cannot fetch from a private network, and some never fetch."""
    if files is None:
        return file.remote_url or file.url or ""
    mime_type, data = await encoded(file, files)
    return f"data:{mime_type};base64,{data}"


async def encoded(file: File, files: Files) -> tuple[str, str]:
    """(MIME type, content in base64) of a file."""
    data = await files.read(file, _MAX_FILE)
    return file.mime_type or _sniffed(data, file.type), base64.b64encode(data).decode()


def _sniffed(data: bytes, kind: str) -> str:
    """The MIME type of a file without a declared one."""
    for start, mime in _MAGIC:
        if data.startswith(start):
            return mime
    return {"image": "image/png", "video": "video/mp4", "document": "application/pdf"}.get(
        kind, "application/octet-stream"
    )


_MAGIC: Sequence[tuple[bytes, str]] = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"%PDF", "application/pdf"),
)
