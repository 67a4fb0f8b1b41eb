"""A whole Headrace in the test's process, behind a real HTTP server on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, cast

import aiohttp
import uvicorn
import yaml
from starlette.routing import BaseRoute

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import FileStore, limit_for
from headrace.api.app import ApiOptions, create_app
from headrace.api.native import NativeServices
from headrace.apps.catalog import Apps, Release
from headrace.batches import BatchRunner
from headrace.brokers import LocalBus
from headrace.conversations.annotations import Annotations
from headrace.conversations.history import ConversationHistory
from headrace.conversations.messages import Chats
from headrace.dispatch import LocalDispatch
from headrace.engine import EngineEnvironment
from headrace.errors import NodeError
from headrace.node import Config, Context, Node, Pause, Registry, Result
from headrace.nodes.answer import Answer
from headrace.nodes.end import End
from headrace.nodes.human_input.node import HumanInput
from headrace.nodes.start import Start
from headrace.nodes.trigger_schedule import TriggerSchedule
from headrace.nodes.trigger_webhook import TriggerWebhook
from headrace.ports import FileBlobs, Storage
from headrace.ports.services import Http, HttpRequest, HttpResponse
from headrace.rate_limits import Limiter, PlanFile
from headrace.runs.service import RunService
from headrace.runs.worker import Worker
from headrace.server.connection import Connection
from headrace.stores.memory import memory_storage
from headrace.triggers import SubscriptionService
from headrace.webhooks import WebhookSender
from tests.api.declared import check_event, check_response
from tests.resources import only
from tests.triggers.trigger_plugins import StandInPlugins

DATA = Path(__file__).parent.parent / "data"
WITH_IDS = "text/event-stream; ids=true"


class ScriptConfig(Config):
    script: str
    says: tuple[str, ...] = ()


Script = Callable[[Context], Any]


class Scripted(Node[ScriptConfig]):
    """Does what the test says: `scripts` holds what is to be done, by name."""

    type = "scripted"
    scripts: ClassVar[dict[str, Script]] = {}

    async def run(self, ctx: Context) -> Result | Pause:
        return await self.scripts[self.config.script](ctx)


REGISTRY: Registry = {
    cls.type: cls  # pyright: ignore[reportAssignmentType]
    for cls in (Start, End, Answer, HumanInput, Scripted, TriggerWebhook, TriggerSchedule)
}


class NoHttp(Http):
    """A world in which every URL answers the same."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, (("Content-Type", "image/png"), ("Content-Length", "70")), b"", request.url)


def workflow(
    scripts: Sequence[str] = (),
    *,
    variables: Sequence[Mapping[str, Any]] = (),
    outputs: Mapping[str, Sequence[str]] | None = None,
    secrets: Mapping[str, str] | None = None,
    node: Mapping[str, Any] | None = None,
    mode: str = "workflow",
) -> str:
    """A workflow file: start, one node a script in a row, end with these outputs (variable -> selector)."""
    nodes: list[dict[str, Any]] = [
        {"id": "start", "data": {"type": "start", "title": "Start", "variables": list(variables)}}
    ]
    for name in scripts:
        data = {"type": "scripted", "title": name.title(), "script": name, **(node or {})}
        nodes.append({"id": name, "data": data})
    declared = [{"variable": name, "value_selector": list(selector)} for name, selector in (outputs or {}).items()]
    nodes.append({"id": "end", "data": {"type": "end", "title": "End", "outputs": declared}})
    ids = [item["id"] for item in nodes]
    environment = [
        {"id": name, "name": name, "value": value, "value_type": "secret", "selector": ["env", name]}
        for name, value in (secrets or {}).items()
    ]
    return yaml.safe_dump(
        {
            "app": {"name": "tiny", "mode": mode, "description": "", "icon": "🤖", "icon_background": "#FFEAD5"},
            "kind": "app",
            "version": "0.5.0",
            "workflow": {
                "environment_variables": environment,
                "features": {},
                "graph": {
                    "nodes": nodes,
                    "edges": [
                        {"id": f"{a}-{b}", "source": a, "target": b, "sourceHandle": "source", "targetHandle": "target"}
                        for a, b in pairwise(ids)
                    ],
                },
            },
        },
        allow_unicode=True,
    )


