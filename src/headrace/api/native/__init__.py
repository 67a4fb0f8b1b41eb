"""The asynchronous API: submit, poll, wait, call back, batch. A dialect of its own beside Dify's, under `/api/v1`.

Each subject has a file with a class that takes (Api, Polling) and has `add_to(router)`; `operations*` say what `/docs`
tells of it. A new subject adds one import and one line in `add_routes`, and, if it needs a part of its own, one field
in `parts.Polling` (filled in by `serving`).
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from headrace.api.auth import Api
from headrace.api.native.batches import BatchRoutes
from headrace.api.native.callbacks import CallbackRoutes
from headrace.api.native.keys import KeyRoutes
from headrace.api.native.run_list import RunListRoutes
from headrace.api.native.runs import PolledRunRoutes
from headrace.api.native.services import Polling
from headrace.api.native.versions import VersionRoutes

__all__ = ["HEADERS", "POLLED", "PREFIXES", "Polling", "add_routes"]

PREFIXES = ("/api/v1", "/api")
"""Where the dialect is found; all but the first are aliases that `/docs` does not tell of."""

POLLED = "/workflow-runs/{workflow_run_id}"
"""The path, after a prefix, that is asked for most."""

HEADERS = {"Headrace-API-Version": "1"}
"""Sent with every answer of the dialect, errors too."""


def add_routes(routers: Sequence[APIRouter], api: Api, parts: Polling) -> None:
    """Adds every endpoint of the dialect to each router (one a prefix)."""
    subjects = (
        PolledRunRoutes(api, parts),
        RunListRoutes(api),
        CallbackRoutes(api, parts),
        BatchRoutes(api, parts),
        VersionRoutes(api, parts),
        KeyRoutes(api),
    )
    for router in routers:
        for subject in subjects:
            subject.add_to(router)
