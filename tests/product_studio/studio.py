"""Product Studio's back end in a thread, behind a real HTTP server on a free port."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from product_studio.app import DETAIL, create_app
from product_studio.settings import FOLDER, Settings

STREAM, STOP = f"{DETAIL}/stream", f"{DETAIL}/stop"
NAME = "宜蘭礁溪五日遊"


class Studio:
    def __init__(self, endpoint: str, key: str, database: Path, page: Path = FOLDER / "web" / "dist") -> None:
        self.endpoint = endpoint
        self.key = key
        self._settings = Settings.model_validate(
            {
                "dify_workflow_api_endpoint": endpoint,
                "dify_create_product_detail_api_key": key,
                "studio_database": database,
                "studio_page": page,
            }
        )

    def start(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        app = create_app(self._settings)
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([self._socket])), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60)

    async def standing(self, run: str) -> str:
        """How a run stands on the workflow's server; waits a while for its end."""
        async with httpx.AsyncClient(timeout=60) as client:
            url = f"{self.endpoint}/api/v1/workflow-runs/{run}?wait=10"
            return (await client.get(url, headers={"Authorization": f"Bearer {self.key}"})).json()["status"]

    async def newest(self) -> str:
        """The id of the newest run of the workflow."""
        async with httpx.AsyncClient(timeout=60) as client:
            url = f"{self.endpoint}/api/v1/workflow-runs?limit=1"
            listed = (await client.get(url, headers={"Authorization": f"Bearer {self.key}"})).json()["data"]
        return listed[0]["id"] if listed else ""


async def told(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """What a stream tells."""
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


async def generated(studio: Studio, name: str = NAME) -> list[dict[str, Any]]:
    """All that the stream of a run tells."""
    async with studio.client() as client, client.stream("POST", STREAM, json={"product_name": name}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [each async for each in told(answer)]
