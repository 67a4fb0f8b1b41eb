"""The routes of the asynchronous API."""

from __future__ import annotations

from headrace.api.auth import Api
from headrace.api.http.routing import ApiRoute, Routes, Security
from headrace.api.native import PREFIXES
from headrace.api.native.apps import AppCatalogRoutes
from headrace.api.native.batches import BatchRoutes
from headrace.api.native.callbacks import CallbackRoutes
from headrace.api.native.forms import FormListRoutes
from headrace.api.native.keys import WORKSPACE_KEY, KeyRoutes
from headrace.api.native.lint import LintRoutes
from headrace.api.native.run_again import RunAgainRoutes
from headrace.api.native.run_finder import RunFinder
from headrace.api.native.run_list import RunListRoutes
from headrace.api.native.runs import NativeRunRoutes
from headrace.api.native.services import NativeServices
from headrace.api.native.stats import StatsRoutes
from headrace.api.native.subscriptions import SubscriptionRoutes
from headrace.api.native.triggers import TriggerRoutes
from headrace.api.native.versions import VersionRoutes

FIRST = (f"{PREFIXES[0]}/workflow-runs/events", f"{PREFIXES[0]}/workflow-runs/{{workflow_run_id}}")
"""The path that is requested most, before which comes one that could be taken for it."""


def native_routes(api: Api, services: NativeServices, security: Security) -> list[ApiRoute]:
    """The routes of the dialect, below each prefix; what is polled is requested most, so it is matched first."""
    finder = RunFinder(api)
    subjects: list[tuple[Routes, Security]] = [
        (RunListRoutes(api), security),
        (NativeRunRoutes(api, services, finder), security),
        (RunAgainRoutes(api, services, finder), security),
        (FormListRoutes(api), security),
        (CallbackRoutes(api, services), security),
        (BatchRoutes(api, services), security),
        (TriggerRoutes(api, services), security),
        (SubscriptionRoutes(api, services), security),
        (VersionRoutes(api, services), security),
        (AppCatalogRoutes(api), security),
        (LintRoutes(api), security),
        (StatsRoutes(api), security),
        (KeyRoutes(api), WORKSPACE_KEY),
    ]
    routes = [
        route
        for prefix in PREFIXES
        for subject, kind in subjects
        for route in subject.mounted(prefix, kind, documented=prefix == PREFIXES[0])
    ]
    places = {path: place for place, path in enumerate(FIRST)}
    return sorted(routes, key=lambda route: places.get(route.path, len(places)))
