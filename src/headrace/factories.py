"""Single parts, made from the settings: for the composition root, and for commands that need no more than one."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.installation import FILES, configured_secret, database_secret, installation_secret
from headrace.adapters.sandbox import EgressProxy, LocalSandbox, Packages
from headrace.background import MAX_PAUSE, back_off
from headrace.dispatch import LocalDispatch, SharedDispatch
from headrace.errors import HeadraceError, LoadError, Problem, StoreError
from headrace.ports import App, Backlogs, CodeFlow, FileBlobs, ModelSlots, Storage, Wire
from headrace.ports.services import Models
from headrace.rate_limits import PlanFile
from headrace.runs.queue_limits import QueueLimits
from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.adapters.files import FileStore
    from headrace.adapters.knowledge import KnowledgeClient
    from headrace.adapters.models import PluginModels, SpeechClient
    from headrace.adapters.models.concurrency import ModelLimits
    from headrace.adapters.models.slots import Slot
    from headrace.adapters.oidc import OidcIdentity
    from headrace.adapters.plugins.backwards import Handler
    from headrace.adapters.plugins.manager import PluginManager
    from headrace.adapters.temporal import TemporalDispatch
    from headrace.adapters.wire import HostWire
    from headrace.engine import EngineEnvironment
    from headrace.runs.service import RunService
    from headrace.stores.sql import SqlStorage
    from headrace.telemetry.setup import Telemetry
    from headrace.webhooks.form_mail import FormMails

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2  # seconds before a database is tried again


async def secret_of(settings: Settings) -> bytes:
    """The installation's secret, for a command without a running service. HeadraceError if it is not the database's."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    configured = configured_secret(settings.secret, settings.secret_file)
    if settings.database_kind == "sqlite":
        return configured or installation_secret(settings.data)
    from headrace.stores.sql import SqlStorage

    storage = await SqlStorage.open(settings.database)
    try:
        return await database_secret(storage.installation, settings.data, configured, shared=True)
    finally:
        await storage.aclose()


def file_blobs(settings: Settings) -> FileBlobs:
    """Where the bytes of stored files are. HeadraceError if that is not valid, or a package is missing."""
    if not settings.files_url:
        return FileBlobStore(settings.data / FILES)
    from headrace.adapters.object_storage import ObjectStorage

    return ObjectStorage(settings.files_url)


def code_packages(settings: Settings) -> Packages | None:
    """The packages that code nodes may import; None if none are listed. HeadraceError if the file cannot be read."""
    if settings.code_packages is None:
        return None
    return Packages(settings.code_packages, settings.data / "code-packages")


def local_sandbox(
    settings: Settings, find: Callable[[str], Awaitable[App | None]], packages: Packages | None
) -> LocalSandbox:
    """The sandbox of this machine. `find` returns the app with an id."""

    async def workspace_of(app: str) -> str:
        known = await find(app)
        return known.workspace if known is not None else ""

    return LocalSandbox(
        longest=settings.code_seconds,
        packages=packages,
        egress=EgressProxy(settings.code_egress, settings.egress_allow) if settings.code_egress else None,
        workspace_of=workspace_of,
    )


def plugin_manager(
    settings: Settings, notify: Callable[[str], None], environ: Mapping[str, str] = os.environ
) -> PluginManager:
    """What the commands manage plugins with. `notify` takes what people are to know."""
    from headrace.adapters.plugins.credentials import CredentialStore
    from headrace.adapters.plugins.install import PluginInstaller
    from headrace.adapters.plugins.installed import InstalledPlugins
    from headrace.adapters.plugins.manager import PluginManager
    from headrace.adapters.plugins.marketplace import Marketplace
    from headrace.adapters.tools import BuiltinTools
    from headrace.nodes.agent.node import STRATEGY_PROVIDERS

    plugins = InstalledPlugins(settings.plugin_folder)
    keys = [Path(key) for key in settings.plugin_keys]
    installer = PluginInstaller(plugins, keys, settings.plugin_python, environ, notify)
    marketplace = Marketplace(settings.marketplace_url)
    credentials = CredentialStore(settings.credentials, environ)
    return PluginManager(plugins, installer, marketplace, BuiltinTools.PROVIDERS, STRATEGY_PROVIDERS, credentials)


