"""Prompts: from what the editor wrote to the messages that a model gets. What is missing fails as it does in Dify."""

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
_MARKS = re.compile(r"(\{\{#(?:context|histories)#\}\})")
_SHOWABLE = frozenset({"image", "audio", "video", "document"})
_REFERENCE = re.compile(r"\{\{#[^#]+#\}\}")
_LONGEST_PARAMETER = 1024


class Prompt(Config):
    """One message of a prompt; `edition_type` jinja2 means that `jinja2_text` is the template."""

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
    """What `{{#context#}}` stands for: a text, or what a knowledge retrieval found."""

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
    """The files that are shown to the model, and how closely it is to look."""

    enabled: bool = False
    configs: VisionOptions = Field(default_factory=VisionOptions)

    _null = null_means_default("configs")


def require(ctx: Context, templates: Sequence[str]) -> None:
    """NodeError with kind VariableNotFoundError if a template reads what is not there."""
    for template in templates:
        for selector in selectors(template):
            if not ctx.variables.find(selector)[0]:
                raise NodeError(f"Variable #{'.'.join(selector)}# not found", "VariableNotFoundError")


def jinja_inputs(ctx: Context, config: PromptConfig) -> dict[str, Value]:
    """The names that a Jinja2 prompt reads."""
    inputs: dict[str, Value] = {}
    for each in config.jinja2_variables:
        found, value = ctx.variables.find(each.value_selector)
        if not found:
            raise NodeError(f"Variable {each.variable} not found", "VariableNotFoundError")
        inputs[each.variable] = value
    return inputs


def files_of(ctx: Context, selector: Sequence[str]) -> list[File]:
    """The files that a selector names; [] where there is nothing."""
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
    """The text of the context: itself, or the contents of what was retrieved, one after another."""
    if not config.enabled or not config.variable_selector:
        return ""
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
        shown = values.text(item) if isinstance(item, Mapping) else str(item)
        raise NodeError(f"Invalid context structure: {shown}", "InvalidContextStructureError")
    found = cast("Mapping[str, Value]", item)
    summary = found.get("summary")
    return f"{summary}\n{found['content']}" if summary else str(found["content"])


async def rendered(ctx: Context, prompt: Prompt, marks: Mapping[str, str], jinja: Mapping[str, Value]) -> str:
    """The text of a prompt. `marks` are what CONTEXT and HISTORIES stand for: what these quote is never read as a
    template."""
    if prompt.edition_type == "jinja2":
        if not prompt.jinja2_text:
            return ""
        return await ctx.resources.sandbox.render(prompt.jinja2_text, jinja, ctx.limits.code_seconds, ctx.app)
    return "".join(marks[part] if part in marks else ctx.variables.render(part) for part in _MARKS.split(prompt.text))


async def messages_of(
    ctx: Context, prompts: Sequence[Prompt], context: str, jinja: Mapping[str, Value], detail: str
) -> list[Message]:
    """The messages of a chat prompt. Files that a text reads come in a message of their own after it."""
    messages: list[Message] = []
    for prompt in prompts:
        text = await rendered(ctx, prompt, {CONTEXT: context}, jinja)
        if text:
            messages.append(Message(prompt.role, text))
        if prompt.edition_type != "jinja2" and (files := _files_in(ctx, prompt.text)):
            messages.append(Message(prompt.role, "", files, detail))
    return messages


def _files_in(ctx: Context, template: str) -> list[File]:
    read = [ctx.variables.get(selector) for selector in selectors(template)]
    found = [item for value in read for item in (cast("list[Value]", value) if isinstance(value, list) else [value])]
    return [item for item in found if isinstance(item, File) and item.type in _SHOWABLE]


def show(messages: list[Message], files: Sequence[File], detail: str) -> None:
    """Adds files to the last message if the user says it, else in a message of the user's own."""
    if not files:
        return
    shown = [file for file in files if file.type in _SHOWABLE]
    told = "".join(f"[Unsupported file type: {file.filename} ({file.type})]" for file in files if file not in shown)
    if messages and messages[-1].role == "user":
        last = messages.pop()
        messages.append(Message("user", told + last.text, (*shown, *last.files), detail))
    else:
        messages.append(Message("user", told, shown, detail))


def resolved(ctx: Context, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Completion parameters with the variables that they read; a number or a boolean becomes one again."""
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


def saved(messages: Sequence[Message], mode: str) -> list[dict[str, Value]]:
    """The messages as process data shows them: files by the ends of their address."""
    shown: list[dict[str, Value]] = []
    for message in messages:
        prompt: dict[str, Value] = {"role": message.role, "text": message.text}
        files = [_saved(file, message.detail) for file in message.files]
        if files or mode == "chat":
            prompt["files"] = files
        if message.tool_calls:
            prompt["tool_calls"] = [call_of(call) for call in message.tool_calls]
        shown.append(prompt)
    return shown


def call_of(call: ToolCall) -> dict[str, Value]:
    """A model's call of a tool as process data shows it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _saved(file: File, detail: str) -> dict[str, Value]:
    url = file.remote_url or file.url or ""
    data = f"{url[:10]}...[TRUNCATED]...{url[-10:]}"
    return {"type": file.type, "data": data} | ({"detail": detail} if file.type == "image" else {})
