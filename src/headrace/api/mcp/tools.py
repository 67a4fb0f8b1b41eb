"""Apps as tools: their names, what they take, and the run that a call asks for."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import cast

from headrace.api.auth import Api
from headrace.api.dify.message_requests import app_submission
from headrace.api.http.errors import file_too_large
from headrace.apps.catalog import Release
from headrace.content.filetypes import guess_extension
from headrace.conversations.messages import CHATS, MESSAGES
from headrace.errors import InvalidParam
from headrace.kernel.events import RunId
from headrace.node import Flow
from headrace.nodes.start import Input, Start
from headrace.ports import App
from headrace.runs.service import Submission
from headrace.values import Value

_LONGEST_NAME = 64  # the most that the models' providers take
_ID_LENGTH = 8
_QUERY: Mapping[str, Value] = {"type": "string", "description": "The user's message"}
_CONVERSATION: Mapping[str, Value] = {
    "type": "string",
    "description": "The conversation_id of an earlier answer, to continue that conversation; omit it to begin one",
}
_FILE: Mapping[str, Value] = {
    "type": "string",
    "description": "A file: its http(s) URL, a data: URL, or the id of an uploaded file",
}


def tool_names(apps: Sequence[App]) -> dict[str, App]:
    """The apps by the names of their tools, in the order in which they were first served.

    A tool is called as its app, in the letters that every model's provider allows. Where that is not enough to tell
    it from another, or letters of the name are lost, the beginning of the app's id follows."""
    tools: dict[str, App] = {}
    for app in sorted(apps, key=lambda app: (app.created_at, app.id)):
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", app.name).strip("_")
        short_name = name[: _LONGEST_NAME - _ID_LENGTH - 1]
        if not app.name.isascii() or short_name != name or not name or name in tools:
            name = f"{short_name or 'app'}_{app.id[:_ID_LENGTH]}"
        tools[name] = app
    return tools


def describe(name: str, release: Release) -> dict[str, Value]:
    """A tool as clients list it."""
    flow = release.flow
    tool: dict[str, Value] = {
        "name": name,
        "title": release.app.name,
        "description": release.app.description or release.app.name,
        "inputSchema": _input_schema(flow),
    }
    if flow.mode in MESSAGES:  # what a workflow puts out is of types that its file does not always say
        names = ("answer", "message_id", "conversation_id") if flow.mode in CHATS else ("answer", "message_id")
        properties = {name: {"type": "string"} for name in names}
        tool["outputSchema"] = {"type": "object", "properties": properties, "required": names}
    return tool


async def submission(
    api: Api, release: Release, user: str, arguments: Mapping[str, Value], run: RunId | None
) -> Submission:
    """The run that a call asks for. As in Dify, arguments that the app does not have are ignored. RequestError where
    others are wrong."""
    inputs = dict(arguments)
    for field in _form(release.flow):
        value = inputs.get(field.variable)
        if field.type == "file" and isinstance(value, str) and value:
            inputs[field.variable] = await _file(api, release.app, user, value)
        elif field.type == "file-list" and isinstance(value, list):
            files = cast("list[Value]", value)
            inputs[field.variable] = [
                await _file(api, release.app, user, file) if isinstance(file, str) else file for file in files
            ]
    body: dict[str, Value] = {"inputs": inputs}
    if release.app.mode in MESSAGES:
        body |= {name: arguments[name] for name in ("query", "conversation_id") if name in arguments}
    return await app_submission(api, release, user, body, run=run)


def _form(flow: Flow) -> Sequence[Input]:
    start = flow.nodes[flow.graph.root]
    return start.fields if isinstance(start, Start) else ()


def _input_schema(flow: Flow) -> Mapping[str, Value]:
    properties: dict[str, Value] = {}
    required: list[str] = []
    if flow.mode in MESSAGES:
        properties["query"] = _QUERY
    if flow.mode in CHATS:
        required.append("query")
        properties["conversation_id"] = _CONVERSATION
    for field in _form(flow):
        properties[field.variable] = _schema(field)
        if field.required and field.variable not in required:
            required.append(field.variable)
    return {"type": "object", "properties": properties, "required": required}


def _schema(field: Input) -> Mapping[str, Value]:
    schema: dict[str, Value]
    match field.type:
        case "text-input" | "paragraph" | "external_data_tool":
            schema = {"type": "string"}
            if field.max_length and field.max_length > 0:
                schema["maxLength"] = field.max_length
        case "select":
            schema = {"type": "string", "enum": field.options}
        case "number":
            schema = {"type": "number"}
        case "checkbox":
            schema = {"type": "boolean"}
        case "json_object":
            schema = _object_schema(field.json_schema or {})
        case "file":
            schema = dict(_FILE)
        case "file-list":
            schema = {"type": "array", "items": _FILE}
            if field.max_length and field.max_length > 0:
                schema["maxItems"] = field.max_length
    label = getattr(field, "label", None)
    if isinstance(label, str) and label and label != field.variable:
        hint = schema.get("description")
        schema["description"] = f"{label}. {hint}" if hint else label
    if field.default not in (None, "") and field.type in ("text-input", "paragraph", "select", "number", "checkbox"):
        schema["default"] = field.default
    return schema


def _object_schema(schema: Mapping[str, Value]) -> dict[str, Value]:
    """The schema of an object, as a part of another: without references, which would lead elsewhere from there."""
    if "$ref" in str(schema):
        return {"type": "object"}
    return {**{name: value for name, value in schema.items() if name != "$schema"}, "type": "object"}


async def _file(api: Api, app: App, user: str, reference: str) -> Mapping[str, Value]:
    """A file as in requests of Dify's API; one that is in the call is stored."""
    if not reference.startswith("data:"):
        if reference.startswith(("http://", "https://")):
            return {"transfer_method": "remote_url", "url": reference}
        return {"transfer_method": "local_file", "upload_file_id": reference}
    head, _, base64_text = reference[len("data:") :].partition(",")
    mime_type, *parameters = head.split(";")
    if "base64" not in parameters:
        raise InvalidParam("A data: URL must be like data:application/pdf;base64,...")
    try:
        data = base64.b64decode(base64_text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: a character that is not ASCII
        raise InvalidParam("A data: URL is not valid base64.") from None
    extension = guess_extension(mime_type) or ".bin"
    if len(data) > (limit := api.upload_limit(extension)):
        raise file_too_large(limit)
    end_user = await api.apps.end_user(app, user)
    file = await api.files.save(
        data,
        filename=f"file{extension}",
        mime_type=mime_type,
        transfer_method="local_file",
        app=app.id,
        owner=end_user.id,
    )
    return {"transfer_method": "local_file", "upload_file_id": file.related_id}
