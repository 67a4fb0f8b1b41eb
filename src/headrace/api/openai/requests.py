"""Requests of OpenAI's clients for chat completions and responses, checked.

What an app cannot do is refused by name, see `parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from headrace.api.auth import as_uuid, named_user
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.errors import BadParameter
from headrace.api.http.request_body import parse
from headrace.api.openai.attachments import Attachment
from headrace.api.openai.json_format import JsonFormat
from headrace.api.openai.parameters import CHAT, RESPONSES
from headrace.api.openai.response_schemas import ResponseRequest
from headrace.api.openai.schemas import ChatCompletionRequest
from headrace.errors import InvalidParam, RequestError
from headrace.frozen import frozen
from headrace.kernel.events import RunId
from headrace.values import Value

RESPONSE_PREFIX = "resp_"
_TEXTS = ("text", "input_text", "output_text")
_ATTACHMENTS = ("image_url", "file", "input_image", "input_file")
_ROLES = ("system", "developer", "user", "assistant")
_RETURNED = ("model", "instructions", "metadata", "previous_response_id", "text", "background")
_NAMES = ("query", "text", "input")  # inputs that take the user's message, wherever they are in the form


@frozen
class ModelCall:
    """A request for an answer. `text` and `attachments` are what the user said since the last answer, and `param` the
    parameter that has it; `history` is everything else, as OpenAI has it (`{role, content}`); `metadata` may fill
    inputs, as text; `previous` is the run of the answer before; `returned` is what a response has of its request."""

    model: str
    param: str
    text: str
    attachments: Sequence[Attachment]
    history: Sequence[Mapping[str, str]]
    inputs: Mapping[str, Value]
    metadata: Mapping[str, str]
    user: str
    conversation: str | None
    previous: RunId | None
    streamed: bool
    json_format: JsonFormat | None
    returned: Mapping[str, Value] | None = None


def read_completion(body: Mapping[str, Value]) -> ModelCall:
    """BadParameter where the request is wrong, or asks for something that apps do not do."""
    CHAT.check(body)
    fields = parse(ChatCompletionRequest, body, _bad_parameter)
    metadata = fields.get("metadata") or {}
    text, attachments, history = _said(fields["messages"], "messages")
    return ModelCall(
        fields["model"],
        "messages",
        text,
        attachments,
        history,
        fields.get("inputs") or {},
        metadata,
        _user(fields.get("user")),
        _conversation(fields.get("conversation_id") or metadata.get("conversation_id"), "conversation_id"),
        None,
        bool(fields.get("stream")),
        JsonFormat.of(fields.get("response_format"), "response_format"),
    )


def with_usage(body: Mapping[str, Value]) -> bool:
    """Whether a checked request wants a stream to have the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and bool(cast("dict[str, Value]", options).get("include_usage"))


def read_response(body: Mapping[str, Value]) -> ModelCall:
    """As `read_completion`, of a request for a response."""
    RESPONSES.check(body)
    fields = parse(ResponseRequest, body, _bad_parameter)
    input_, instructions = fields["input"], fields.get("instructions")
    messages: list[Any] = [{"role": "user", "content": input_}] if isinstance(input_, str) else input_
    text, attachments, history = _said(messages, "input")
    if instructions:
        history = [{"role": "system", "content": instructions.replace("\0", "")}, *history]
    conversation, previous = fields.get("conversation"), fields.get("previous_response_id")
    if conversation and previous:
        raise BadParameter("A response continues a 'conversation' or a response, not both.", "previous_response_id")
    return ModelCall(
        fields["model"],
        "input",
        text,
        attachments,
        history,
        fields.get("inputs") or {},
        fields.get("metadata") or {},
        _user(fields.get("user")),
        _conversation(conversation if isinstance(conversation, str | None) else conversation["id"], "conversation"),
        None if previous is None else run_of_response(previous, _no_previous(previous)),
        bool(fields.get("stream")),
        format_of(body),
        {name: body[name] for name in _RETURNED if body.get(name)},
    )


def format_of(body: Mapping[str, Value]) -> JsonFormat | None:
    """The JSON that a request for a response, or what is kept of it, asks for."""
    options = cast("Mapping[str, Value]", body.get("text") or {})
    return JsonFormat.of(options.get("format"), "text.format")


def run_of_response(id_: str, otherwise: RequestError) -> RunId:
    """The run of a response's id; raises `otherwise` if it is not valid."""
    return as_uuid(id_.removeprefix(RESPONSE_PREFIX), otherwise)


def _no_previous(id_: str) -> BadParameter:
    message = f"Previous response with id '{id_[:100]}' not found."
    return BadParameter(message, "previous_response_id", "previous_response_not_found")


