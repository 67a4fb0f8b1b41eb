"""The whole API over a store in memory, without a socket, and without workers: nothing that is asked to run does."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any, cast

from starlette.types import ASGIApp

from headrace.api.app import create_app
from headrace.api.native import NativeServices
from headrace.apps.catalog import Apps
from headrace.brokers.local import LocalBus, LocalQueue
from headrace.engine import EngineEnvironment
from headrace.node import Registry
from headrace.ports import Storage
from headrace.runs.service import RunService
from tests.engine.worlds import NOTHING
from tests.runs.service import REGISTRY, SECRET


def apps_of(store: Storage, registry: Registry = REGISTRY) -> Apps:
    """As a process that has just been started sees them."""
    return Apps(store.catalog, registry, SECRET)


def services_of(there: Any) -> NativeServices:
    """The parts of the asynchronous API that something has under their names; those it does not have are not asked."""
    names = [field.name for field in fields(NativeServices) if field.init]
    return NativeServices(**{name: getattr(there, name, None) for name in names})


def api_of(apps: Apps, store: Storage) -> ASGIApp:
    """The API of a process that serves these apps."""
    run_service = RunService(apps, EngineEnvironment(store.journal, LocalBus(), NOTHING), LocalQueue(), store)
    services = services_of(SimpleNamespace(idempotency_store=store.idempotency, webhook_sender=SimpleNamespace()))
    return create_app(apps, run_service, cast("Any", None), services=services)
