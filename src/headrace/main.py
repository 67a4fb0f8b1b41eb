"""The composition root: the one place that knows every part and connects them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.adapters.documents import DocumentReader
from headrace.adapters.egress import Egress
from headrace.adapters.files import FileStore
from headrace.adapters.http import HttpClient
from headrace.adapters.installation import configured_secret, database_secret, installation_secret
from headrace.adapters.models import ModelCalls, PluginModels, SpeechWithPlugins
from headrace.adapters.models.slots import unlimited
from headrace.adapters.plugins.limits import PluginLimits
from headrace.adapters.plugins.runtime import Plugins
from headrace.adapters.sandbox import RemoteSandbox
from headrace.adapters.tools import (
    BuiltinTools,
    CustomTools,
    McpTools,
    PluginStrategies,
    PluginTools,
    ToolCalls,
    ToolRegistry,
    ToolSource,
    read_config,
    read_servers,
)
from headrace.apps.catalog import Apps, Release
from headrace.background import Periodic, background
from headrace.batches import BatchRunner
from headrace.brokers import WIRE_POLL_SECONDS, LocalBus, SharedBus
from headrace.conversations.annotations import Annotations
from headrace.conversations.history import ConversationHistory
from headrace.conversations.messages import Chats
from headrace.dispatch import POLL_SECONDS
from headrace.dsl.workflow_file import read_workflow, source_of
from headrace.engine import EngineEnvironment
from headrace.errors import LoadError
from headrace.factories import (
    code_packages,
    database_dispatch,
    file_blobs,
    form_mails,
    host_wire,
    local_sandbox,
    model_client,
    model_limits,
    own_speech,
    plans_of,
    plugin_handlers,
    queue_limits_of,
    remote_knowledge,
    sql_storage,
    temporal_dispatch,
)
from headrace.knowledge.router import KnowledgeRouter, split_ids
from headrace.knowledge_bases import KnowledgeBases
from headrace.nodes import registry
from headrace.ports import Storage
from headrace.ports.plugins import Endpoints, TriggerSubscriptions
from headrace.ports.services import STRATEGY, Knowledge, Resources, Speech
from headrace.rate_limits import Limiter
from headrace.retention import Retention
from headrace.runs.form_expiry import FormObserver
from headrace.runs.redispatch import Redispatcher
from headrace.runs.service import RunService
from headrace.runs.worker import Worker
from headrace.runs.workflow_tools import WorkflowTools
from headrace.settings import Settings
from headrace.triggers import SubscriptionService, TriggerService
from headrace.webhooks import WebhookSender

if TYPE_CHECKING:
    from headrace.access.console import ConsoleAccess
    from headrace.adapters.oidc import OidcIdentity
    from headrace.adapters.plugins.triggers import PluginTriggers
    from headrace.telemetry.setup import Telemetry

logger = logging.getLogger(__name__)

SCHEMA_SECONDS = 5.0  # between looks whether a newer version has migrated the database


@dataclass
class Service:
    """The parts of a running Headrace. `public_url` and `console` may be set once it is served."""

    settings: Settings
    apps: Apps
    run_service: RunService
    files: FileStore
    resources: Resources
    public_url: str
    webhook_sender: WebhookSender
    batch_runner: BatchRunner
    storage: Storage
    speech: Speech
    secret: bytes = field(repr=False)
    knowledge: KnowledgeBases | None = None
    console: ConsoleAccess | None = None
    endpoints: Endpoints | None = None
    triggers: TriggerService = field(kw_only=True)
    subscriptions: SubscriptionService = field(kw_only=True)
    served_subscriptions: Callable[[], TriggerSubscriptions] = field(kw_only=True)
    worker: Worker | None = None
    batches: asyncio.Task[None] | None = None

    def drain(self) -> None:
        """Accepts no more runs and starts no more lines of batches; what is in progress continues."""
        self.run_service.draining = True
        if self.batches is not None:
            self.batches.cancel()

    def is_idle(self) -> bool:
        """Leaves the queued runs to other processes or the next start. True once no run is in progress."""
        if self.worker is None:
            return True
        self.worker.drain()
        return self.worker.is_idle

    async def publish(self, file: Path, name: str | None = None) -> Release:
        """Serves a workflow file; its path, or a name, identifies the app. LoadError if it cannot be loaded."""
        content = read_workflow(file)
        try:
            return await self.apps.publish(name or source_of(file), content, self.settings.workspace)
        except LoadError as error:
            raise LoadError(str(file), error.problems) from error


@asynccontextmanager
async def service(
    settings: Settings,
    environ: Mapping[str, str] = os.environ,
    *,
    memory: bool = False,
    work: bool = True,
    worker: bool = True,
    serves: bool = True,
    limited: bool = False,
    telemetry: Telemetry | None = None,
    identity: OidcIdentity | None = None,
    wait_for_database: bool = False,
) -> AsyncGenerator[Service]:
    """A running Headrace: with background work if `work`, with nothing on disk except files if `memory`, with the
    plans' limits if `limited`. Without a `worker`, runs and all other background work are left to other processes;
    unless it `serves`, runs are submitted in other processes only. `telemetry` observes it, `identity` authenticates
    bearer tokens that are not keys; both are closed with it. `wait_for_database`: until it can be opened."""
    plans = plans_of(settings.plans) if limited and settings.plans is not None else None
    async with AsyncExitStack() as stack:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)  # it contains secrets in plain text
        configured = configured_secret(settings.secret, settings.secret_file)
        if telemetry:
            stack.push_async_callback(telemetry.aclose)
        if identity:
            stack.push_async_callback(identity.aclose)
        if memory:
            from headrace.stores.memory import memory_storage

            storage = memory_storage()
            secret = configured or installation_secret(settings.data)
        else:
            storage = await sql_storage(settings, wait=wait_for_database)
            stack.push_async_callback(storage.aclose)
            checking = Periodic("checking the schema", storage.database.check_schema, SCHEMA_SECONDS)
            await stack.enter_async_context(background("schema", checking.run(SCHEMA_SECONDS)))
            secret = await database_secret(
                storage.installation, settings.data, configured, shared=settings.database_kind != "sqlite"
            )

        http = HttpClient(settings.egress_allow, user_agent=settings.user_agent)
        stack.push_async_callback(http.aclose)
        public_url = settings.public_url or f"http://{settings.host}:{settings.port}"
        files = FileStore(
            file_blobs(settings),
            storage.catalog,
            secret,
            http,
            lambda: running.public_url,
            lifetime=settings.file_url_seconds,
        )
        plugins = Plugins(
            settings.plugin_folder,
            settings.credentials,
            settings.data / "plugin-data",
            files,
            environ,
            PluginLimits(settings.plugin_idle, settings.plugin_seconds, settings.plugin_memory),
        )
        stack.push_async_callback(plugins.aclose)
        wire = None if memory else host_wire(settings.wire, secret)
        bus = LocalBus() if memory else SharedBus(storage.journal, lambda: run_service.driving, wire)
        polls = POLL_SECONDS if wire is None else WIRE_POLL_SECONDS
        limits = await stack.enter_async_context(
            model_limits(settings, environ, storage.model_slots, bus.wire, polls, telemetry)
        )
        slot = unlimited if limits is None else limits.slot
        plugin_models = PluginModels(plugins, files, slot)
        models = await stack.enter_async_context(model_client(settings, environ, files, plugin_models, limits))
        if settings.sandbox_url:
            sandbox = RemoteSandbox(settings.sandbox_url, settings.sandbox_api_key)
        else:
            packages = code_packages(settings)
            if packages is not None and work:
                await packages.install()
            sandbox = local_sandbox(settings, lambda app: apps.find(app), packages)
        stack.push_async_callback(sandbox.aclose)

        documents = DocumentReader()
        local_ids, other_ids = split_ids(settings.knowledge_ids)
        knowledge_client = remote_knowledge(settings, other_ids, environ)
        stack.push_async_callback(knowledge_client.aclose)
        knowledge: Knowledge = knowledge_client
        bases = None
        if storage.knowledge is not None:
            bases = KnowledgeBases(storage.knowledge, files, documents, models, plugin_models, settings, environ, slot)
            await stack.enter_async_context(bases.running(index=work and worker))
            knowledge = KnowledgeRouter(bases, knowledge_client, local_ids, lambda app: apps.find(app))
        speech_client = own_speech(settings, environ, slot)
        stack.push_async_callback(speech_client.aclose)
        speech = SpeechWithPlugins(speech_client, plugin_models, environ, settings.speech_provider)
        tools_config = read_config(settings.tools)
        tool_sources: dict[str, ToolSource] = {
            "builtin": BuiltinTools(
                http, sandbox, files, documents, speech, models, summary_model=settings.summary_model
            ),
            "api": CustomTools(tools_config.apis, http, files, environ),
            "mcp": McpTools(read_servers(settings.mcp_servers, environ), Egress(settings.egress_allow)),
            "plugin": PluginTools(plugins),
            STRATEGY: PluginStrategies(plugins),
        }
        tools = ToolRegistry(tool_sources, owns=BuiltinTools.PROVIDERS)
        plugins.handlers["tool"] = ToolCalls(tools)
        plugins.handlers |= ModelCalls(models, speech, plugin_models, files, settings.summary_model).handlers
        stack.push_async_callback(tools.aclose)
        history = ConversationHistory(storage.conversations, storage.journal)
        resources = Resources(models, http, sandbox, files, documents, knowledge, history, tools, settings.mail)
        if isinstance(bus, SharedBus):
            await stack.enter_async_context(background("bus", bus.polling.run()))
            if wire is not None:
                await stack.enter_async_context(background("wire", wire.run()))
        if telemetry:
            bus.observers.append(telemetry.tracker.on_records)
        environment = EngineEnvironment(storage.journal, bus, resources, settings.limits)
        apps = Apps(storage.catalog, registry(), secret)
        apps.access.identity = identity
        temporal = None
        if settings.temporal_address and not memory:
            temporal = temporal_dispatch(settings, environ, storage)
            await temporal.connection.open()
            stack.push_async_callback(temporal.aclose)
        polls = polls if wire or not serves else None
        dispatch = database_dispatch(storage, bus.wire, polls) if temporal is None else temporal
        limiter = Limiter(plans, storage.buckets) if plans is not None else None
        queue_limits = queue_limits_of(settings, storage.queue if temporal is None else storage.unstarted)
        timers = None if temporal is None else temporal.timers
        run_service = RunService(
            apps, environment, dispatch, storage, settings.max_active_requests, limiter, queue_limits, timers
        )
        tool_sources["workflow"] = WorkflowTools(run_service, tools_config.workflows, settings.workspace)
        plugins.late_handlers = lambda: plugin_handlers(run_service, files, environment, settings.workspace)
        webhook_sender = WebhookSender(
            run_service,
            storage.callbacks,
            storage.claims,
            http,
            secret,
            watch=telemetry.on_callback if telemetry else None,
            mails=form_mails(settings),
        )
        if telemetry:
            telemetry.observe_service(run_service, dispatch)
        batch_runner = BatchRunner(
            run_service, storage.batches, storage.claims, Chats(run_service, Annotations(storage.conversations).answer)
        )
        runs_worker = batches = None
        if work and worker:
            if storage.pruner is not None and settings.retention:
                retention = Retention(
                    storage.pruner, files.blobs, settings.retention, pause=0.02, claims=storage.claims
                )
                await stack.enter_async_context(background("retention", retention.run()))
            await stack.enter_async_context(background("webhooks", webhook_sender.run()))
            runs_worker = Worker(
                run_service,
                concurrency=settings.concurrency,
                notify_callback=webhook_sender.wake,
                observer=telemetry.tracker if telemetry else None,
            )
            await stack.enter_async_context(background("worker", runs_worker.run()))
            if temporal is not None:
                redispatcher = Redispatcher(run_service, storage.claims, temporal.restore)
                await stack.enter_async_context(background("redispatch", redispatcher.run()))
                bus.observers.append(FormObserver(run_service, webhook_sender.wake).on_records)
                temporal.on_dead_worker = webhook_sender.wake
            batches = await stack.enter_async_context(background("batches", batch_runner.run()))

        @cache
        def plugin_triggers() -> PluginTriggers:
            from headrace.adapters.plugins.triggers import PluginTriggers

            return PluginTriggers(plugins)

        subscriptions = SubscriptionService(
            storage.subscriptions, plugin_triggers, settings.public_url, environment.clock
        )

        @cache
        def served_subscriptions() -> TriggerSubscriptions:
            from headrace.adapters.plugins.subscriptions import PluginSubscriptions

            file, workspace = settings.plugin_triggers, settings.workspace
            return PluginSubscriptions(plugin_triggers(), subscriptions.of_hook, file, environ, workspace)

        running = Service(
            settings,
            apps,
            run_service,
            files,
            resources,
            public_url,
            webhook_sender,
            batch_runner,
            storage,
            speech,
            secret,
            bases,
            triggers=TriggerService(run_service),
            subscriptions=subscriptions,
            served_subscriptions=served_subscriptions,
        )
        running.worker, running.batches = runs_worker, batches
        if work and serves and settings.plugin_endpoints is not None:
            from headrace.adapters.plugins.endpoints import PluginEndpoints

            running.endpoints = PluginEndpoints(plugins, settings.plugin_endpoints, environ)
        if work and serves and settings.plugin_triggers is not None:
            served_subscriptions()  # a mistake in the file is to be known at the start
        yield running