async def boom(_: Context) -> Result:
    raise NodeError("it went boom", "Boom", inputs={"q": "hi"})


async def ask(ctx: Context) -> Result | Pause:
    """Pauses the first time it is run, and goes on the second."""
    script = Scripted.scripts.setdefault(f"asked {ctx.run}", boom)
    Scripted.scripts[f"asked {ctx.run}"] = ask
    return Result({"text": "answered"}) if script is ask else Pause({"node_id": ctx.spec.id, "type": "human_input"})


@dataclass
class Gate:
    """A node that says its pieces, each once the test lets it, and then ends."""

    pieces: Sequence[str]
    steps: asyncio.Queue[None] = field(default_factory=asyncio.Queue[None])
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, ctx: Context) -> Result:
        self.reached.set()
        try:
            for piece in self.pieces:
                await self.steps.get()
                ctx.emit("text", piece)
            await self.steps.get()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Result(
            {"text": "".join(self.pieces)}, usage={"total_tokens": 8, "total_price": "0.1", "currency": "USD"}
        )

    def let(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.steps.put_nowait(None)


class Quiet(uvicorn.Server):
    """Leaves the process's signals alone, says when it listens, and stops at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        # as `headrace serve`: on a busy machine a connection may be idle for longer than uvicorn's 5 s, and a client
        # that sends its next request just then sees a broken connection
        config.timeout_keep_alive = 75
        self.listens = asyncio.Event()
        self.leave = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.leave.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def check_times(body: Any) -> None:
    """Every moment in an answer is in whole seconds (or a text), and its finer form agrees with it."""
    if isinstance(body, list):
        for item in cast("list[Any]", body):
            check_times(item)
    elif isinstance(body, dict):
        fields = cast("dict[str, Any]", body)
        for name, value in fields.items():
            if name == "at" or name.endswith("_at"):
                assert value is None or type(value) in (int, str), (name, value)
                fine = fields.get(f"{name}_ms")
                assert fine is None or (type(fine) is int and fine // 1000 == value), (name, value, fine)
            if name == "metadata" and "parent_id" in fields:
                continue  # an entry of an agent's log: Dify's have fractions of seconds
            check_times(value)


@dataclass(frozen=True)
class Event:
    """One event of a stream, as a client reads it."""

    id: str | None
    name: str
    body: Mapping[str, Any]

    @property
    def data(self) -> Mapping[str, Any]:
        return self.body["data"]


@dataclass
class Client:
    """A caller with the key of one app."""

    session: aiohttp.ClientSession
    url: str
    key: str
    release: Release

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """(status, JSON) of a call with the app's key."""
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **more) as answer:
            body = json.loads(await answer.read())
            check_times(body)
            check_response(method, answer.url.path, answer.status, body)
            return answer.status, body

    async def run(self, inputs: Mapping[str, Any] | None = None, **more: Any) -> tuple[int, Any]:
        body = {"inputs": inputs or {}, "user": "u1", **more}
        return await self.call("POST", "/v1/workflows/run", json=body)

    @asynccontextmanager
    async def stream(
        self, path: str = "/v1/workflows/run", headers: Mapping[str, str] | None = None, **inputs: Any
    ) -> AsyncGenerator[Stream]:
        """A run's events, with their ids: POST starts it, GET (a path with `?`) follows one."""
        all_headers = {"Authorization": f"Bearer {self.key}", "Accept": WITH_IDS, **(headers or {})}
        if "/events" in path:
            request = self.session.get(self.url + path, headers=all_headers)
        else:
            body = {"inputs": inputs, "user": "u1", "response_mode": "streaming"}
            request = self.session.post(self.url + path, headers=all_headers, json=body)
        async with request as answer:
            yield Stream(answer)


