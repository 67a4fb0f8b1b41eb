"""A receiver of callbacks over loopback, and a webhook sender on a store that says what is written down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from headrace.adapters.http import HttpClient
from headrace.errors import StoreError
from headrace.ports import Callback, Storage
from headrace.runs.service import RunService
from headrace.runs.worker import Worker
from headrace.stores.memory import MemoryCallbacks, MemoryJournal, memory_storage
from headrace.webhooks import DeliveryPolicy, WebhookSender
from headrace.webhooks.form_mail import FormMails
from tests.runs.service import SECRET, run_service

QUICK = DeliveryPolicy(back_off=(0.01, 0.01, 0.01), poll_seconds=30)


@dataclass(frozen=True)
class Post:
    """What came to a receiver."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Answer = Callable[[Post], Awaitable[web.StreamResponse | int]]


class Receiver:
    """Takes posts, and answers the given statuses one after the other, the last one ever after."""

    def __init__(self, *statuses: int, answer: Answer | None = None) -> None:
        self.posts: list[Post] = []
        self._statuses = list(statuses)
        self._answer = answer
        self._came: asyncio.Queue[Post] = asyncio.Queue()
        self.url = ""

    async def next(self) -> Post:
        async with asyncio.timeout(60):
            return await self._came.get()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        post = Post(request.path, headers, await request.read())
        self.posts.append(post)
        self._came.put_nowait(post)
        answered = await self._answer(post) if self._answer else self._statuses[0]
        if len(self._statuses) > 1:
            self._statuses.pop(0)
        return answered if isinstance(answered, web.StreamResponse) else web.Response(status=answered)

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncGenerator[Receiver]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
            yield self
        finally:
            await runner.cleanup()


@asynccontextmanager
async def receiver(*statuses: int, answer: Answer | None = None) -> AsyncGenerator[Receiver]:
    async with Receiver(*(statuses or (200,)), answer=answer).listening() as listening:
        yield listening


class WatchedCallbacks(MemoryCallbacks):
    """Callbacks that tell what becomes of them, in a store that can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: asyncio.Queue[Callback] = asyncio.Queue()
        self.full = False
        self.refused = asyncio.Event()

    async def save_callback(self, callback: Callback) -> None:
        if self.full:
            self.refused.set()
            raise StoreError("the disk is full")
        await super().save_callback(callback)
        self.saved.put_nowait(callback)

    async def pass_time(self, callback: Callback) -> None:
        """What is due later is due now."""
        await super().save_callback(replace(callback, next_at=time.time()))

    async def next(self, status: str | None = None) -> Callback:
        """The next state of a callback that is written down, with that status."""
        async with asyncio.timeout(60):
            while True:
                saved = await self.saved.get()
                if status in (None, saved.status):
                    return saved


def watched_storage() -> Storage:
    return memory_storage(MemoryJournal(WatchedCallbacks()))


@dataclass
class Delivering:
    """A run service with a worker and webhook sender."""

    store: Storage
    callbacks: WatchedCallbacks
    where: RunService
    webhook_sender: WebhookSender


@asynccontextmanager
async def delivering(
    store: Storage | None = None,
    policy: DeliveryPolicy = QUICK,
    allow: Sequence[str] = ("127.0.0.1",),
    mails: FormMails | None = None,
    **changes: Any,
) -> AsyncGenerator[Delivering]:
    store = store or watched_storage()
    callbacks = store.callbacks
    assert isinstance(callbacks, WatchedCallbacks)
    where = run_service(store)
    http = HttpClient(allow)
    policy = replace(policy, **changes)
    webhook_sender = WebhookSender(where, store.callbacks, store.claims, http, SECRET, policy, mails=mails)
    worker = Worker(where, notify_callback=webhook_sender.wake)
    tasks = [asyncio.create_task(webhook_sender.run()), asyncio.create_task(worker.run())]
    try:
        yield Delivering(store, callbacks, where, webhook_sender)
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await http.aclose()
