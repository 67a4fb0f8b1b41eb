"""Chat apps for tests, and their callers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import yaml

from tests.api.serving import WITH_IDS, Client, Stream

CHAT = "/v1/chat-messages"


def chatflow(
    answer: str = "You said: {{#sys.query#}}",
    scripts: Sequence[str] = (),
    *,
    mode: str = "advanced-chat",
    variables: Sequence[Mapping[str, Any]] = (),
    features: Mapping[str, Any] | None = None,
    conversation: Mapping[str, Any] | None = None,
    name: str = "chat",
) -> str:
    """A chat app's file: start, one scripted node a script in a row, an answer. `conversation`: variables that it
    declares, by name, each with what it begins with."""
    nodes: list[dict[str, Any]] = [
        {"id": "start", "data": {"type": "start", "title": "Start", "variables": list(variables)}}
    ]
    nodes += [{"id": script, "data": {"type": "scripted", "title": script, "script": script}} for script in scripts]
    nodes.append({"id": "answer", "data": {"type": "answer", "title": "Answer", "answer": answer}})
    kinds = {str: "string", int: "number", list: "array[object]"}
    declared = [
        {"id": f"id of {item}", "name": item, "value": value, "value_type": kinds[type(value)], "description": ""}
        for item, value in (conversation or {}).items()
    ]
    edges = [{"source": a["id"], "target": b["id"], "sourceHandle": "source"} for a, b in pairwise(nodes)]
    return yaml.safe_dump(
        {
            "app": {"name": name, "mode": mode, "description": "", "icon": "🤖", "icon_background": "#FFEAD5"},
            "kind": "app",
            "version": "0.5.0",
            "workflow": {
                "environment_variables": [],
                "conversation_variables": declared,
                "features": dict(features or {}),
                "graph": {"nodes": nodes, "edges": edges},
            },
        },
        allow_unicode=True,
    )


async def say(app: Client, query: str = "hi", conversation: str = "", **more: Any) -> tuple[int, Any]:
    """(status, body) of the answer to a message, waited for."""
    body = {"inputs": {}, "query": query, "user": "u1", "conversation_id": conversation, **more}
    return await app.call("POST", CHAT, json=body)


async def begin(app: Client, query: str = "hi", user: str = "u1") -> str:
    """The id of a conversation that begins with a query."""
    return (await say(app, query, user=user))[1]["conversation_id"]


async def refused(app: Client, method: str, path: str, **more: Any) -> tuple[int, str, str]:
    """(status, code, message) of a call that is refused."""
    status, body = await app.call(method, path, **more)
    assert body["status"] == status
    return status, body["code"], body["message"]


@asynccontextmanager
async def saying(app: Client, query: str = "hi", path: str = CHAT, **more: Any) -> AsyncGenerator[Stream]:
    """A message's events."""
    body = {"inputs": {}, "query": query, "user": "u1", "response_mode": "streaming", **more}
    headers = {"Authorization": f"Bearer {app.key}", "Accept": WITH_IDS}
    async with app.session.post(app.url + path, headers=headers, json=body) as answer:
        yield Stream(answer)
