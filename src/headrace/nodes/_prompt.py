"""Prompts: from the node's configuration to the messages that a model gets. Errors are those of Dify."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import Field, field_validator

from headrace import values
from headrace.errors import NodeError
from headrace.kernel.variables import selectors
from headrace.node import Config, Context, SelectorField, null_means_default
from headrace.ports.services import Message, ToolCall
from headrace.values import File, Value

CONTEXT = "{{#context#}}"
HISTORIES = "{{#histories#}}"
_PLACEHOLDERS = re.compile(r"(\{\{#(?:context|histories)#\}\})")
_VISIBLE_TYPES = frozenset({"image", "audio", "video", "document"})
_REFERENCE = re.compile(r"\{\{#[^#]+#\}\}")
_LONGEST_PARAMETER = 1024


class Prompt(Config):
    """One message of a prompt; with `edition_type` jinja2 its template is `jinja2_text`."""

    role: Literal["system", "user", "assistant"] = "user"
    text: str = ""
    edition_type: str | None = None
    jinja2_text: str | None = None

    _null = null_means_default("text")

    @field_validator("role", mode="before")
    @classmethod
    def _plain_role(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) and value else "user"


class JinjaVariable(Config):
    variable: str
    value_selector: SelectorField = ()


class PromptConfig(Config):
    jinja2_variables: Sequence[JinjaVariable] = ()

    _null = null_means_default("jinja2_variables")


class ContextConfig(Config):
    """The value of `{{#context#}}`: a text, or the result of a knowledge retrieval."""

    enabled: bool = False
    variable_selector: SelectorField = ()

    _null = null_means_default("variable_selector")


class VisionOptions(Config):
    variable_selector: SelectorField = ("sys", "files")
    detail: str = "high"

    _null = null_means_default("variable_selector")

    @field_validator("detail", mode="before")
    @classmethod
    def _plain_detail(cls, value: Any) -> Any:
        return value or "high"


class VisionConfig(Config):
    """The files that are sent to the model, and in which detail."""

    enabled: bool = False
    configs: VisionOptions = Field(default_factory=VisionOptions)

    _null = null_means_default("configs")


def require(ctx: Context, templates: Sequence[str]) -> None:
    """Raises NodeError with kind VariableNotFoundError if a template refers to a variable that does not exist."""
    for template in templates:
        for selector in selectors(template):
            if not ctx.variables.find(selector)[0]:
                raise NodeError(f"Variable #{'.'.join(selector)}# not found", "VariableNotFoundError")


def jinja_inputs(ctx: Context, config: PromptConfig) -> dict[str, Value]:
    """The variables of Jinja2 prompts."""
    inputs: dict[str, Value] = {}
    for variable in config.jinja2_variables:
        exists, value = ctx.variables.find(variable.value_selector)
        if not exists:
            raise NodeError(f"Variable {variable.variable} not found", "VariableNotFoundError")
        inputs[variable.variable] = value
    return inputs


def files_of(ctx: Context, selector: Sequence[str]) -> list[File]:
    """The files of the variable; [] if it does not exist."""
    value = ctx.variables.get(selector)
    match value:
        case None:
            return []
        case File():
            return [value]
        case list() if all(isinstance(item, File) for item in cast("list[Value]", value)):
            return cast("list[File]", value)
        case _:
            raise NodeError(
                f"Invalid variable type: {'.'.join(selector)} holds {values.kind(value)}, not files",
                "InvalidVariableTypeError",
            )


def context_of(ctx: Context, config: ContextConfig) -> str:
    """The text of the context: the variable's text, or the contents of the retrieved passages."""
    value = ctx.variables.get(config.variable_selector)
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    return "\n".join(_content(item) for item in cast("list[Value]", value)).strip()


def _content(item: Value) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, Mapping) or "content" not in item:
        line = values.text(item) if isinstance(item, Mapping) else str(item)
        raise NodeError(f"Invalid context structure: {line}", "InvalidContextStructureError")
    passage = cast("Mapping[str, Value]", item)
    summary = passage.get("summary")
    return f"{summary}\n{passage['content']}" if summary else str(passage["content"])


async def rendered(ctx: Context, prompt: Prompt, texts: Mapping[str, str], jinja: Mapping[str, Value]) -> str:
    """The text of a prompt. `texts` replace CONTEXT and HISTORIES, and are not treated as templates themselves."""
    if prompt.edition_type == "jinja2":
        if not prompt.jinja2_text:
            return ""
        return await ctx.resources.sandbox.render(prompt.jinja2_text, jinja, ctx.limits.code_seconds, ctx.app)
    parts = _PLACEHOLDERS.split(prompt.text)
    return "".join(texts[part] if part in texts else ctx.variables.render(part) for part in parts)


async def messages_of(
    ctx: Context, prompts: Sequence[Prompt], context: str, jinja: Mapping[str, Value], detail: str
) -> list[Message]:
    """The messages of a chat prompt. Files that a text refers to follow in a message of their own."""
    messages: list[Message] = []
    for prompt in prompts:
        text = await rendered(ctx, prompt, {CONTEXT: context}, jinja)
        if text:
            messages.append(Message(prompt.role, text))
        if prompt.edition_type != "jinja2":
            read = {".".join(selector): ctx.variables.get(selector) for selector in selectors(prompt.text)}
            if files := [file for file in values.files_in(read) if file.type in _VISIBLE_TYPES]:
                messages.append(Message(prompt.role, "", files, detail))
    return messages


def attach(messages: list[Message], files: Sequence[File], detail: str) -> None:
    """Adds files to the last message if it is the user's, else in a new message of the user."""
    if not files:
        return
    visible = [file for file in files if file.type in _VISIBLE_TYPES]
    note = "".join(f"[Unsupported file type: {file.filename} ({file.type})]" for file in files if file not in visible)
    if messages and messages[-1].role == "user":
        last = messages.pop()
        messages.append(Message("user", note + last.text, (*visible, *last.files), detail))
    else:
        messages.append(Message("user", note, visible, detail))


def resolved(ctx: Context, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Completion parameters with their variables resolved; numbers and booleans become such again."""
    return {
        name: _literal(ctx.variables.render(value)[:_LONGEST_PARAMETER])
        if isinstance(value, str) and _REFERENCE.search(value)
        else value
        for name, value in parameters.items()
    }


def _literal(text: str) -> Value:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, bool | int | float) else text


def prompts_of(messages: Sequence[Message], mode: str) -> list[dict[str, Value]]:
    """The messages as `prompts` of process data, with shortened URLs of files."""
    prompts: list[dict[str, Value]] = []
    for message in messages:
        prompt: dict[str, Value] = {"role": message.role, "text": message.text}
        files = [_file_of(file, message.detail) for file in message.files]
        if files or mode == "chat":
            prompt["files"] = files
        if message.tool_calls:
            prompt["tool_calls"] = [call_of(call) for call in message.tool_calls]
        prompts.append(prompt)
    return prompts


def call_of(call: ToolCall) -> dict[str, Value]:
    """A tool call in process data."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _file_of(file: File, detail: str) -> dict[str, Value]:
    url = file.remote_url or file.url or ""
    data = f"{url[:10]}...[TRUNCATED]...{url[-10:]}"
    return {"type": file.type, "data": data} | ({"detail": detail} if file.type == "image" else {})
