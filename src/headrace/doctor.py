"""Checks the parts of an installation as the settings have them, one by one: `headrace doctor`."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import tempfile
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from enum import StrEnum

from headrace.adapters.installation import SECRET, SHARED_SECRET, configured_secret, fingerprint, parse_secret
from headrace.adapters.sandbox import RemoteSandbox
from headrace.errors import FileStorageError, HeadraceError, StoreError
from headrace.factories import code_packages, file_blobs, local_sandbox, temporal_dispatch
from headrace.frozen import frozen
from headrace.ports import App
from headrace.settings import Settings
from headrace.stores.memory import memory_storage

_SECONDS = 60.0  # for one check
_WIRE_SECONDS = 10.0
_IN_DATABASE = frozenset({"vector index", "knowledge", "secret"})  # these may be as they should while it is away
_FREE = 1024**3  # bytes of disk
_CLOCK_WARNING, _CLOCK_FAILURE = 2.0, 60.0  # seconds


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@frozen
class Finding:
    """The state of a part; `advice` is what to do, where it is not ok."""

    part: str
    status: Status
    message: str
    advice: str = ""


Check = Callable[[Settings], Awaitable[Sequence[Finding]]]


async def examine(settings: Settings, parts: Collection[str] = ()) -> AsyncGenerator[Finding]:
    """The findings of the checks of these parts, or of all, in order; a check that cannot be completed is one, too."""
    for part, check in _CHECKS.items():
        if parts and part not in parts:
            continue
        try:
            async with asyncio.timeout(_SECONDS):
                findings = await check(settings)
        except TimeoutError:
            findings = [Finding(part, Status.FAILED, f"no result within {_SECONDS:g} s")]
        except (HeadraceError, OSError) as error:
            away = isinstance(error, StoreError) and part in _IN_DATABASE
            advice = _ADVICE.get("database" if away else part, "")
            findings = [Finding(part, Status.FAILED, _reason(error), advice)]
        for finding in findings:
            yield finding


def _reason(error: HeadraceError | OSError) -> str:
    match error:
        case FileStorageError():
            return error.reason
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)


async def _data_folder(settings: Settings) -> Sequence[Finding]:
    part, folder = "data folder", settings.data

    def work() -> int:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        return shutil.disk_usage(folder).free

    free = await asyncio.to_thread(work)
    if free < _FREE:
        message = f"{folder}: {free // 1024**2} MB are free"
        return [Finding(part, Status.WARNING, message, "Free some space, or set HEADRACE_RETENTION_DAYS.")]
    return [Finding(part, Status.OK, f"{folder} is writable")]


async def _database(settings: Settings) -> Sequence[Finding]:
    from headrace.stores.sql.diagnosis import diagnose
    from headrace.stores.sql.schema import REVISIONS
    from headrace.stores.sql.snapshot import database_status

    status = await asyncio.to_thread(database_status, settings.database, count=False)
    schema = Finding("schema", Status.OK, f"{status.newest} is the newest")
    if status.revision is None:
        schema = Finding("schema", Status.OK, "the first process that serves creates it")
    elif status.revision not in REVISIONS:
        schema = Finding("schema", Status.OK, f"{status.revision}, of a newer version that this one can work with")
    elif status.pending:
        advice = "Back up, then run `headrace db upgrade`, or start the new version, which does the same."
        schema = Finding("schema", Status.WARNING, f"{status.revision}; pending: {', '.join(status.pending)}", advice)
    if settings.database_kind == "sqlite":
        return [Finding("database", Status.OK, "SQLite, for processes on this machine"), schema]
    diagnosis = await asyncio.to_thread(diagnose, settings.database)
    version = Finding("database", Status.OK, f"PostgreSQL {diagnosis.settings['server_version']}")
    return [
        version,
        schema,
        _clock(diagnosis.clock_ahead),
        *_server_settings(diagnosis.settings, diagnosis.shares_sessions),
    ]


def _clock(ahead: float) -> Finding:
    message = f"the database's is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) < _CLOCK_WARNING:
        return Finding("clock", Status.OK, message)
    status = Status.FAILED if abs(ahead) >= _CLOCK_FAILURE else Status.WARNING
    return Finding("clock", status, message, "Synchronize the clocks of this machine and of the database (NTP).")


def _server_settings(settings: Mapping[str, str], shares_sessions: bool) -> Sequence[Finding]:
    findings: list[Finding] = []
    if shares_sessions:
        advice = "Add ?pgbouncer=true to HEADRACE_DATABASE_URL, or connect to PostgreSQL directly."
        findings.append(Finding("pooler", Status.FAILED, "it shares sessions between connections", advice))
    if settings["fsync"] != "on" or settings["synchronous_commit"] == "off":
        name = "fsync" if settings["fsync"] != "on" else "synchronous_commit"
        advice = "Set it to on: what is acknowledged may be lost when the server fails."
        findings.append(Finding("durability", Status.WARNING, f"{name} is {settings[name]}", advice))
    elif not settings["synchronous_standby_names"]:
        advice = (
            "With one server, its disk and its backups are all there is. With a standby, name it there: after a "
            "failover to an asynchronous one acknowledged runs may be missing."
        )
        findings.append(Finding("durability", Status.WARNING, "synchronous_standby_names is empty", advice))
    if settings["default_transaction_isolation"] != "read committed":
        message = f"default_transaction_isolation is {settings['default_transaction_isolation']}"
        advice = "Set `read committed` for the role: other levels make claims of several processes fail."
        findings.append(Finding("isolation", Status.FAILED, message, advice))
    return findings


async def _secret(settings: Settings) -> Sequence[Finding]:
    from headrace.stores.sql.diagnosis import diagnose
    from headrace.stores.sql.snapshot import file_of

    part, file = "secret", settings.data / SECRET
    own_secret = configured_secret(settings.secret, settings.secret_file)
    database = file_of(settings.database)
    new = database is not None and not database.is_file()
    facts: Mapping[str, str] = {} if new else (await asyncio.to_thread(diagnose, settings.database)).facts
    if own_secret is not None:
        secret, origin = own_secret, "configured"
    elif file.is_file():
        secret, origin = parse_secret(await asyncio.to_thread(file.read_text), str(file)), f"in {file}"
    elif settings.database_kind != "sqlite" and SHARED_SECRET in facts:
        secret, origin = parse_secret(facts[SHARED_SECRET], "the database"), "in the database"
    elif SECRET in facts:
        message = "the database was served with another one, which is not here"
        return [Finding(part, Status.FAILED, message, _ADVICE[part])]
    else:
        return [Finding(part, Status.OK, "the first process that serves creates it")]
    if facts.get(SECRET, fingerprint(secret)) != fingerprint(secret):
        return [Finding(part, Status.FAILED, f"the one {origin} is not the database's", _ADVICE[part])]
    return [Finding(part, Status.OK, origin)]


async def _files(settings: Settings) -> Sequence[Finding]:
    blobs, probe, data = file_blobs(settings), str(uuid.uuid4()), secrets.token_bytes(1000)
    await blobs.write(probe, data, "application/octet-stream")
    try:
        same = await blobs.read(probe) == data
    finally:
        await blobs.delete(probe)
    where = settings.files_url or str(settings.data / "files")
    if not same:
        return [Finding("files", Status.FAILED, f"{where}: what is read is not what was written", _ADVICE["files"])]
    if not settings.files_url and settings.database_kind != "sqlite":
        advice = "Other hosts do not have these files: set HEADRACE_FILES_URL where there are several."
        return [Finding("files", Status.WARNING, f"{where} is on this machine", advice)]
    return [Finding("files", Status.OK, f"{where} can be written, read and deleted")]


async def _sandbox(settings: Settings) -> Sequence[Finding]:
    async def find(app: str) -> App | None:
        return None

    if settings.sandbox_url:
        sandbox = RemoteSandbox(settings.sandbox_url, settings.sandbox_api_key)
    else:
        sandbox = local_sandbox(settings, find, code_packages(settings))
    try:
        result = await sandbox.run("python3", "def main():\n    return {'sum': 1 + 1}\n", {}, 30)
    finally:
        await sandbox.aclose()
    where = settings.sandbox_url or "code is confined on this machine"
    if result != {"sum": 2}:
        return [Finding("sandbox", Status.FAILED, f"{where}: a program returned {result}", _ADVICE["sandbox"])]
    return [Finding("sandbox", Status.OK, where)]


async def _wire(settings: Settings) -> Sequence[Finding]:
    if not settings.wire:
        if settings.database_kind == "sqlite":
            return []
        advice = "Set HEADRACE_WIRE_URL: without it, news of runs at other hosts come from the database, and later."
        return [Finding("wire", Status.WARNING, "there is none", advice)]
    from headrace.adapters.wire import probe

    try:
        async with asyncio.timeout(_WIRE_SECONDS):
            name = await probe(settings.wire)
    except TimeoutError:
        message = f"no message arrived within {_WIRE_SECONDS:g} s"
        advice = "A pooler does not pass notifications on: set HEADRACE_WIRE_URL to a direct connection."
        return [Finding("wire", Status.FAILED, message, advice)]
    return [Finding("wire", Status.OK, f"{name} delivers messages")]


async def _plugins(settings: Settings) -> Sequence[Finding]:
    from headrace.adapters.plugins.interpreter import find_interpreter

    interpreter = await asyncio.to_thread(find_interpreter, settings.plugin_python, os.environ)
    version = ".".join(map(str, interpreter.version))
    if not interpreter.runs_locks:
        advice = "Dify's plugins need Python 3.12 or 3.13: install one, or name it with HEADRACE_PLUGIN_PYTHON."
        return [Finding("plugins", Status.WARNING, f"{interpreter.path} is Python {version}", advice)]
    return [Finding("plugins", Status.OK, f"Python {version}")]


async def _temporal(settings: Settings) -> Sequence[Finding]:
    if not settings.temporal_address:
        return []
    dispatch = temporal_dispatch(settings, os.environ, memory_storage())
    backlog = await dispatch.backlog()  # it connects, and checks the namespace
    message = f"{settings.temporal_address}, {backlog.waiting} runs wait"
    return [Finding("temporal", Status.OK, f"{message}, for {backlog.oldest:.0f} s" if backlog.waiting else message)]


async def _mail(settings: Settings) -> Sequence[Finding]:
    if not settings.smtp_url:
        return []
    from headrace.adapters.mail import SmtpMailer

    await SmtpMailer(settings.smtp_url).check()
    if settings.mail.missing:
        message = f"not set: {', '.join(settings.mail.missing)}"
        return [Finding("mail", Status.WARNING, message, "No e-mail is sent until it is.")]
    return [Finding("mail", Status.OK, "the server accepts a connection")]


async def _vectors(settings: Settings) -> Sequence[Finding]:
    part, kind = "vector index", settings.vector_index
    if kind == "signs":
        return []
    if kind == "usearch":
        if importlib.util.find_spec("usearch") is None:
            return [Finding(part, Status.FAILED, "usearch is not installed", "Install headrace[usearch].")]
        return [Finding(part, Status.OK, "usearch")]
    if settings.database_kind == "sqlite":
        advice = "Set HEADRACE_DATABASE_URL to one of PostgreSQL, or HEADRACE_VECTOR_INDEX to signs."
        return [Finding(part, Status.FAILED, "pgvector needs a database on PostgreSQL", advice)]
    from headrace.stores.sql.diagnosis import diagnose

    version = (await asyncio.to_thread(diagnose, settings.database)).pgvector
    if version is None:
        advice = "Install pgvector on the server of the database, or set HEADRACE_VECTOR_INDEX to signs."
        return [Finding(part, Status.FAILED, "the server does not have pgvector", advice)]
    return [Finding(part, Status.OK, f"pgvector {version}")]


async def _knowledge(settings: Settings) -> Sequence[Finding]:
    from headrace.stores.sql.knowledge_diagnosis import knowledge_states

    part, findings = "knowledge", list[Finding]()
    bases = await asyncio.to_thread(knowledge_states, settings.database)
    variables_by_use: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for base in bases:
        if base.embedding_model:
            variables_by_use[base.embedding_provider, base.embedding_model].append(base.name)
        if base.failed:
            message = f"{base.name}: documents in error: {base.failed} of {base.documents}: {base.failure}"
            advice = "Remove the cause, then run `headrace knowledge resume`."
            findings.append(Finding(part, Status.WARNING, message, advice))
    for (provider, model), names in variables_by_use.items():
        if (reason := await _embedding_failure(settings, provider, model)) is not None:
            message = f"{', '.join(names)}: the embedding model {provider}/{model} cannot be called: {reason}"
            advice = "Set the provider's credentials (docs/models.md), and check that it can be reached from here."
            findings.append(Finding(part, Status.FAILED, message, advice))
    if bases and not findings:
        waiting, documents = sum(base.waiting for base in bases), sum(base.documents for base in bases)
        message = f"knowledge bases: {len(bases)}, documents: {documents}, being indexed: {waiting}"
        findings.append(Finding(part, Status.OK, message))
    return findings


async def _embedding_failure(settings: Settings, provider: str, model: str) -> str | None:
    """Why an embedding model cannot be called; None if it can. One of an installed plugin is not called: that would
    start the plugin."""
    from headrace.adapters.models.embeddings import EmbeddingClient
    from headrace.adapters.plugins.identifiers import plugin_of_models
    from headrace.adapters.plugins.installed import InstalledPlugins

    client = EmbeddingClient(os.environ, demo=settings.demo_model)
    try:
        if client.missing(provider) and InstalledPlugins(settings.plugin_folder).versions(plugin_of_models(provider)):
            return None
        await client.embed(["Headrace"], provider=provider, model=model)
    except HeadraceError as error:
        return str(error)
    finally:
        await client.aclose()
    return None


_CHECKS: Mapping[str, Check] = {
    "data folder": _data_folder,
    "database": _database,
    "vector index": _vectors,
    "knowledge": _knowledge,
    "secret": _secret,
    "files": _files,
    "wire": _wire,
    "sandbox": _sandbox,
    "plugins": _plugins,
    "temporal": _temporal,
    "mail": _mail,
}
_ADVICE: Mapping[str, str] = {
    "data folder": "Give this user the permission to write to it, or name another one (HEADRACE_DATA).",
    "database": "Check HEADRACE_DATABASE_URL, and that the server runs and accepts connections from here.",
    "secret": "Set HEADRACE_SECRET to the other processes' secret; if it is lost, run `headrace db adopt-secret`.",
    "files": "Check HEADRACE_FILES_URL, the AWS_* variables, and the permissions.",
    "sandbox": "See 'What code nodes may do' in docs/deployment.md, or set HEADRACE_SANDBOX_URL.",
    "plugins": "Check HEADRACE_PLUGIN_PYTHON.",
    "wire": "Check HEADRACE_WIRE_URL (HEADRACE_DATABASE_URL, if it is not set), and that the server runs and accepts "
    "connections from here.",
    "temporal": "See docs/temporal.md.",
    "mail": "Check HEADRACE_SMTP_URL.",
}
