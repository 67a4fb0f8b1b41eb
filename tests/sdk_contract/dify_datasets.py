"""Dify's API of knowledge bases: a response for each operation (data/datasets.json), with the nulls that Dify sends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

KNOWLEDGE_KEY = "dataset-dify"
RESPONSES: Mapping[str, Any] = json.loads((Path(__file__).parent / "data" / "datasets.json").read_text("utf-8"))


def add_datasets(app: web.Application) -> None:
    for operation, response in RESPONSES.items():
        method, _, path = operation.partition(" ")
        app.router.add_route(method, path, _handler(response))


def _handler(response: Mapping[str, Any]) -> Any:
    async def handle(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KNOWLEDGE_KEY}":
            unauthorized = {"code": "unauthorized", "message": "Access token is invalid", "status": 401}
            return web.json_response(unauthorized, status=401)
        await request.read()
        if "events" in response:
            text = "".join(f"data: {json.dumps(event)}\n\n" for event in response["events"])
            return web.Response(text=text, content_type="text/event-stream")
        if "text" in response:
            return web.Response(body=response["text"].encode(), content_type="application/zip")
        if "body" not in response:
            return web.Response(status=response["status"])
        return web.json_response(response["body"], status=response["status"])

    return handle
