"""What OpenAI's clients ask: a chat completion request, read and checked.

What an app cannot do is refused by name, see `openai_parameters`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from headrace.api.auth import as_uuid, named_user
from headrace.api.dify.run_responses import ANONYMOUS
from headrace.api.http.errors import BadParameter
from headrace.api.openai.parameters import refuse_unsupported
from headrace.errors import InvalidParam
from headrace.values import Value

_ROLES = ("system", "developer", "user", "assistant")
_NAMES = ("query", "text", "input")  # inputs that are the user's message, wherever they stand in the form


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
class Asked:
    """A request for a chat completion. `text` and `pictures` are what the user said since the last answer; `history` is
    all else, in OpenAI's words (`{role, content}`); `metadata` may fill inputs, as text."""

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


def read(body: Mapping[str, Value]) -> Asked:
    """BadParameter where the request is wrong, or asks for what is not done here."""
    refuse_unsupported(body)
    messages = _messages(body.get("messages"))
    answered = max((at for at, each in enumerate(messages) if each["role"] == "assistant"), default=-1)
    said = [_content(each, at) for at, each in enumerate(messages)]
    now = [at for at, each in enumerate(messages) if each["role"] == "user" and at > answered]
    if not now:
        raise BadParameter("The last message must be the user's: an app does not go on with an answer.", "messages")
    history = [
        {"role": each["role"], "content": said[at][0]}
        for at, each in enumerate(messages)
        if at not in now and said[at][0]
    ]
    metadata, inputs = _object(body, "metadata"), _object(body, "inputs")
    if any(not isinstance(each, str) for each in metadata.values()):
        raise BadParameter("The values of 'metadata' must be strings; use 'inputs' for others.", "metadata")
    options = _object(body, "stream_options")
    return Asked(
        _text(body, "model"),
        "\n\n".join(said[at][0] for at in now if said[at][0]),
        [picture for at in now for picture in said[at][1]],
        history,
        inputs,
        metadata,
        _user(body.get("user")),
        _conversation(body.get("conversation_id") or metadata.get("conversation_id")),
        _flag(body, "stream"),
        _flag(options, "include_usage"),
    )


def place(text: str, form: Sequence[Mapping[str, Value]], given: Mapping[str, Value]) -> dict[str, Value]:
    """The given inputs with the user's text among them: in the field called query, text or input, else in the first
    text field that is required, else in the first text field. A form without one takes no text."""
    fields = [
        each
        for entry in form
        for kind, each in cast("Mapping[str, Mapping[str, Value]]", entry).items()
        if kind in ("text-input", "paragraph") and each["variable"] not in given
    ]
    named = [each for name in _NAMES for each in fields if each["variable"] == name]
    chosen = [*named, *[each for each in fields if each.get("required")], *fields]
    return {**given, str(chosen[0]["variable"]): text} if chosen else dict(given)


def _messages(value: Value) -> list[Mapping[str, Value]]:
    if not isinstance(value, list) or not value:
        raise BadParameter("'messages' must be a list of at least one message.", "messages")
    messages = cast("list[Any]", value)
    for at, each in enumerate(messages):
        if not isinstance(each, dict) or cast("dict[str, Value]", each).get("role") not in _ROLES:
            roles = ", ".join(_ROLES)
            raise BadParameter(f"A message must be an object whose 'role' is one of {roles}.", f"messages[{at}].role")
    return cast("list[Mapping[str, Value]]", messages)


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
        found = cast("dict[str, Value]", part) if isinstance(part, dict) else {}
        kind = found.get("type")
        if kind == "text" and isinstance(text := found.get("text"), str):
            texts.append(text.replace("\0", ""))
        elif kind == "image_url":
            pictures.append(_picture(found.get("image_url"), where))
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
        raise BadParameter("The data URL is no base64.", where) from None


def _object(body: Mapping[str, Value], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadParameter(f"'{name}' must be an object.", name)
    return cast("dict[str, Any]", value)


def _text(body: Mapping[str, Value], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadParameter(f"'{name}' must be a string.", name)
    return value


def _flag(body: Mapping[str, Value], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadParameter(f"'{name}' must be true or false.", name)
    return bool(value)


def _user(value: Value) -> str:
    if value is not None and not isinstance(value, str):
        raise BadParameter("'user' must be a string.", "user")
    try:
        return named_user(value) or ANONYMOUS
    except InvalidParam as error:
        raise BadParameter(error.message, "user") from None


def _conversation(value: Value) -> str | None:
    if value is None:
        return None
    malformed = BadParameter("'conversation_id' must be a conversation's id.", "conversation_id")
    if not isinstance(value, str):
        raise malformed
    return as_uuid(value, malformed)
