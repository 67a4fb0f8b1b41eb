"""The asynchronous API: submit, poll, wait, call back, batch. A dialect of its own beside Dify's, under `/api/v1`.

Each subject has a class that declares its `operations`, and a module of `schemas` with their JSON.
"""

from __future__ import annotations

from headrace.api.auth import Api
from headrace.api.http.routing import ApiRoute, Security, mounted
from headrace.api.native.batches import BatchRoutes
from headrace.api.native.callbacks import CallbackRoutes
from headrace.api.native.keys import WORKSPACE_KEY, KeyRoutes
from headrace.api.native.run_list import RunListRoutes
from headrace.api.native.runs import NativeRunRoutes
from headrace.api.native.services import NativeServices
from headrace.api.native.versions import VersionRoutes

__all__ = ["HEADERS", "POLLED", "PREFIXES", "NativeServices", "routes"]

PREFIXES = ("/api/v1", "/api")
"""Where the dialect is found; all but the first are undocumented aliases."""

POLLED = f"{PREFIXES[0]}/workflow-runs/{{workflow_run_id}}"
"""The path that is requested most."""

HEADERS = {"Headrace-API-Version": "1"}
"""Sent with every answer of the dialect, errors too."""


def routes(api: Api, services: NativeServices, security: Security) -> list[ApiRoute]:
    """The routes of the dialect, below each prefix."""
    operations = [
        *NativeRunRoutes(api, services).operations(),
        *RunListRoutes(api).operations(),
        *CallbackRoutes(api, services).operations(),
        *BatchRoutes(api, services).operations(),
        *VersionRoutes(api, services).operations(),
    ]
    keys = KeyRoutes(api).operations()
    return [
        route
        for prefix in PREFIXES
        for some, kind in ((operations, security), (keys, WORKSPACE_KEY))
        for route in mounted(prefix, some, kind, documented=prefix == PREFIXES[0])
    ]
