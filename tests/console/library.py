"""A server with knowledge bases whose embedding model is a stand-in that a test can hold up, or let fail."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from headrace.access.keys import KNOWLEDGE, Access, Rights
from headrace.stores.sql import SqlStorage
from tests.cli.flows import environ, flow
from tests.server.process import Serve

_DIMENSIONS = 256
LINES: Any = {
    "mode": "custom",
    "rules": {"pre_processing_rules": [], "segmentation": {"separator": "\n", "max_tokens": 200, "chunk_overlap": 0}},
}
"""A chunk a line."""


@dataclass
class EmbeddingModel:
    """Texts that share words are similar. Responds once `is_open` is set; while `is_failing` with a 401."""

    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    is_failing: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        texts: list[str] = (await request.json())["input"]
        if self.is_failing:
            return web.json_response({"error": {"message": "The key has expired."}}, status=401)
        await self.is_open.wait()
        data = [{"index": index, "embedding": _vector(text)} for index, text in enumerate(texts)]
        return web.json_response({"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})


def _vector(text: str) -> list[float]:
    vector = [0.0] * _DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        vector[zlib.crc32(word.encode()) % _DIMENSIONS] += 1.0
    return vector


@dataclass
class Library:
    server: Serve
    key: str
    model: EmbeddingModel

    async def call(self, method: str, path: str, json: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(timeout=60) as client:
            response = await client.request(method, f"{self.server.url}/v1{path}", headers=headers, json=json)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    async def base(self, name: str, technique: str = "economy") -> str:
        """The id of a new knowledge base."""
        return (await self.call("POST", "/datasets", {"name": name, "indexing_technique": technique}))["id"]

    async def write(self, base: str, name: str, text: str, **settings: Any) -> str:
        """The id of a new document."""
        body = {"name": name, "text": text, "process_rule": LINES, **settings}
        return (await self.call("POST", f"/datasets/{base}/document/create-by-text", body))["document"]["id"]


@asynccontextmanager
async def library(folder: Path, **settings: str) -> AsyncIterator[Library]:
    model = EmbeddingModel()
    model.is_open.set()
    app = web.Application()
    app.router.add_post("/v1/embeddings", model.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    environment = environ(
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1",
        HEADRACE_EMBEDDING_MODEL="openai/words",
        **settings,
    )
    try:
        with Serve(folder, [flow(folder / "flow.yml")], environment) as server:
            storage = await SqlStorage.open(f"sqlite:///{folder}/data/headrace.db")
            _, key = await Access(storage.catalog).create(Rights(permissions=frozenset({KNOWLEDGE})), "test")
            await storage.aclose()
            yield Library(server, key, model)
            model.is_open.set()
    finally:
        await runner.cleanup()
