"""The list of an app's runs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.dify import examples
from headrace.api.dify.run_responses import workflow_log
from headrace.api.dify.runs import WITH_WORKFLOW
from headrace.api.dify.schemas.runs import WorkflowLogPage
from headrace.api.http.errors import not_workflow_app
from headrace.api.http.params import choice, integer, keyword, text, time
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.errors import InvalidParam
from headrace.ports import RunFilter

_KEYWORD = keyword("Text in the inputs, the outputs or the id")
_STATUS = choice("status", "The runs' status", ("succeeded", "failed", "stopped"), None)
_BEFORE, _AFTER = time("created_at__before", "ISO 8601"), time("created_at__after", "ISO 8601")
_SESSION = text("created_by_end_user_session_id", "The `user` of the runs")
_ACCOUNT = text("created_by_account", "Refused: there are no accounts here")
_PAGE, _LIMIT = integer("page", "Starts at 1", 1, 99_999), integer("limit", "Runs per page", 20, 100)
_LOGS: WorkflowLogPage = {"page": 1, "limit": 20, "total": 1, "has_more": False, "data": [examples.WORKFLOW_LOG]}


class RunListRoutes(Routes):
    """`/v1/workflows/logs`."""

    tag = "Runs"

    @Operation(
        "GET",
        "/workflows/logs",
        Media(WorkflowLogPage, _LOGS),
        parameters=(_KEYWORD, _STATUS, _BEFORE, _AFTER, _SESSION, _ACCOUNT, _PAGE, _LIMIT),
    )
    async def list_workflow_logs(self, request: Request) -> Response:
        """List runs.

        The app's runs, newest first.
        """
        release = await self.api.authenticate(request)
        if release.app.mode not in WITH_WORKFLOW:
            raise not_workflow_app()
        if account := _ACCOUNT.of(request):
            raise InvalidParam(f"Account not found: {account}")  # only end users make runs here
        run_filter = RunFilter(
            app=release.app.id,
            status=_STATUS.of(request),
            before=_BEFORE.of(request),
            after=_AFTER.of(request),
            session=_SESSION.of(request),
            keyword=_KEYWORD.of(request) or None,
            page=_PAGE.of(request),
            limit=_LIMIT.of(request),
        )
        total, rows = await self.api.run_service.runs.list_runs(run_filter)
        runs = [await self.api.listed(release, summary) for summary in rows]
        catalog = self.api.apps.catalog
        versions = {version: await catalog.version(version) for version in {summary.version for summary in runs}}
        page: WorkflowLogPage = {
            "page": run_filter.page,
            "limit": run_filter.limit,
            "total": total,
            "has_more": run_filter.page * run_filter.limit < total,
            "data": [workflow_log(summary, versions[summary.version]) for summary in runs],
        }
        return json_response(page)
