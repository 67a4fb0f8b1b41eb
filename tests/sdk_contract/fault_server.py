"""A server that fails as its script says; `sdks/contract.md` describes the script.

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

from tests.sdk_contract.serving import arguments, serve, start

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "content-encoding", "host", "date", "server"}


class Faults:
    """The script and the received requests. `prefix` is stripped for the upstream; other paths are a 404."""

    def __init__(self, upstream: str | None = None, prefix: str = "") -> None:
        self.upstream = upstream
        self.prefix = prefix
        self.steps: deque[dict[str, Any]] = deque()
        self.requests: list[dict[str, Any]] = []
        self.received = threading.Event()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/_script", self._script)
        app.router.add_get("/_requests", self._requests)
        app.router.add_delete("/_requests", self._clear)
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

    async def _clear(self, request: web.Request) -> web.Response:
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
        self.received.set()
        step = self.steps.popleft() if self.steps else {"pass": True}
        if "after" in step:  # an event of this process
            await asyncio.to_thread(step["after"].wait, 60)
        if "hang" in step:
            await asyncio.sleep(step["hang"])
            return _drop(request)
        if step.get("reset"):
            return _drop(request)
        if step.get("pass"):
            try:
                return await self._forward(request, body, step.get("cut"))
            except aiohttp.ClientError:  # the upstream is not there, or went away
                return _drop(request)
        content = step.get("body", "")
        headers = dict(step.get("headers", {}))
        if not isinstance(content, str):
            return await _send(request, step["status"], headers, web.json_response(content).body, step.get("cut"))
        return await _send(request, step["status"], headers, content.encode(), step.get("cut"))

    async def _forward(self, request: web.Request, body: bytes, cut: int | None) -> web.StreamResponse:
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
            forwarded = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=answer.status, headers=forwarded)
            await response.prepare(request)
            remaining = cut
            async for chunk in answer.content.iter_any():
                if remaining is not None and len(chunk) >= remaining:
                    await response.write(chunk[:remaining])
                    return _drop(request)
                await response.write(chunk)
                remaining = None if remaining is None else remaining - len(chunk)
            await response.write_eof()
            return response


async def _send(
    request: web.Request, status: int, headers: dict[str, str], body: Any, cut: int | None
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers={"Content-Type": "application/json", **headers})
    await response.prepare(request)
    await response.write(body if cut is None else body[:cut])
    if cut is not None:
        return _drop(request)
    await response.write_eof()
    return response


def _drop(request: web.Request) -> web.StreamResponse:
    """Closes the connection after sending what has been written."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


def fault_servers() -> web.Application:
    """Starts a fault server for each request: `{"upstream", "prefix"}` to `{"url"}`."""
    runners: list[web.AppRunner] = []

    async def add(request: web.Request) -> web.Response:
        wanted = await request.json()
        runner, url = await start(Faults(wanted["upstream"], wanted["prefix"]).app())
        runners.append(runner)
        return web.json_response({"url": url})

    async def stop(_: web.Application) -> None:
        await asyncio.gather(*(runner.cleanup() for runner in runners))

    app = web.Application()
    app.router.add_post("/", add)
    app.on_cleanup.append(stop)
    return app


if __name__ == "__main__":
    chosen = arguments("--upstream", "--prefix")
    asyncio.run(serve(Faults(chosen.upstream, chosen.prefix or "").app(), chosen.ready_file, {}))