def identity_of(settings: Settings) -> OidcIdentity | None:
    """The OpenID Connect issuer whose tokens are accepted; None without one. HeadraceError if the settings are not
    valid, or a package is missing."""
    if not settings.oidc_issuer:
        return None
    from headrace.adapters.oidc import OidcIdentity, OidcOptions  # takes 0.1 s to import

    return OidcIdentity(
        OidcOptions(
            issuer=settings.oidc_issuer,
            audiences=settings.oidc_audience,
            algorithms=settings.oidc_algorithms,
            permission_claims=settings.oidc_permissions_claim,
            permissions=settings.oidc_permissions,
            default_permissions=settings.oidc_default_permissions,
            workspace_claim=settings.oidc_workspace_claim,
            workspace=settings.oidc_workspace or ("" if settings.oidc_workspace_claim else settings.workspace),
            apps_claim=settings.oidc_apps_claim,
            leeway=settings.oidc_leeway,
            allow_http=settings.oidc_allow_http,
        )
    )


def code_flow_of(settings: Settings, identity: OidcIdentity | None) -> CodeFlow | None:
    """How people sign in to the console at the issuer; None where they cannot. HeadraceError if the settings are not
    valid."""
    if identity is None or not settings.oidc_client_id:
        return None
    from headrace.adapters.oidc import OidcCodeFlow

    return OidcCodeFlow(identity, settings.oidc_client_id, settings.oidc_client_secret, settings.oidc_scopes)


def plans_of(path: Path) -> PlanFile:
    """The plans of a file. LoadError if it is not valid."""
    try:
        return PlanFile(path)
    except LoadError as error:
        raise LoadError("plans", [Problem(f"HEADRACE_PLANS: {error}")]) from error


def database_dispatch(storage: Storage, wire: Wire, poll_seconds: float | None) -> LocalDispatch:
    """What brings runs to the workers of one process, or of those on one database."""
    if storage.queue is None:
        return LocalDispatch(storage.leases)
    return SharedDispatch(storage.leases, storage.queue, wire, poll_seconds)


def queue_limits_of(settings: Settings, waiting: Backlogs | None) -> QueueLimits | None:
    """The bounds of what waits; None without bounds, or where nothing is known of what waits."""
    if waiting is None or not (settings.max_queued or settings.max_queued_of_workspace):
        return None
    return QueueLimits(waiting, settings.max_queued_of_workspace, settings.max_queued)


def temporal_dispatch(settings: Settings, environ: Mapping[str, str], storage: Storage) -> TemporalDispatch:
    """Temporal as what brings runs to workers. HeadraceError if its package is not installed."""
    try:
        from headrace.adapters.temporal import TemporalDispatch, TemporalOptions
    except ImportError as error:
        message = f"Temporal needs a package that is not installed ({error}): pip install 'headrace[temporal]'"
        raise HeadraceError(message) from error
    options = TemporalOptions(
        settings.temporal_address,
        settings.temporal_namespace,
        settings.temporal_task_queue,
        settings.temporal_heartbeat,
        settings.max_seconds + 60,
    )
    return TemporalDispatch(options, environ, storage.leases, storage.claims)


def host_wire(url: str, secret: bytes) -> HostWire | None:
    """What connects this process to the others; None if they only share a database."""
    if not url:
        return None
    from headrace.adapters.wire import open_wire
    from headrace.stores.encoding import decode, encode

    return open_wire(url, secret, encode, decode)


@asynccontextmanager
async def model_client(
    settings: Settings,
    environ: Mapping[str, str],
    files: FileStore,
    plugins: PluginModels,
    limits: ModelLimits | None,
) -> AsyncGenerator[Models]:
    """The models of every provider, within limits."""
    from headrace.adapters.models import ModelClient

    async with aclosing(ModelClient(environ, files, demo=settings.demo_model, plugins=plugins)) as client:
        if limits is None:
            yield client
        else:
            from headrace.adapters.models.concurrency import LimitedModels

            yield LimitedModels(client, limits)


