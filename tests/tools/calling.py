"""Calls a tool by itself, as a node would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any

from headrace.adapters.tools import BuiltinTools, ToolSource
from headrace.ports.services import TextMessage, ToolContext, ToolMessage, ToolReference
from headrace.values import Value


def builtin_tools(now: Callable[[tzinfo], datetime] = datetime.now, **services: Any) -> BuiltinTools:
    """Dify's own tools with these services only."""
    names = ("http", "sandbox", "files", "documents", "speech", "models")
    chosen_services = [services.pop(name, None) for name in names]
    return BuiltinTools(*chosen_services, now=now, **services)


CONTEXT = ToolContext(run="run", app="app", user="user", key="run/n/0")


async def messages_of(
    tools: ToolSource, provider: str, name: str, parameters: Mapping[str, Value], provider_type: str = "builtin"
) -> list[ToolMessage]:
    tool = await tools.find(ToolReference(provider_type, provider, provider, name))
    return [message async for message in tool.call(parameters, CONTEXT)]


async def answer_of(
    tools: ToolSource, provider: str, name: str, parameters: Mapping[str, Value], provider_type: str = "builtin"
) -> str:
    """The one text that a tool answers with."""
    (message,) = await messages_of(tools, provider, name, parameters, provider_type)
    assert isinstance(message, TextMessage)
    return message.text
