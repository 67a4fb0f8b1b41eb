"""A run again: what failed in it, its inputs, or from one of its nodes on."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.http.errors import of_status
from headrace.api.http.request_body import parse
from headrace.api.http.routing import Operation, Routes
from headrace.api.middleware.request_context import CALLER
from headrace.api.native.idempotency import KEY_ERRORS, KEY_PARAMETER
from headrace.api.native.replay import replay
from headrace.api.native.run_finder import RUN, RUN_ERRORS, RunFinder, accepted
from headrace.api.native.schemas import runs
from headrace.api.native.schemas.common import NO_WORKFLOW, RUNS_TAG
from headrace.api.native.schemas.runs import ForkRequest, ReplayRequest
from headrace.api.native.services import NativeServices
from headrace.errors import InvalidParam, RequestError
from headrace.kernel.events import RunId
from headrace.runs.forks import retry, run_again

_RETRY_ERRORS = (
    of_status(400),
    of_status(413),
    RequestError("Only a run that failed or was stopped can be retried.", "not_retryable", 409),
    *KEY_ERRORS,
)
_REPLAY_ERRORS = (
    of_status(413),
    NO_WORKFLOW,
    InvalidParam("query is required in input form"),
    *KEY_ERRORS,
)
_FORK_ERRORS = (
    of_status(413),
    InvalidParam("node_id: 'x' is not a node of the top level"),
    RequestError("Only a run that has ended can run again.", "not_ended", 409),
    *KEY_ERRORS,
)


class RunAgainRoutes(Routes):
    """`/workflow-runs/{workflow_run_id}/retry`, `/replay` and `/fork`."""

    tag = RUNS_TAG

    def __init__(self, api: Api, services: NativeServices, finder: RunFinder) -> None:
        super().__init__(api)
        self._once = services.idempotency.once
        self._finder = finder

    @Operation(
        "POST", f"{RUN}/retry", {202: runs.ACCEPTED}, parameters=[KEY_PARAMETER], errors=[*RUN_ERRORS, *_RETRY_ERRORS]
    )
    async def retry_run(self, request: Request) -> Response:
        """Retry a run that failed or was stopped.

        Creates a new run of the same version and inputs, which takes over what the old one had finished and continues
        from there. Its `retry_of` names the old one.
        """
        release = await self.api.authenticate_run(request)
        body = await self.api.body(request)

        async def handle(run: RunId | None) -> Response:
            if body:
                self.api.object_of(body)
            run_status = await self._finder.status(release, _name(request))
            return accepted(await retry(self.api.run_service, run_status.run, run, CALLER.get()))

        return await self._once(request, release, body, handle)

    @Operation(
        "POST",
        f"{RUN}/replay",
        {202: runs.ACCEPTED},
        parameters=[KEY_PARAMETER],
        body=runs.REPLAY,
        body_required=False,
        errors=[*RUN_ERRORS, *_REPLAY_ERRORS],
    )
    async def replay_run(self, request: Request) -> Response:
        """Run a run's inputs again.

        Creates a new run with the inputs, the query and the files of the old one, or with other inputs: of the current
        version, or the one that `version` names. A message begins a new conversation. With `include=replay_of`, the
        new run names the old one.
        """
        release = await self.api.authenticate_run(request)
        body = await self.api.body(request)

        async def handle(run: RunId | None) -> Response:
            options = parse(ReplayRequest, self.api.object_of(body) if body else {})
            submission = await replay(
                self.api, release, await self._finder.status(release, _name(request)), options, run
            )
            return accepted(await self.api.run_service.submit(submission, run))

        return await self._once(request, release, body, handle)

    @Operation(
        "POST",
        f"{RUN}/fork",
        {202: runs.ACCEPTED},
        parameters=[KEY_PARAMETER],
        body=runs.FORK,
        errors=[*RUN_ERRORS, *_FORK_ERRORS],
    )
    async def fork_run(self, request: Request) -> Response:
        """Run a run again from a node on.

        Creates a new run of the same version that takes over what the old one had done before this node, and runs the
        node and all that follows again. With `outputs`, it sees other results of the nodes before. Its `retry_of` names
        the old run, which has to have ended.
        """
        release = await self.api.authenticate_run(request)
        body = await self.api.body(request)

        async def handle(run: RunId | None) -> Response:
            fork = parse(ForkRequest, self.api.object_of(body))
            old = (await self._finder.status(release, _name(request))).run
            outputs, service = fork.get("outputs") or {}, self.api.run_service
            return accepted(await run_again(service, old, fork["node_id"], outputs, run, CALLER.get()))

        return await self._once(request, release, body, handle)


def _name(request: Request) -> str:
    return request.path_params["workflow_run_id"]
