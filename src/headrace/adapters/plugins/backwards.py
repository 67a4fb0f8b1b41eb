"""Calls that a plugin makes back to the host while it serves a request: of tools, models, apps, its storage and files.

`Backwards.handlers` has a handler for each type of call that the host offers. A plugin is only answered what its
manifest has the permission for; one that serves as a model may not call back at all.

A call back of a node's plugin is a step of the node, named after the request: when the node runs again after a crash,
and the plugin makes the same call, it gets the answer that is in the journal.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import field
from typing import Any, Protocol, cast

from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.manifest import Permissions
from headrace.adapters.plugins.process import PluginError
from headrace.adapters.plugins.protocol import SessionEvent, reply
from headrace.errors import HeadraceError, RequestError
from headrace.frozen import frozen
from headrace.kernel.steps import CALL_BACK
from headrace.ports.services import ToolContext
from headrace.values import DEEPEST_OUTPUT, Value, nests_deeper

logger = logging.getLogger(__name__)

SECONDS = 240.0  # that a call back may take; the SDK waits 250
DEEPEST = 5  # plugins that call each other; the limit of workflows that do
DEPTH = ContextVar("DEPTH", default=0)
"""How many plugins have called back for what this task does."""
LARGEST_JOURNALED = 1024 * 1024  # bytes of answers that are kept in the journal
_REPEATED = frozenset({"storage", "upload_file", "fetch_app"})
"""Types of calls that are made again after a crash: they cost nothing, and have the same effect twice."""


def ignore_usage(usage: Mapping[str, Value]) -> None:
    """For callers that do not count what models cost."""


@frozen
class Caller:
    """On whose behalf a plugin is called. `on_usage` receives what models used that the plugin called back for;
    `calls` counts its calls back by their names. The caller that a handler gets has the context of the call back."""

    context: ToolContext
    on_usage: Callable[[Mapping[str, Value]], None] = ignore_usage
    calls: Counter[str] = field(default_factory=Counter[str])

    def name(self, type_: str, request: Mapping[str, Value]) -> str:
        """The name of the next call with this request. It does not depend on the order in which a plugin makes
        different calls."""
        content = json.dumps(request, sort_keys=True).encode()
        name = f"{type_}-{hashlib.sha256(content).hexdigest()[:16]}"
        self.calls[name] += 1
        return f"{CALL_BACK}{name}-{self.calls[name]}]"


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

                async def respond(data: Mapping[str, Value]) -> None:
                    await send(reply(event.session, call, "response", data))

                async with asyncio.timeout(SECONDS):
                    await _answer(handler, plugin, type_, cast("dict[str, Value]", request), caller, respond)
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


async def _answer(
    handler: Handler,
    plugin: InstalledPlugin,
    type_: str,
    request: Mapping[str, Value],
    caller: Caller,
    respond: Callable[[Mapping[str, Value]], Awaitable[None]],
) -> None:
    """Answers a call, from the journal if the node has made it before it was interrupted."""
    if type_ in _REPEATED:
        async with aclosing(handler(plugin, request, caller)) as results:
            async for data in results:
                await respond(data)
        return
    name, is_answered = caller.name(type_, request), False
    answers: list[Mapping[str, Value]] = []
    usages: list[Mapping[str, Value]] = []

    def on_usage(usage: Mapping[str, Value]) -> None:
        usages.append(usage)
        caller.on_usage(usage)

    async def call() -> Value:
        nonlocal is_answered
        is_answered = True
        async with aclosing(handler(plugin, request, Caller(caller.context.within(name), on_usage))) as results:
            async for data in results:
                await respond(data)
                answers.append(data)
        return _journaled({"answers": _joined(answers), "usages": usages})

    if caller.context.step is None:
        await call()
        return
    step = await caller.context.step(name, call, label=type_)
    if is_answered:
        return
    if step.result is None:
        await call()
        return
    for usage in step.result["usages"]:
        caller.on_usage(usage)
    for data in step.result["answers"]:
        await respond(data)


def _joined(answers: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Value]]:
    """The answers, with the chunks of a model's answer as one: hundreds would fill the journal with their frames."""
    if len(answers) < 2 or not all("delta" in answer for answer in answers):
        return answers
    last, messages = answers[-1], [answer["delta"]["message"] for answer in answers]
    content = "".join(message["content"] for message in messages)
    calls = [call for message in messages for call in message["tool_calls"]]
    opaque: dict[str, Value] = {}
    for message in messages:
        opaque |= message.get("opaque_body") or {}
    message = {**messages[-1], "content": content, "tool_calls": calls, "opaque_body": opaque or None}
    return [{**last, "delta": {**last["delta"], "index": 0, "message": message}}]


def _journaled(result: Value) -> Value:
    """The result of a call as the journal has it; None if it is too large, or nested too deeply: then the call is
    repeated after a crash."""
    if nests_deeper(result, DEEPEST_OUTPUT) or len(json.dumps(result)) > LARGEST_JOURNALED:
        return None
    return result


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
