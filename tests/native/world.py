"""The whole API over a store in memory, without a socket, and without workers: nothing that is asked to run does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from starlette.types import ASGIApp

from headrace.api.app import create_app
from headrace.api.native import NativeServices
from headrace.apps.catalog import Apps
from headrace.brokers import LocalBus
from headrace.dispatch import LocalDispatch
from headrace.engine import EngineEnvironment
from headrace.node import Registry
from headrace.ports import Storage
from headrace.runs.service import RunService
from tests.engine.worlds import NOTHING
from tests.runs.service import REGISTRY, SECRET


def apps_of(store: Storage, registry: Registry = REGISTRY) -> Apps:
    """As a process that has just been started sees them."""
    return Apps(store.catalog, registry, SECRET)


def api_of(apps: Apps, store: Storage) -> ASGIApp:
    """The API of a process that serves these apps."""
    environment = EngineEnvironment(store.journal, LocalBus(), NOTHING)
    run_service = RunService(apps, environment, LocalDispatch(store.leases), store)
    services = NativeServices(store.idempotency, cast("Any", SimpleNamespace()), cast("Any", None), cast("Any", None))
    return create_app(apps, run_service, cast("Any", None), services=services)
