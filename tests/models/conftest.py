from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headrace.adapters.models import ModelClient
from tests.models.server import ModelServer


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    model = ModelServer()
    listener = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield model
    listener.close()
    await listener.wait_closed()


@pytest.fixture
async def client(server: ModelServer) -> AsyncIterator[ModelClient]:
    model_client = ModelClient(
        {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "sk-very-secret"}, backoff=0.001, idle=1.0
    )
    yield model_client
    await model_client.aclose()
