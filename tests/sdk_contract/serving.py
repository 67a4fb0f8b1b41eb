"""Runs the servers of this folder: in a thread of a test, or as their own process."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web


class Running:
    """An application on a free port of 127.0.0.1, in a thread, until the end of the block. `url`."""

    def __init__(self, app: web.Application, tls: ssl.SSLContext | None = None) -> None:
        self._app = app
        self._tls = tls
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.url = ""

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(60), "the server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        runner, self.url = await start(self._app, self._tls)
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()


async def start(app: web.Application, tls: ssl.SSLContext | None = None) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return runner, f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"


def arguments(*more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-file", type=Path, required=True)
    for name in more:
        parser.add_argument(name)
    return parser.parse_args()


async def serve(app: web.Application, ready: Path, details: Mapping[str, Any]) -> None:
    """Serves until SIGTERM or SIGINT; the ready file is written atomically."""
    runner, url = await start(app)
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    partial = ready.with_suffix(".partial")
    partial.write_text(json.dumps({"url": url, **details}))
    partial.replace(ready)
    await end.wait()
    await runner.cleanup()
