"""Headrace's engine, in this process: a case goes in, what every node put out comes back."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headrace.api.http.responses import encode
from headrace.brokers import LocalBus
from headrace.dsl.load import load
from headrace.engine import Driver, EngineEnvironment
from headrace.errors import LoadError
from headrace.kernel.events import NodeFailed, NodeSucceeded, Record, RunEnded, RunQueued
from headrace.main import service
from headrace.nodes import registry
from headrace.ports.services import ChatChunk, ChatRequest, Resources, ToolCall, Usage
from headrace.settings import Settings
from headrace.stores.memory import MemoryJournal
from oracle.case import Case
from oracle.model import reply

_REGISTRY = registry(())


class StandInModels:
    """`oracle.model`, for every provider."""

    def __init__(self) -> None:
        self.prompts: list[list[tuple[str, str]]] = []  # what it was asked

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk]:
        prompt = [(message.role, message.text) for message in request.messages]
        self.prompts.append(prompt)
        text, call = reply(
            prompt,
            [(tool.name, tool.parameters) for tool in request.tools],
            request.schema,
        )
        yield ChatChunk(text)
        calls = [ToolCall("call", *call)] if call else []
        yield ChatChunk(finish_reason="stop", usage=Usage(), tool_calls=calls)

    def missing(self, provider: str) -> str | None:
        return None


@asynccontextmanager
async def resources(folder: Path) -> AsyncGenerator[Resources]:
    """What Headrace itself uses. `folder` holds what a server keeps."""
    settings = Settings(data=folder, egress_allow=["127.0.0.1"])
    async with service(settings, {}, memory=True, work=False) as running:
        yield running.resources


async def run(case: Case, with_resources: Resources, echo: str) -> dict[str, Any]:
    """`{nodes, status, outputs, error}`, or `{refused}` where the file does not load."""
    try:
        flow = load(case.dsl(echo), _REGISTRY)
    except LoadError as error:
        return {"refused": str(error)}
    journal = MemoryJournal()
    models = StandInModels()
    world = EngineEnvironment(journal, LocalBus(), replace(with_resources, models=models))
    system = {"files": [], **case.system}
    request = RunQueued(
        "app", "version", "task", "user", case.inputs, system, conversation=system.get("conversation_id")
    )
    await journal.append([Record("run", 1, world.clock(), request)])
    conversation = {variable.name: variable.value for variable in flow.conversation}
    await Driver("run", flow, world, conversation).drive()
    nodes: list[dict[str, Any]] = []
    end: Mapping[str, Any] = {}
    for record in await journal.read("run"):
        match record.event:
            case NodeSucceeded() as event:
                nodes.append(_node(event.path, "succeeded", event.outputs, None))
            case NodeFailed() as event:
                status = "failed" if event.strategy is None else "exception"
                nodes.append(_node(event.path, status, event.outputs, event.error))
            case RunEnded() as event:
                end = {"status": event.status, "outputs": event.outputs, "error": event.error}
            case _:
                pass
    return json.loads(encode({"nodes": nodes, **end, "prompts": models.prompts}))


def _node(path: str, status: str, outputs: Mapping[str, Any], error: str | None) -> dict[str, Any]:
    return {"id": path.rsplit("/", 1)[-1], "status": status, "outputs": outputs, "error": error}
