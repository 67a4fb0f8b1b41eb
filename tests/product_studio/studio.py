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

STREAM, STOP, RUNS = f"{DETAIL}/stream", f"{DETAIL}/stop", f"{DETAIL}/runs"
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

    async def run(self, run: str, wait: int = 10) -> dict[str, Any]:
        """A run on the workflow's server; waits a while for its end."""
        async with httpx.AsyncClient(timeout=60) as client:
            url = f"{self.endpoint}/api/v1/workflow-runs/{run}?wait={wait}"
            return (await client.get(url, headers={"Authorization": f"Bearer {self.key}"})).json()

    async def status(self, run: str, wait: int = 10) -> str:
        return (await self.run(run, wait))["status"]

    async def newest(self) -> str:
        """The id of the newest run of the workflow."""
        async with httpx.AsyncClient(timeout=60) as client:
            url = f"{self.endpoint}/api/v1/workflow-runs?limit=1"
            listed = (await client.get(url, headers={"Authorization": f"Bearer {self.key}"})).json()["data"]
        return listed[0]["id"] if listed else ""


async def events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


async def generated(studio: Studio, name: str = NAME, **body: str) -> list[dict[str, Any]]:
    """All events of a new run."""
    body["product_name"] = name
    async with studio.client() as client, client.stream("POST", STREAM, json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return [event async for event in events(response)]


async def followed(studio: Studio, run: str) -> list[dict[str, Any]]:
    """All events of a run that exists."""
    async with studio.client() as client, client.stream("GET", f"{RUNS}/{run}/stream") as response:
        assert response.status_code == 200
        return [event async for event in events(response)]
