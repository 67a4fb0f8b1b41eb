"""The run that a request's path names."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.http.responses import json_response
from headrace.api.native.run_watch import RunStatus, RunWatcher
from headrace.api.native.schemas.runs import AcceptedRun
from headrace.apps.catalog import Release
from headrace.errors import LoadError, NotFound, RequestError
from headrace.runs.reader import RunView
from headrace.runs.service import SubmittedRun
from headrace.times import whole_seconds

RUN = "/workflow-runs/{workflow_run_id}"
_NO_RUN = "Workflow run not found"


def _not_loadable(error: object = "version 2: there is no `app` section") -> RequestError:
    message = f"The version of this run can no longer be loaded: {error}"
    return RequestError(message, "version_not_loadable", 409)


RUN_ERRORS = (NotFound(_NO_RUN), _not_loadable())


class RunFinder:
    """Finds runs, as they are now."""

    def __init__(self, api: Api) -> None:
        self._run_service = api.run_service
        self._watcher = RunWatcher(api.run_service)

    async def status(self, release: Release, name: str, wait: float = 0) -> RunStatus:
        """The status of a run of this app. NotFound for an unknown one, a malformed id, and another app's."""
        unknown = NotFound(_NO_RUN)
        try:
            run_status = await self._watcher.find(as_uuid(name, unknown), release.app.id, wait)
        except LoadError as error:
            raise _not_loadable(error) from error
        if run_status is None:
            raise unknown
        return run_status

    async def view(self, release: Release, request: Request) -> RunView:
        unknown = NotFound(_NO_RUN)
        try:
            view = await self._run_service.get(as_uuid(request.path_params["workflow_run_id"], unknown))
        except LoadError as error:
            raise _not_loadable(error) from error
        if view is None or view.release.app.id != release.app.id:
            raise unknown
        return view


def accepted(run: SubmittedRun) -> Response:
    body: AcceptedRun = {
        "task_id": run.task,
        "workflow_run_id": run.run,
        "status": "queued",
        "created_at": whole_seconds(run.at),
    }
    if run.message:
        body["conversation_id"] = run.conversation
        body["message_id"] = run.run
    return json_response(body, 202)