@asynccontextmanager
async def model_limits(
    settings: Settings,
    environ: Mapping[str, str],
    slots: ModelSlots,
    wire: Wire,
    polls: float,
    telemetry: Telemetry | None,
) -> AsyncGenerator[ModelLimits | None]:
    """The limits of the settings; None if there are none. `slots`, `wire` and `polls` are those of `ModelLimits`."""
    if not settings.model_limits:
        yield None
        return
    from headrace.adapters.models import concurrency
    from headrace.adapters.models.providers import PROVIDERS, configured

    def is_configured(name: str) -> bool:
        return name in PROVIDERS or configured(environ, name)

    async with aclosing(concurrency.ModelLimits(settings.model_limits, slots, wire, polls, is_configured)) as limits:
        if telemetry:
            telemetry.observe_model_limits(limits.limits)
        yield limits


async def sql_storage(settings: Settings, *, wait: bool) -> SqlStorage:
    """The database of the settings. StoreError if it cannot be opened; with `wait`, one that cannot be reached at
    present is tried again until it can."""
    from headrace.stores.sql import SqlStorage  # takes 0.2 s to import; a one-off run does without

    failures = 0
    while True:
        try:
            storage = await SqlStorage.open(settings.database, full_sync=settings.full_sync)
        except StoreError as error:
            if not wait or not error.transient:
                raise
            failures += 1
            level = logging.ERROR if failures == 1 else logging.DEBUG
            logger.log(level, "the database is tried again until it can be opened: %s", error)
            await asyncio.sleep(back_off(failures, _FIRST_PAUSE, MAX_PAUSE))
        else:
            if failures:
                logger.warning("the database can be opened again")
            return storage


def own_speech(settings: Settings, environ: Mapping[str, str], slot: Slot) -> SpeechClient:
    """Speech by our own driver; each call takes place within a `slot`."""
    from headrace.adapters.models import SpeechClient

    return SpeechClient(
        environ,
        provider=settings.speech_provider,
        transcription_model=settings.transcription_model,
        speech_model=settings.speech_model,
        slot=slot,
    )


def remote_knowledge(settings: Settings, ids: Sequence[str], environ: Mapping[str, str]) -> KnowledgeClient:
    """The knowledge bases of other servers. HeadraceError if a URL or `ids` is malformed."""
    from headrace.adapters.knowledge import KnowledgeClient

    return KnowledgeClient(
        dify_url=settings.dify_url,
        dify_key=settings.dify_dataset_key,
        url=settings.knowledge_url,
        key=settings.knowledge_api_key,
        ids=ids,
        environ=environ,
    )


def form_mails(settings: Settings) -> FormMails | None:
    """What sends e-mails; None unless all that it needs is set."""
    if settings.mail.missing:
        return None
    from headrace.adapters.mail import SmtpMailer
    from headrace.webhooks.form_mail import FormMails

    mailer = SmtpMailer(settings.smtp_url)
    return FormMails(mailer, settings.smtp_from, settings.public_url, settings.mail.members)


def plugin_handlers(
    run_service: RunService, files: FileStore, environment: EngineEnvironment, workspace: str
) -> Mapping[str, Handler]:
    """What plugins call back for that needs the API, or nodes."""
    from headrace.api.auth import Api, ApiOptions
    from headrace.api.dify.app_calls import AppCalls
    from headrace.nodes.plugin_calls import NodeCalls

    apps = AppCalls(Api(run_service.apps, run_service, files, ApiOptions()), workspace)
    nodes = NodeCalls(environment.resources, environment.limits)
    return {
        "app": apps.app,
        "fetch_app": apps.fetch,
        "node_parameter_extractor": nodes.extract,
        "node_question_classifier": nodes.classify,
    }
