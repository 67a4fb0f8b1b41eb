"""A server that does what it is told to do wrong. `sdks/contract.md` says how it is told.

python -m tests.sdk_contract.fault_server --ready-file PATH [--upstream URL] [--prefix PATH]
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import Any

import aiohttp
from aiohttp import web

from tests.sdk_contract.serving import arguments, serve

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "content-encoding", "host", "date", "server"}


class Faults:
    """The script, and what has come. `prefix`: what is not under it is not there; it is taken off for the upstream."""

    def __init__(self, upstream: str | None = None, prefix: str = "") -> None:
        self.upstream = upstream
        self.prefix = prefix
        self.steps: deque[dict[str, Any]] = deque()
        self.requests: list[dict[str, Any]] = []
        self.asked = threading.Event()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/_script", self._script)
        app.router.add_get("/_requests", self._requests)
        app.router.add_delete("/_requests", self._forget)
        app.router.add_route("*", "/{path:.*}", self._any)
        app.cleanup_ctx.append(self._session)
        return app

    async def _session(self, app: web.Application) -> Any:
        async with aiohttp.ClientSession(auto_decompress=False) as self.session:
            yield

    async def _script(self, request: web.Request) -> web.Response:
        self.steps = deque(await request.json())
        return web.json_response({"steps": len(self.steps)})

    async def _requests(self, request: web.Request) -> web.Response:
        return web.json_response(self.requests)

    async def _forget(self, request: web.Request) -> web.Response:
        self.requests.clear()
        return web.json_response({})

    async def _any(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "body": body.decode("utf-8", "replace"),
                "at": time.time(),
            }
        )
        self.asked.set()
        step = self.steps.popleft() if self.steps else {"pass": True}
        if "hang" in step:
            await asyncio.sleep(step["hang"])
            return _dropped(request)
        if step.get("reset"):
            return _dropped(request)
        if step.get("pass"):
            return await self._passed(request, body, step.get("cut"))
        told = step.get("body", "")
        headers = dict(step.get("headers", {}))
        if not isinstance(told, str):
            return await _sent(request, step["status"], headers, web.json_response(told).body, step.get("cut"))
        return await _sent(request, step["status"], headers, told.encode(), step.get("cut"))

    async def _passed(self, request: web.Request, body: bytes, cut: int | None) -> web.StreamResponse:
        if self.upstream is None:
            return web.json_response({"code": "not_found", "message": "no upstream", "status": 404}, status=404)
        if not request.path_qs.startswith(f"{self.prefix}/"):
            return web.Response(status=404, text="<html><title>404 Not Found</title></html>", content_type="text/html")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        if self.prefix:
            headers["X-Forwarded-Prefix"] = self.prefix
        url = f"{self.upstream}{request.path_qs.removeprefix(self.prefix)}"
        async with self.session.request(
            request.method, url, data=body, headers=headers, allow_redirects=False
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            left = cut
            async for chunk in answer.content.iter_any():
                if left is not None and len(chunk) >= left:
                    await response.write(chunk[:left])
                    return _dropped(request)
                await response.write(chunk)
                left = None if left is None else left - len(chunk)
            await response.write_eof()
            return response


async def _sent(
    request: web.Request, status: int, headers: dict[str, str], body: Any, cut: int | None
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json", **headers})
    await response.prepare(request)
    await response.write(body if cut is None else body[:cut])
    if cut is not None:
        return _dropped(request)
    await response.write_eof()
    return response


def _dropped(request: web.Request) -> web.StreamResponse:
    """Cuts the connection; what has been written is still sent."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


if __name__ == "__main__":
    chosen = arguments("--upstream", "--prefix")
    asyncio.run(serve(Faults(chosen.upstream, chosen.prefix or "").app(), chosen.ready_file, {}))
