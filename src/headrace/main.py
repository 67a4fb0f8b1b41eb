"""The composition root: the one place that knows every part and puts them together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.adapters.documents import DocumentReader
from headrace.adapters.files import FileStore, limit_for
from headrace.adapters.http import HttpClient
from headrace.adapters.knowledge import KnowledgeClient
from headrace.adapters.models import ModelClient, SpeechClient
from headrace.adapters.sandbox import LocalSandbox, RemoteSandbox
from headrace.apps import Apps, Served
from headrace.brokers.local import LocalBus, LocalQueue
from headrace.courier import Courier
from headrace.dispatcher import Dispatcher
from headrace.engine import World
from headrace.errors import HeadraceError, LoadError, Problem
from headrace.nodes import registry
from headrace.ports import Answers
from headrace.resources import Resources, Speech
from headrace.runtime import Runtime
from headrace.settings import Settings
from headrace.stores.memory import MemoryStore
from headrace.worker import Worker

logger = logging.getLogger(__name__)

LARGEST_FILE = 10 * 1024 * 1024  # bytes of a workflow file


@dataclass
class Service:
    """Headrace, put together. `public_url` may be set once the address is known."""

    settings: Settings
    apps: Apps
    runtime: Runtime
    files: FileStore
    resources: Resources
    public_url: str
    courier: Courier
    dispatcher: Dispatcher
    answers: Answers
    speech: Speech

    async def publish(self, file: Path) -> Served:
        """Serves a workflow file under its path. LoadError where it cannot be."""
        return await self.apps.publish(source_of(file), read_workflow(file))


def source_of(file: Path) -> str:
    """Under what a file is known: its absolute path."""
    return os.path.abspath(file)


def read_workflow(file: Path) -> str:
    """A workflow file's text. LoadError where it cannot be read, is not UTF-8, or is too large to be one."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise LoadError(str(file), [Problem(f"the file is larger than {LARGEST_FILE // 1024 // 1024} MB")])
        return file.read_text("utf-8-sig")
    except OSError as error:
        raise LoadError(str(file), [Problem(f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise LoadError(str(file), [Problem(f"is not UTF-8 text (byte {error.start})")]) from error


@asynccontextmanager
async def service(
    settings: Settings, environ: Mapping[str, str] = os.environ, *, memory: bool = False, work: bool = True
) -> AsyncGenerator[Service]:
    """A running Headrace: with a worker if `work`, and nothing kept on disk but files if `memory`."""
    async with AsyncExitStack() as stack:
        settings.data.mkdir(parents=True, exist_ok=True)
        secret = installation_secret(settings.data)
        if memory:
            store = MemoryStore()
        else:
            from headrace.stores.sql import SqlStore  # takes 0.2 s to import; a one-off run does without

            store = await SqlStore.open(settings.database, full_sync=settings.full_sync)
        stack.push_async_callback(store.aclose)

        http = HttpClient(settings.egress_allow, user_agent=settings.user_agent)
        stack.push_async_callback(http.aclose)
        public_url = settings.public_url or f"http://{settings.host}:{settings.port}"
        files = FileStore(
            settings.data / "files", store, secret, http, lambda: running.public_url, lifetime=settings.file_url_seconds
        )
        models = ModelClient(environ, files, demo=settings.demo_model)
        stack.push_async_callback(models.aclose)
        if settings.sandbox_url:
            sandbox = RemoteSandbox(settings.sandbox_url, settings.sandbox_api_key)
        else:
            sandbox = LocalSandbox()
        stack.push_async_callback(sandbox.aclose)

        documents = DocumentReader()
        knowledge = KnowledgeClient(
            dify_url=settings.dify_url,
            dify_key=settings.dify_dataset_key,
            url=settings.knowledge_url,
            key=settings.knowledge_api_key,
            ids=settings.knowledge_ids,
            environ=environ,
        )
        stack.push_async_callback(knowledge.aclose)
        speech = SpeechClient(
            environ,
            provider=settings.speech_provider,
            transcription_model=settings.transcription_model,
            speech_model=settings.speech_model,
        )
        stack.push_async_callback(speech.aclose)
        resources = Resources(models, http, sandbox, files, documents, knowledge, store)
        world = World(store, LocalBus(), resources, settings.limits)
        apps = Apps(store, registry(), secret)
        runtime = Runtime(apps, world, LocalQueue(), store, store, settings.max_active_requests)
        courier = Courier(runtime, store, http, secret)
        dispatcher = Dispatcher(runtime, store)
        if work:
            delivering = asyncio.create_task(courier.run(), name="courier")
            stack.push_async_callback(_let_go, delivering)
            worker = Worker(runtime, concurrency=settings.concurrency, call_back=courier.poke)
            working = asyncio.create_task(worker.run(), name="worker")
            stack.push_async_callback(_let_go, working)
            dispatching = asyncio.create_task(dispatcher.run(), name="dispatcher")
            stack.push_async_callback(_let_go, dispatching)
        running = Service(settings, apps, runtime, files, resources, public_url, courier, dispatcher, store, speech)
        yield running


async def _let_go(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def installation_secret(folder: Path) -> bytes:
    """The installation's secret: made once, readable by its owner only."""
    path = folder / "secret"
    try:
        return bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        pass
    made = secrets.token_bytes(32)
    with contextlib.suppress(FileExistsError):
        # another process may start at this very moment: whoever is first makes it, both read it
        partial = path.with_name(f"secret.{os.getpid()}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(made.hex())
        try:
            os.link(partial, path)
        finally:
            partial.unlink()
    return bytes.fromhex(path.read_text().strip())


async def serve(
    settings: Settings,
    workflows: Sequence[Path],
    ready_file: Path | None = None,
    on_ready: Callable[[Service, str, Sequence[tuple[Path, Served, str]]], None] = lambda running, url, served: None,
) -> None:
    """Serves workflow files, and what is served already, until the process is told to stop.

    `on_ready(service, url, [(file, served, key)])` is called, and `ready_file` written, once requests are taken: of the
    files that were named, or, if none was, of all that is served.
    """
    import uvicorn  # the web side takes 0.4 s to import; `lint` and `run` do without

    from headrace.api.app import ApiOptions, create_app
    from headrace.api.polling import Polling

    async with service(settings) as running:
        served: list[tuple[Path, Served, str]] = []
        problems: list[Problem] = []
        for file in workflows:
            try:
                each = await running.publish(file)
            except LoadError as error:
                problems += [Problem(f"{error.source}: {problem}") for problem in error.problems]
            else:
                served.append((file, each, await running.apps.working_key(each.app)))
        if problems:
            raise LoadError("serve", problems)
        for app in [] if workflows else await running.apps.catalog.apps():
            try:
                each = await running.apps.served(app.id)
            except LoadError as error:
                logger.error("%s cannot be served any more: %s", app.source, error)
            else:
                served.append((Path(app.source), each, await running.apps.working_key(app)))

        listener = listen(settings.host, settings.port)
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if not settings.public_url:
            running.public_url = url

        def ready() -> None:
            # what is there now stays: the collector need not go through the libraries again and again, in mid-request
            gc.collect()
            gc.freeze()
            gc.enable()
            if ready_file:
                tell_ready(ready_file, url, served)
            on_ready(running, url, served)

        api = create_app(
            running.apps,
            running.runtime,
            running.files,
            ApiOptions(cors_origins=settings.cors_origins, ping_seconds=settings.ping_seconds, limit_for=limit_for),
            Polling(running.answers, running.courier, running.dispatcher),
            speech=running.speech,
        )

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                ready()

        config = uvicorn.Config(
            api,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
            proxy_headers=True,
        )
        await Server(config).serve([listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. HeadraceError where the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise HeadraceError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def tell_ready(path: Path, url: str, served: Sequence[tuple[Path, Served, str]]) -> None:
    """Writes the ready file, whole or not at all."""
    apps = [
        {
            "file": str(file),
            "name": each.app.name,
            "mode": each.app.mode,
            "app_id": each.app.id,
            "workflow_id": each.version.id,
            "key": key,
        }
        for file, each, key in served
    ]
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"url": url, "apps": apps}, ensure_ascii=False, indent=2))
    partial.replace(path)