def _said(messages: Sequence[Any], param: str) -> tuple[str, Sequence[Attachment], Sequence[Mapping[str, str]]]:
    """(text and attachments of what the user said since the last answer, what came before)"""
    valid_messages = [_message(message, f"{param}[{at}]") for at, message in enumerate(messages)]
    contents = [_content(message, f"{param}[{at}].content") for at, message in enumerate(valid_messages)]
    last_answer = max((at for at, message in enumerate(valid_messages) if message["role"] == "assistant"), default=-1)
    current = [at for at, message in enumerate(valid_messages) if message["role"] == "user" and at > last_answer]
    if not current:
        raise BadParameter("The last message must be the user's: apps do not continue an answer.", param)
    history = [
        {"role": message["role"], "content": contents[at][0]}
        for at, message in enumerate(valid_messages)
        if at not in current and contents[at][0]
    ]
    text = "\n\n".join(contents[at][0] for at in current if contents[at][0])
    return text, [attachment for at in current for attachment in contents[at][1]], history


def _bad_parameter(where: str, message: str) -> BadParameter:
    return BadParameter(f"'{where}': {message}.", where.partition(".")[0])


def with_text(text: str, form: Sequence[Mapping[str, Value]], inputs: Mapping[str, Value]) -> dict[str, Value]:
    """The inputs with the user's text: in the field called query, text or input, else in the first text field that is
    required, else in the first text field. A form without a text field takes no text."""
    fields = [
        field
        for entry in form
        for kind, field in cast("Mapping[str, Mapping[str, Value]]", entry).items()
        if kind in ("text-input", "paragraph") and field["variable"] not in inputs
    ]
    matches = [field for name in _NAMES for field in fields if field["variable"] == name]
    candidates = [*matches, *[field for field in fields if field.get("required")], *fields]
    return {**inputs, str(candidates[0]["variable"]): text} if candidates else dict(inputs)


def _message(value: Value, where: str) -> Mapping[str, Value]:
    message = cast("dict[str, Value]", value) if isinstance(value, dict) else {}
    if message.get("role") not in _ROLES or message.get("type", "message") != "message":
        roles = ", ".join(_ROLES)
        raise BadParameter(f"A message must be an object whose 'role' is one of {roles}.", f"{where}.role")
    return message


def _content(message: Mapping[str, Value], where: str) -> tuple[str, list[Attachment]]:
    """A message's text and attachments."""
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        content = ""
    if isinstance(content, str):
        return content.replace("\0", ""), []
    if not isinstance(content, list):
        raise BadParameter("A message's 'content' must be a string or a list of parts.", where)
    texts: list[str] = []
    attachments: list[Attachment] = []
    for number, part in enumerate(cast("list[Any]", content)):
        fields = cast("dict[str, Value]", part) if isinstance(part, dict) else {}
        kind = fields.get("type")
        if kind in _TEXTS and isinstance(text := fields.get("text"), str):
            texts.append(text.replace("\0", ""))
        elif kind in _ATTACHMENTS:
            attachments.append(_attachment(fields, f"{where}[{number}]"))
        else:
            names = ", ".join((*_TEXTS, *_ATTACHMENTS))
            raise BadParameter(f"A part of a message must be one of {names}.", f"{where}[{number}]")
    return "\n".join(texts), attachments


def _attachment(part: Mapping[str, Value], where: str) -> Attachment:
    """A part of either API: `{image_url: {url}}` and `{file: {...}}`, or the same fields without the inner object."""
    is_image = part["type"] in ("image_url", "input_image")
    inner = part.get("image_url") if is_image else part.get("file")
    fields = {**part, **cast("dict[str, Value]", inner)} if isinstance(inner, dict) else part
    url, data, file_id, filename = (
        value if isinstance(value := fields.get(name), str) else ""
        for name in (_url_name(fields, is_image=is_image), "file_data", "file_id", "filename")
    )
    if url:
        return Attachment.of_url(url, where, is_image=is_image, filename=filename)
    if data and not is_image:
        if data.startswith("data:"):
            return Attachment.of_url(data, where, is_image=False, filename=filename)
        return Attachment.of_base64(data, where, "", is_image=False, filename=filename)
    if not file_id:
        requirement = "An 'image_url' must have a 'url'" if is_image else "A file must have 'file_data', a 'file_url'"
        raise BadParameter(f"{requirement} or a 'file_id'.", where)
    return Attachment(is_image, file_id=file_id, filename=filename)


def _url_name(fields: Mapping[str, Value], *, is_image: bool) -> str:
    if not is_image:
        return "file_url"
    return "url" if "url" in fields else "image_url"


def _user(value: str | None) -> str:
    try:
        return named_user(value) or ANONYMOUS
    except InvalidParam as error:
        raise BadParameter(error.message, "user") from None


def _conversation(id_: str | None, param: str) -> str | None:
    return None if id_ is None else as_uuid(id_, BadParameter(f"'{param}' must be a conversation's id.", param))
