"""Calls that a plugin makes back to the host while it serves a request: of tools, models, apps, its storage and files.

`Backwards.handlers` has a handler for each type of call that the host offers. A plugin is only answered what its
manifest has the permission for; one that serves as a model may not call back at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol, cast

from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.manifest import Permissions
from headrace.adapters.plugins.process import PluginError
from headrace.adapters.plugins.protocol import SessionEvent, reply
from headrace.errors import HeadraceError, RequestError
from headrace.ports.services import ToolContext
from headrace.values import Value

logger = logging.getLogger(__name__)

SECONDS = 240.0  # that a call back may take; the SDK waits 250
DEEPEST = 5  # plugins that call each other; the limit of workflows that do
DEPTH = ContextVar("DEPTH", default=0)
"""How many plugins have called back for what this task does."""


def ignore_usage(usage: Mapping[str, Value]) -> None:
    """For callers that do not count what models cost."""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a plugin is called. `on_usage` receives what models used that the plugin called back for;
    `calls` numbers its calls back."""

    context: ToolContext
    on_usage: Callable[[Mapping[str, Value]], None] = ignore_usage
    calls: Iterator[int] = field(default_factory=count)


class Handler(Protocol):
    """Answers the calls back of one type, with any number of objects. HeadraceError with a message for the plugin."""

    def __call__(
        self, plugin: InstalledPlugin, request: Mapping[str, Value], caller: Caller
    ) -> AsyncGenerator[Mapping[str, Value]]: ...


class Backwards:
    """Answers calls back with `handlers`, by the type of call."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self.handlers = handlers

    async def answer(
        self,
        plugin: InstalledPlugin,
        event: SessionEvent,
        caller: Caller,
        send: Callable[[bytes], Awaitable[None]],
        *,
        is_model: bool = False,
    ) -> None:
        """Answers one call. Every failure is the plugin's to handle."""
        call, type_ = str(event.data.get("backwards_request_id")), str(event.data.get("type"))
        try:
            try:
                request: Any = event.data.get("request")
                handler = self._handler(plugin, type_, is_model=is_model)
                if not isinstance(request, dict):
                    raise HeadraceError("the request is not an object")
                answer = handler(plugin, cast("dict[str, Value]", request), caller)
                async with asyncio.timeout(SECONDS), aclosing(answer):
                    async for data in answer:
                        await send(reply(event.session, call, "response", data))
            except PluginError:
                raise
            except Exception as error:
                await send(reply(event.session, call, "error", message=_message(plugin, type_, error)))
            await send(reply(event.session, call, "end"))
        except PluginError as error:
            logger.debug("plugin %s: a call back of type %s has nobody to answer: %s", plugin.id, type_, error)

    def _handler(self, plugin: InstalledPlugin, type_: str, *, is_model: bool) -> Handler:
        if is_model:
            raise HeadraceError("you can not invoke dify from model")
        missing = missing_permission(plugin.manifest.permissions, type_)
        if missing:
            raise HeadraceError(f"permission denied, you need to enable {missing} access in plugin manifest")
        if type_ not in self.handlers:
            raise HeadraceError(f"unsupported invoke type: Headrace does not offer {type_!r} to plugins")
        if DEPTH.get() > DEEPEST:
            raise HeadraceError(f"more than {DEEPEST} plugins call each other")
        return self.handlers[type_]


def missing_permission(permissions: Permissions, type_: str) -> str:
    """The permission that a type of call needs and the manifest does not have; "" if none is missing."""
    match type_:
        case "tool":
            return "" if permissions.tool else "tool"
        case "node_parameter_extractor" | "node_question_classifier":
            return "" if permissions.node else "node"
        case "app" | "fetch_app":
            return "" if permissions.app else "app"
        case "storage":
            return "" if permissions.storage else "storage"
        case "llm" | "llm_structured_output" | "system_summary":
            return "" if "llm" in permissions.models else "llm"
        case "text_embedding" | "rerank" | "tts" | "speech2text" | "moderation":
            return "" if type_ in permissions.models else type_.replace("_", "-")
        case "multimodal_embedding":
            return "" if "text_embedding" in permissions.models else "text-embedding"
        case "multimodal_rerank":
            return "" if "rerank" in permissions.models else "rerank"
        case _:
            return ""


def _message(plugin: InstalledPlugin, type_: str, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"{type_} did not finish within {SECONDS:g} s"
    if isinstance(error, RequestError):
        return error.message
    if isinstance(error, HeadraceError | ValueError):
        return str(error)
    logger.error("plugin %s: a call back of type %s failed", plugin.id, type_, exc_info=error)
    return f"{type_} failed because of an error in Headrace"
