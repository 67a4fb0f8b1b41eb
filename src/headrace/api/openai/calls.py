"""Calls of apps as models, by either of OpenAI's APIs: which app is called, with which inputs, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from headrace.api.auth import Api
from headrace.api.dify.runs import run_submission
from headrace.api.dify.upload_rules import Uploads
from headrace.api.http.errors import BadParameter
from headrace.api.http.params import TEXT_SCHEMA, Parameter
from headrace.api.http.responses import disconnected
from headrace.api.openai.answer import Answer
from headrace.api.openai.attachments import with_files
from headrace.api.openai.open_calls import OpenCalls, RetryTerms
from headrace.api.openai.requests import RESPONSE_PREFIX, ModelCall, with_text
from headrace.apps.catalog import Release
from headrace.conversations.messages import CHATS, COMPLETION
from headrace.errors import RequestError
from headrace.kernel.events import Record, RunId
from headrace.node import Flow
from headrace.nodes.start import Start
from headrace.ports import App
from headrace.runs.service import StartedRun, Submission
from headrace.values import Value

KEEP_RUNNING = Parameter(
    "header", "Headrace-Keep-Running", "true: disconnecting does not stop the run", {"type": "boolean"}
)
KEY = Parameter("header", "Idempotency-Key", "Requests with the same key and body get one run", TEXT_SCHEMA)
NO_MODEL = RequestError("The model 'x' does not exist.", "model_not_found", 404)
_Answer = TypeVar("_Answer", bound=Answer)


class ModelCalls:
    """The calls of both APIs in this process."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._open_calls = OpenCalls(api.run_service)

    async def choices(self, request: Request) -> tuple[Sequence[App], Release | None]:
        """The apps that `model` may name, and the app itself where there is only one."""
        choices = await self.api.choices(request)
        return choices, await self.api.authenticate(request) if len(choices) == 1 else None

    async def release_of(self, request: Request, model: str, choices: Sequence[App], only: Release | None) -> Release:
        """The app that `model` names. RequestError where there is none, or several."""
        choice = app_of_model(model, choices)
        return only or await self.api.authenticate(request, app=choice.id)

    async def open(
        self,
        stack: AsyncExitStack,
        release: Release,
        call: ModelCall,
        terms: RetryTerms,
        answer_of: Callable[[RunId, Flow], _Answer],
    ) -> tuple[_Answer, AsyncGenerator[Record]]:
        """Starts a run, or finds the one of the same request; its answer, which grows as it is fed the records. The run
        is stopped if its last client closes `stack` before its end."""
        run, exists = await self._open_calls.run_of(release.app.id, terms)
        if exists and run is not None:
            started_run = await self._existing(run)
        else:
            submission = await self.submission(release, call, run)
            started_run = await stack.enter_async_context(self.api.run_service.open(submission, run))
        answer = answer_of(started_run.run, started_run.flow)
        # a request that streams has had a response, and is not sent again
        retried = terms.key is not None or (terms.attempt is not None and not call.streamed)
        waiting = self._open_calls.waiting(started_run.run, terms, lambda: answer.is_done, retried=retried)
        await stack.enter_async_context(waiting)
        return answer, started_run.records

    async def submit(self, release: Release, call: ModelCall, terms: RetryTerms) -> RunId:
        """Starts a run that no client waits for, or finds the one of the same request."""
        run, exists = await self._open_calls.run_of(release.app.id, terms)
        if exists and run is not None:
            return run
        return (await self.api.run_service.submit(await self.submission(release, call, run), run)).run

    async def _existing(self, run: RunId) -> StartedRun:
        """An existing run, followed from its first record."""
        view = await self.api.run_service.get(run)
        if view is None:
            raise RuntimeError(f"run {run} no longer exists")
        return StartedRun(run, view.summary.request.task, self.api.run_service.follow(run), view.release.flow)

    async def submission(self, release: Release, call: ModelCall, run: RunId | None) -> Submission:
        app = release.app
        if call.json_format is not None:
            call.json_format.check_app(release.flow)
        start = release.flow.nodes[release.flow.graph.root]
        form = start.form() if isinstance(start, Start) else ()
        is_chat = app.mode in CHATS
        if is_chat and not call.text:
            raise BadParameter("The last user message has no text.", call.param)
        end_user = await self.api.apps.end_user(app, call.user)
        conversation = None
        conversation_id = call.conversation
        if call.previous is not None:
            conversation_id = await self._conversation_of(call.previous, app)
        if is_chat and conversation_id is not None:
            conversation = await self.api.chats.find(app.id, end_user.id, conversation_id)
        names = {field["variable"] for entry in form for field in entry.values()}
        inputs = {**{name: text for name, text in call.metadata.items() if name in names}, **call.inputs}
        mappings = [await attachment.mapping(self.api, app, end_user) for attachment in call.attachments]
        inputs, files = with_files(mappings, form, inputs, Uploads(release.flow), call.param)
        inputs = inputs if is_chat else with_text(call.text, form, inputs)
        submission = await run_submission(self.api, release, call.user, {"inputs": inputs, "files": list(files)})
        system: dict[str, Value] = {}
        if call.history and conversation is None:
            system["history"] = list(call.history)
            if is_chat:
                system["dialogue_count"] = 1 + sum(message["role"] == "user" for message in call.history)
        submission = replace(submission, system=system, metadata=call.returned)
        if is_chat:
            return await self.api.chats.message(replace(submission, query=call.text), conversation, run=run)
        if app.mode == COMPLETION:
            return replace(submission, query=call.text)
        # of a workflow, which has no query, an input may have the text
        return replace(submission, metadata=call.returned and {**call.returned, "input": call.text})

    async def _conversation_of(self, previous: RunId, app: App) -> str:
        """The conversation that a response is part of."""
        message = await self.api.run_service.conversations.find_message(previous)
        if message is None or message.app != app.id:
            text = f"Previous response with id '{RESPONSE_PREFIX}{previous}' not found."
            raise BadParameter(text, "previous_response_id", "previous_response_not_found")
        if message.conversation is None:
            text = "This app has no conversations, so that no response can continue another."
            raise BadParameter(text, "previous_response_id", "unsupported_parameter")
        return message.conversation


def app_of_model(model: str, choices: Sequence[App]) -> App:
    """The app of that id or name."""
    matches = [app for app in choices if app.id == model] or [app for app in choices if app.name == model]
    if not matches:
        hint = f"can access only '{choices[0].name}'" if len(choices) == 1 else "cannot access such an app"
        raise RequestError(f"The model '{model}' does not exist. This key {hint}.", "model_not_found", 404)
    if len(matches) > 1:
        message = f"{len(matches)} apps are called '{model}'; use the id, as listed in /models."
        raise BadParameter(message, "model")
    return matches[0]


async def follow(request: Request, answer: Answer, records: AsyncGenerator[Record]) -> None:
    """Waits for the run's end. ClientDisconnect where the client disconnects before."""

    async def feed() -> None:
        async for record in records:
            answer.feed(record)

    feeding, leaving = asyncio.create_task(feed()), asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait((feeding, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not feeding.done():
            feeding.cancel()
        await asyncio.gather(feeding, leaving, return_exceptions=True)
    if feeding.cancelled():
        raise ClientDisconnect
    feeding.result()
