"""Apps that plugins call back for: a run of a served app, with its events or its response in Dify's format.

A run that a workflow's plugin calls is a called run like that of a workflow tool (`runs/called_runs`). An endpoint of a
plugin has no run: what it calls is a run like those of the API. A run that waits for a person is answered like a
request of the API: its events end, or its response says so; the run continues by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import cast

import orjson

from headrace.api.auth import Api
from headrace.api.dify.app_info import AppRoutes
from headrace.api.dify.chat_responses import BlockingMessage
from headrace.api.dify.message_requests import app_submission
from headrace.api.dify.run_responses import ANONYMOUS, BlockingResponse
from headrace.api.dify.runs import events_for
from headrace.apps.catalog import Release
from headrace.conversations.messages import CHATS, MESSAGES
from headrace.errors import HeadraceError, NotFound
from headrace.kernel.events import Record, RunId
from headrace.kernel.summary import RunSummary
from headrace.node import Flow
from headrace.ports.plugins import PluginCaller
from headrace.ports.services import ToolContext
from headrace.runs.called_runs import CALLED_BY, called_run, callers, follow_called
from headrace.runs.service import Submission
from headrace.values import Value

_FIELDS = ("inputs", "query", "files", "conversation_id")


class AppCalls:
    """Answers the types `app` and `fetch_app`. An app finds the apps of its own workspace only; `workspace` is that of
    a caller that is not an app."""

    def __init__(self, api: Api, workspace: str) -> None:
        self._api = api
        self._workspace = workspace

    async def app(
        self, plugin: object, request: Mapping[str, Value], caller: PluginCaller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """Runs an app. RequestError or HeadraceError if it cannot run, or, unless its events are streamed, fails."""
        context = caller.context
        release = await self._app_of(request, context)
        if release.app.mode in CHATS and not request.get("query"):
            raise HeadraceError("missing query")
        calling = await callers(self._api.run_service, context.run) if context.run else ()
        run = called_run(context.key) if context.run else None
        user = context.user or str(request.get("user") or ANONYMOUS)
        body: dict[str, Value] = {name: request[name] for name in _FIELDS if request.get(name)}
        submission = await app_submission(self._api, release, user, {"inputs": {}, **body}, run=run)
        conversation = submission.conversation  # there are many ways to write an id in a request
        if conversation and any(conversation == request_of_run.conversation for request_of_run in calling):
            raise HeadraceError("the conversation waits for the message that calls this app")
        flow, summary = submission.release.flow, RunSummary(release.flow.graph)
        async with self._records(submission, run, context) as (id_, task, records):
            answers = _streamed if request.get("response_mode") == "streaming" else _blocking
            async with aclosing(answers(id_, task, flow, _counted(records, summary))) as bodies:
                async for answer in bodies:
                    yield cast("Mapping[str, Value]", orjson.loads(answer))
        if summary.usage.tokens:
            caller.on_usage(summary.usage.wire())

    async def fetch(
        self, plugin: object, request: Mapping[str, Value], caller: PluginCaller
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """The form and features of an app, as GET /v1/parameters has them."""
        release = await self._app_of(request, caller.context)
        yield cast("Mapping[str, Value]", await AppRoutes(self._api).parameters_of(release))

    async def _app_of(self, request: Mapping[str, Value], context: ToolContext) -> Release:
        """The app that a request names by its id, or its name. NotFound if there is none."""
        apps, app_id = self._api.apps, request.get("app_id")
        workspace = self._workspace
        if context.app:
            calling = await apps.find(context.app)
            if calling is None:  # it was removed: its workspace is not known any more
                raise NotFound("app not found")
            workspace = calling.workspace
        all_apps = await apps.catalog.apps(workspace)
        matches = [app for app in all_apps if app.id == app_id] or [app for app in all_apps if app.name == app_id]
        if not matches:
            raise NotFound("app not found")
        return await apps.version(matches[0], matches[0].version)

    @asynccontextmanager
    async def _records(
        self, submission: Submission, run: RunId | None, context: ToolContext
    ) -> AsyncGenerator[tuple[RunId, str, AsyncGenerator[Record]]]:
        """(run, task, its records)."""
        run_service = self._api.run_service
        if run is None:
            async with run_service.open(submission) as started_run:
                yield started_run.run, started_run.task, started_run.records
            return
        submission = replace(submission, source=f"{CALLED_BY}{context.run}")
        result = await run_service.submit(submission, run, admitted=True)
        async with aclosing(follow_called(run_service, run, context.run, context.user)) as records:
            yield run, result.task, records


async def _counted(records: AsyncGenerator[Record], summary: RunSummary) -> AsyncGenerator[Record]:
    async for record in records:
        summary.apply(record)
        yield record


async def _streamed(run: RunId, task: str, flow: Flow, records: AsyncGenerator[Record]) -> AsyncGenerator[bytes]:
    """The events of a run."""
    events = events_for(run, flow)
    async for record in records:
        for event in events.feed(record):
            yield events.encode(event)


async def _blocking(run: RunId, task: str, flow: Flow, records: AsyncGenerator[Record]) -> AsyncGenerator[bytes]:
    """The response once a run has ended."""
    response, body = (BlockingMessage if flow.mode in MESSAGES else BlockingResponse)(run, task, flow), None
    async for record in records:
        body = response.feed(record) or body
    if response.error is not None:
        raise response.error
    if body is not None:
        yield body
