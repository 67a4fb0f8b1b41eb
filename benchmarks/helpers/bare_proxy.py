"""What streams are measured against: FastAPI on uvicorn, as Headrace runs it, that passes on what a model sends,
and does nothing else. `bare_proxy.py PORT` of the model; it prints its own."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from functools import cache

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


@cache
def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(f"http://127.0.0.1:{sys.argv[1]}", connector=aiohttp.TCPConnector(limit=0))


@app.post("/v1/chat/completions")
async def complete(request: Request) -> StreamingResponse:
    body = await request.body()

    async def pieces() -> AsyncIterator[bytes]:
        async with session().post(request.url.path, data=body) as response:
            async for piece in response.content.iter_any():
                yield piece

    return StreamingResponse(pieces(), media_type="text/event-stream")


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")).run([listener])
