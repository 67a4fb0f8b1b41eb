"""Requests of OpenAI's clients for chat completions, checked.

What an app cannot do is refused by name, see `parameters`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from headrace.api.auth import as_uuid, named_user
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.errors import BadParameter
from headrace.api.http.request_body import parse
from headrace.api.openai.parameters import refuse_unsupported
from headrace.api.openai.schemas import ChatCompletionRequest
from headrace.errors import InvalidParam
from headrace.values import Value

_ROLES = ("system", "developer", "user", "assistant")
_NAMES = ("query", "text", "input")  # inputs that take the user's message, wherever they are in the form


@dataclass(frozen=True, slots=True)
class Picture:
    """An image part: a URL, or its bytes."""

    url: str = ""
    data: bytes = b""
    mime_type: str = ""

    @property
    def filename(self) -> str:
        return f"image.{self.mime_type.partition('/')[2].partition('+')[0]}"


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """A request for a chat completion. `text` and `pictures` are what the user said since the last answer; `history` is
    everything else, as OpenAI has it (`{role, content}`); `metadata` may fill inputs, as text."""

    model: str
    text: str
    pictures: Sequence[Picture]
    history: Sequence[Mapping[str, str]]
    inputs: Mapping[str, Value]
    metadata: Mapping[str, str]
    user: str
    conversation: str | None
    streamed: bool
    with_usage: bool


def read(body: Mapping[str, Value]) -> CompletionCall:
    """BadParameter where the request is wrong, or asks for something that apps do not do."""
    refuse_unsupported(body)
    fields = parse(ChatCompletionRequest, body, _bad_parameter)
    messages = [_message(message, at) for at, message in enumerate(fields["messages"])]
    contents = [_content(message, at) for at, message in enumerate(messages)]
    answered = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    current = [at for at, message in enumerate(messages) if message["role"] == "user" and at > answered]
    if not current:
        raise BadParameter("The last message must be the user's: apps do not continue an answer.", "messages")
    history = [
        {"role": message["role"], "content": contents[at][0]}
        for at, message in enumerate(messages)
        if at not in current and contents[at][0]
    ]
    metadata = fields.get("metadata") or {}
    return CompletionCall(
        fields["model"],
        "\n\n".join(contents[at][0] for at in current if contents[at][0]),
        [picture for at in current for picture in contents[at][1]],
        history,
        fields.get("inputs") or {},
        metadata,
        _user(fields.get("user")),
        _conversation(fields.get("conversation_id") or metadata.get("conversation_id")),
        bool(fields.get("stream")),
        bool((fields.get("stream_options") or {}).get("include_usage")),
    )


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
    named = [field for name in _NAMES for field in fields if field["variable"] == name]
    candidates = [*named, *[field for field in fields if field.get("required")], *fields]
    return {**inputs, str(candidates[0]["variable"]): text} if candidates else dict(inputs)


def _message(value: Value, at: int) -> Mapping[str, Value]:
    if not isinstance(value, dict) or cast("dict[str, Value]", value).get("role") not in _ROLES:
        roles = ", ".join(_ROLES)
        raise BadParameter(f"A message must be an object whose 'role' is one of {roles}.", f"messages[{at}].role")
    return cast("dict[str, Value]", value)


def _content(message: Mapping[str, Value], at: int) -> tuple[str, list[Picture]]:
    """A message's text and pictures."""
    content, param = message.get("content"), f"messages[{at}].content"
    if content is None and message["role"] == "assistant":
        content = ""
    if isinstance(content, str):
        return content.replace("\0", ""), []
    if not isinstance(content, list):
        raise BadParameter("A message's 'content' must be a string or a list of parts.", param)
    texts: list[str] = []
    pictures: list[Picture] = []
    for number, part in enumerate(cast("list[Any]", content)):
        where = f"{param}[{number}]"
        fields = cast("dict[str, Value]", part) if isinstance(part, dict) else {}
        kind = fields.get("type")
        if kind == "text" and isinstance(text := fields.get("text"), str):
            texts.append(text.replace("\0", ""))
        elif kind == "image_url":
            pictures.append(_picture(fields.get("image_url"), where))
        else:
            raise BadParameter("A part of a message must be a 'text' or an 'image_url'.", where)
    return "\n".join(texts), pictures


def _picture(value: Value, where: str) -> Picture:
    url = cast("dict[str, Value]", value).get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise BadParameter("An 'image_url' must have a 'url'.", where)
    if not url.startswith("data:"):
        return Picture(url)
    head, _, data = url[len("data:") :].partition(",")
    mime_type, *more = head.lower().split(";")
    if not mime_type.startswith("image/") or "base64" not in more:
        raise BadParameter("A data URL must be like data:image/png;base64,...", where)
    try:
        return Picture(data=base64.b64decode(data, validate=True), mime_type=mime_type)
    except ValueError:  # also of letters that are not ASCII
        raise BadParameter("The data URL is not valid base64.", where) from None


def _user(value: str | None) -> str:
    try:
        return named_user(value) or ANONYMOUS
    except InvalidParam as error:
        raise BadParameter(error.message, "user") from None


def _conversation(id_: str | None) -> str | None:
    malformed = BadParameter("'conversation_id' must be a conversation's id.", "conversation_id")
    return None if id_ is None else as_uuid(id_, malformed)