class Stream:
    """Reads server-sent events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.raw = b""

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        if (fields := await self._block()) is None:
            return None
        body = json.loads(fields["data"]) if "data" in fields else {}
        name = fields.get("event") or body["event"]
        check_event(name, body)
        return Event(fields.get("id"), name, body)

    async def _block(self) -> dict[str, str] | None:
        block = b""
        while not block.endswith(b"\n\n"):
            line = await self.answer.content.readline()
            if not line:
                assert not block.strip(), "the stream ends in mid-event"
                return None
            block += line
        self.raw += block
        return dict(re.findall(r"^(\w+): (.*)$", block.decode(), re.M))

    async def until(self, name: str) -> list[Event]:
        """The events up to and with the first of that name."""
        result: list[Event] = []
        while (event := await self.next()) is not None:
            result.append(event)
            if event.name == name:
                return result
        raise AssertionError(f"no {name} in {[item.name for item in result]}")

    async def rest(self) -> list[Event]:
        result: list[Event] = []
        while (event := await self.next()) is not None:
            result.append(event)
        return result


@dataclass
class Serving:
    """The server, its parts, and a client for each app by name."""

    url: str
    session: aiohttp.ClientSession
    apps: Apps
    run_service: RunService
    store: Storage
    files: FileStore
    secret_key: Callable[[Release], str]
    routes: Sequence[BaseRoute]

    async def add(self, source: str, content: str) -> Client:
        release = await self.apps.publish(source, content)
        return Client(self.session, self.url, self.secret_key(release), release)


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    max_active: int = 0,
    models: Any = None,
    speech: Any = None,
    tools: Any = None,
    registry: Registry = REGISTRY,
    plans: Path | None = None,
    trigger_plugins: Any = None,
    clock: Callable[[], float] = time.time,
    blobs: FileBlobs | None = None,
    **options: Any,
) -> AsyncGenerator[Serving]:
    store = memory_storage()
    apps = Apps(store.catalog, registry, b"s" * 32)
    url = ""
    files = FileStore(blobs or FileBlobStore(folder / "files"), store.catalog, b"s" * 32, NoHttp(), lambda: url)
    history = ConversationHistory(store.conversations, store.journal)
    resources = only(http=NoHttp(), files=files, models=models, tools=tools, history=history)
    limiter = Limiter(PlanFile(plans), store.buckets) if plans else None
    run_service = RunService(
        apps,
        EngineEnvironment(store.journal, LocalBus(), resources, clock=clock),
        LocalDispatch(store.leases),
        store,
        max_active,
        limiter,
    )
    batch_runner = BatchRunner(
        run_service, store.batches, store.claims, Chats(run_service, Annotations(store.conversations).answer)
    )
    subscriptions = SubscriptionService(
        store.subscriptions, lambda: trigger_plugins or StandInPlugins(), "https://headrace.example", clock
    )
    sender = WebhookSender(run_service, store.callbacks, store.claims, NoHttp(), b"s" * 32)
    parts = NativeServices(store.idempotency, sender, batch_runner, subscriptions)
    api = create_app(apps, run_service, files, ApiOptions(**{"limit_for": limit_for, **options}), parts, speech=speech)
    config = uvicorn.Config(
        api,
        host="127.0.0.1",
        port=0,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = Quiet(config)
    working = asyncio.gather(Worker(run_service).run(), batch_runner.run())
    listening = asyncio.create_task(server.serve())
    try:
        await server.listens.wait()
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        url = f"http://{host}:{port}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:

            def secret_key(release: Release) -> str:
                return apps.own_key(release.app)

            yield Serving(url, session, apps, run_service, store, files, secret_key, api.routes)
    finally:
        server.leave.set()
        await listening
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
