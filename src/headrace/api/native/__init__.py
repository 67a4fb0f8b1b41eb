"""The asynchronous API: submit, poll, wait, call back, batch. A dialect of its own beside Dify's, under `/api/v1`.

Each subject has a file with a class that takes (Api, Polling) and has `add_to(router)`; `operations*` say what `/docs`
tells of it. A new subject adds one import and one line in `add_routes`, and, if it needs a part of its own, one field
in `parts.Polling` (filled in by `serving`).
"""

from __future__ import annotations

from headrace.api.auth import Api
from headrace.api.http.routing import ApiRoute, OperationList, Security, mounted
from headrace.api.native.batches import BatchRoutes
from headrace.api.native.callbacks import CallbackRoutes
from headrace.api.native.key_docs import WORKSPACE_KEY
from headrace.api.native.keys import KeyRoutes
from headrace.api.native.run_list import RunListRoutes
from headrace.api.native.runs import PolledRunRoutes
from headrace.api.native.services import Polling
from headrace.api.native.versions import VersionRoutes

__all__ = ["HEADERS", "POLLED", "PREFIXES", "Polling", "routes"]

PREFIXES = ("/api/v1", "/api")
"""Where the dialect is found; all but the first are undocumented aliases."""

POLLED = f"{PREFIXES[0]}/workflow-runs/{{workflow_run_id}}"
"""The path that is requested most."""

HEADERS = {"Headrace-API-Version": "1"}
"""Sent with every answer of the dialect, errors too."""


def routes(api: Api, parts: Polling, security: Security) -> list[ApiRoute]:
    """The routes of the dialect, below each prefix."""
    declared, keys = OperationList(), OperationList()
    PolledRunRoutes(api, parts).add_to(declared)
    RunListRoutes(api).add_to(declared)
    CallbackRoutes(api, parts).add_to(declared)
    BatchRoutes(api, parts).add_to(declared)
    VersionRoutes(api, parts).add_to(declared)
    KeyRoutes(api).add_to(keys)
    return [
        route
        for prefix in PREFIXES
        for operations, kind in ((declared, security), (keys, WORKSPACE_KEY))
        for route in mounted(prefix, operations.operations, kind, documented=prefix == PREFIXES[0])
    ]
