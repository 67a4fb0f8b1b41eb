"""The check of a workflow file, and what it would change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.http.errors import of_status, problem_body
from headrace.api.http.params import UUID_SCHEMA, text
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.native.app_graph import graph_of
from headrace.api.native.schemas import apps
from headrace.api.native.schemas.apps import Comparison, Inspection
from headrace.api.native.schemas.common import NO_APP
from headrace.api.native.schemas.versions import CONTENT, FileDiff
from headrace.api.native.workflow_files import ALL_APPS, accessible_app, app_manager, inspect_file
from headrace.apps.requirements import missing_requirements
from headrace.dsl.diff import diff
from headrace.dsl.yaml_reader import read
from headrace.errors import LoadError
from headrace.node import Flow
from headrace.ports import App

_COMPARE = replace(text("compare", "An app's id: what the file would change in it"), schema=UUID_SCHEMA)


class LintRoutes(Routes):
    """`/apps/lint`."""

    tag = "Apps"

    @Operation(
        "POST",
        "/apps/lint",
        apps.INSPECTION,
        parameters=[_COMPARE],
        body=CONTENT,
        errors=[ALL_APPS, NO_APP, of_status(400), of_status(413), of_status(415)],
    )
    async def lint_app(self, request: Request) -> Response:
        """Check a workflow file.

        Its problems, and what it requires that this server does not have. Nothing is served. Needs a key for all apps.
        With `compare`, the response also has the file's graph, and what would change if it were published to that app.
        """
        principal = await app_manager(self.api, request)
        app_id = _COMPARE.of(request)
        app = None if app_id is None else await accessible_app(self.api, principal, app_id)
        flow, problems, content = await inspect_file(self.api, request)
        if flow is None:
            return json_response({"problems": [problem_body(problem) for problem in problems], "app": None})
        resources = self.api.run_service.environment.resources
        problems = [*problems, *await asyncio.to_thread(missing_requirements, flow, resources)]
        body: Inspection = {
            "problems": [problem_body(problem) for problem in problems],
            "app": {"name": flow.name, "mode": flow.mode, "nodes": sum(1 for _ in flow.graph.all_nodes())},
        }
        if app is not None:
            body["comparison"] = await self._comparison(app, content, flow)
        return json_response(body)

    async def _comparison(self, app: App, content: str, flow: Flow) -> Comparison:
        """What a file would change in an app. A current version that can no longer be loaded is compared with too, as
        far as it can be read."""
        version, is_new = await self.api.apps.preview(app, content)
        current = await self.api.apps.catalog.version(app.version)
        release = "" if current is None else current.content

        def compare() -> Comparison:
            graph = graph_of(version, flow)
            try:
                old = read(release, "the current version")
            except LoadError:
                return {"graph": graph, "diff": None, "new": is_new}
            changes = diff(old, read(content, "content"), self.api.apps.registry).to_json()
            return {"graph": graph, "diff": cast("FileDiff", cast("object", changes)), "new": is_new}

        return await asyncio.to_thread(compare)
