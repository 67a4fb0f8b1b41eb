"""A world for nodes that ask a model: one that says what it is told to, a template engine that shows what it got, and
a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.errors import NodeError
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Context, Node, Result
from headrace.nodes.llm import LLM
from headrace.ports.services import ChatChunk, ChatRequest, Limits, Resources, Turn, Usage
from headrace.values import File, Value

USAGE = Usage(5, 3)
PICTURE = File("image", "remote_url", "a.png", ".png", "image/png", remote_url="https://example.com/long/a.png")


@dataclass
class Model:
    """Says what it is told to, and remembers what it was asked."""

    says: Sequence[ChatChunk | Exception] = (ChatChunk("Hi"),)
    finish: str | None = "stop"
    requests: list[ChatRequest] = field(default_factory=list)
    closed: bool = False

    async def chat(self, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        self.requests.append(request)
        try:
            for chunk in self.says:
                await asyncio.sleep(0)
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
            yield ChatChunk(finish_reason=self.finish, usage=USAGE)
        finally:
            self.closed = True

    def missing(self, provider: str) -> str | None:
        return None if provider == "p" else f"set the key of {provider}"


@dataclass
class Conversation:
    """What was said before; it remembers what was asked of it."""

    said: Sequence[Turn]
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    async def turns(self, conversation: str, before: str, limit: int) -> Sequence[Turn]:
        self.requests.append((conversation, before, limit))
        return self.said[-limit:]


class Jinja:
    async def render(self, template: str, inputs: Mapping[str, Value], seconds: float, app: str = "") -> str:
        return f"{template} with {dict(inputs)}"


@dataclass
class Ran:
    result: Result
    texts: list[str]
    request: ChatRequest

    @property
    def text(self) -> str:
        return self.result.outputs["text"]


def node(prompt: Any = None, **more: Any) -> LLM:
    prompt = [{"role": "user", "text": "{{#start.query#}}"}] if prompt is None else prompt
    data = {"model": {"provider": "p", "name": "m", "mode": "chat"}, "prompt_template": prompt} | more
    return LLM(LLM.Config.model_validate(data))


def resources(model: Model, history: Conversation | None = None) -> Resources:
    return cast("Resources", SimpleNamespace(models=model, sandbox=Jinja(), history=history))


async def run(
    asking: Node[Any],
    model: Model | None = None,
    scopes: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    history: Conversation | None = None,
) -> Ran:
    model = model or Model()
    texts: list[str] = []
    ctx = Context(
        run="r",
        app="a",
        user="me",
        spec=NodeSpec("llm", asking.type),
        variables=Variables(scopes if scopes is not None else {"start": {"query": "good morning"}}),
        inputs={},
        resources=resources(model, history),
        limits=limits or Limits(),
        emit=lambda name, text: texts.append(text) if name == "text" else None,
        key="k",
        new_id=lambda: "id",
    )
    result = await asking.run(ctx)
    assert isinstance(result, Result)
    return Ran(result, texts, model.requests[0])


async def failure(*args: Any, **more: Any) -> NodeError:
    with pytest.raises(NodeError) as raised:
        await run(*args, **more)
    return raised.value
