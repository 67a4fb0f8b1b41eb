"""OpenAI's chat completions: the apps that a key opens answer as models, so that every client of OpenAI's can call one.

The last user message is the query of a chat, or fills the form of a workflow; what was said before it is told to the
run as `sys.history`, unless the request goes on with a conversation that is kept here (`conversation_id`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.dify import chat_docs as operations
from headrace.api.dify.run_requests import accepted
from headrace.api.dify.upload_rules import Uploads
from headrace.api.http.errors import BadParameter, file_too_large
from headrace.api.http.json import encode
from headrace.api.http.routing import OperationList
from headrace.api.http.sse import EventStream, gone
from headrace.api.openai.open_calls import Calls, Terms
from headrace.api.openai.requests import Asked, Picture, place, read
from headrace.api.openai.responses import BEAT, Completion, chunks
from headrace.apps.catalog import Served
from headrace.conversations.messages import CHATS, COMPLETION
from headrace.errors import RequestError
from headrace.kernel.events import Record, RunId
from headrace.nodes.start import Start
from headrace.ports import App, EndUser
from headrace.runs.service import Started
from headrace.runs.submission import Submission
from headrace.values import Value

_JSON = "application/json"


class OpenAIRoutes:
    """`/v1/openai/chat/completions` and `/v1/openai/models`; `/v1/openai/v1/...` for clients that write a version."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.calls = Calls(api.run_service)

    def add_to(self, router: OperationList) -> None:
        for prefix in ("/openai", "/openai/v1"):
            add = partial(router.add_api_route, include_in_schema=prefix == "/openai")
            add(f"{prefix}/chat/completions", self.completions, methods=["POST"], **operations.COMPLETIONS)
            add(f"{prefix}/models", self.models, methods=["GET"], **operations.MODELS)
            add(f"{prefix}/models/{{model:path}}", self.model, methods=["GET"], **operations.MODEL)

    async def models(self, request: Request) -> Response:
        choices, served = await self._choices(request)
        if served is None:
            await self.api.principal(request)
        models = [_model(app, choices) for app in choices]
        return Response(encode({"object": "list", "data": models}), media_type=_JSON)

    async def model(self, request: Request) -> Response:
        choices, served = await self._choices(request)
        chosen = _chosen(request.path_params["model"], choices)
        if served is None:
            await self.api.authenticate(request, app=chosen.id)
        return Response(encode(_model(chosen, choices)), media_type=_JSON)

    async def completions(self, request: Request) -> Response:
        choices, served = await self._choices(request)
        body = await self.api.json(request)
        asked, terms = read(body), Terms.of(request, encode(body))
        chosen = _chosen(asked.model, choices)
        if served is None:
            served = await self.api.authenticate(request, app=chosen.id)
        run, known = await self.calls.run_of(served.app.id, terms)
        async with AsyncExitStack() as stack:
            if known and run is not None:
                started = await self._known(run)
            else:
                submission = await self._submission(served, asked, run)
                started = await stack.enter_async_context(self.api.run_service.open(submission, run))
            completion = Completion(started.run, started.flow, asked.model)
            # one that streams has heard from us, and is not sent again
            again = terms.key is not None or (terms.attempt is not None and not asked.streamed)
            leaving = self.calls.waiting(started.run, terms, lambda: completion.over, again=again)
            await stack.enter_async_context(leaving)
            if asked.streamed:
                told = chunks(completion, started.records, with_usage=asked.with_usage)
                return EventStream(told, self.api.options.ping_seconds, stack.pop_all(), BEAT)
            await _heard(request, completion, started.records)
        if completion.error is not None:
            raise completion.error
        return Response(encode(completion.whole()), media_type=_JSON)

    async def _known(self, run: RunId) -> Started:
        """A run that there is already, followed from its first record."""
        view = await self.api.run_service.get(run)
        if view is None or view.state.queued is None:
            raise RuntimeError(f"run {run} is gone")
        return Started(run, view.state.queued.task, self.api.run_service.follow(run), view.served.flow)

    async def _choices(self, request: Request) -> tuple[Sequence[App], Served | None]:
        """The apps that `model` may name, and the one that there is where there is no choice."""
        choices = await self.api.choices(request)
        return choices, await self.api.authenticate(request) if len(choices) == 1 else None

    async def _submission(self, served: Served, asked: Asked, run: RunId | None) -> Submission:
        app = served.app
        start = served.flow.nodes[served.flow.graph.root]
        form = start.form() if isinstance(start, Start) else ()
        chatting = app.mode in CHATS
        if chatting and not asked.text:
            raise BadParameter("The last user message has no text.", "messages")
        end_user = await self.api.end_user(app, asked.user)
        conversation = None
        if chatting and asked.conversation is not None:
            conversation = await self.api.chats.find(app.id, end_user.id, asked.conversation)
        names = {field["variable"] for entry in form for field in entry.values()}
        inputs = {**{name: each for name, each in asked.metadata.items() if name in names}, **asked.inputs}
        pictures = [await self._mapping(each, app, end_user) for each in asked.pictures]
        inputs, files = _with_pictures(pictures, form, inputs, Uploads(served.flow))
        inputs = inputs if chatting else place(asked.text, form, inputs)
        submission = await accepted(self.api, served, asked.user, inputs, files)
        system: dict[str, Value] = {}
        if asked.history and conversation is None:
            system["history"] = list(asked.history)
            if chatting:
                system["dialogue_count"] = 1 + sum(each["role"] == "user" for each in asked.history)
        submission = replace(submission, system=system)
        if chatting:
            return await self.api.chats.message(replace(submission, query=asked.text), conversation, run=run)
        return replace(submission, query=asked.text) if app.mode == COMPLETION else submission

    async def _mapping(self, picture: Picture, app: App, end_user: EndUser) -> Mapping[str, Value]:
        """A picture as a caller of Dify's API would give it; one that came with the request is stored."""
        if not picture.data:
            return {"type": "image", "transfer_method": "remote_url", "url": picture.url}
        limit = self.api.upload_limit(f".{picture.filename.rpartition('.')[2]}")
        if len(picture.data) > limit:
            raise file_too_large(limit)
        stored = await self.api.files.save(
            picture.data,
            filename=picture.filename,
            mime_type=picture.mime_type,
            transfer_method="local_file",
            app=app.id,
            owner=end_user.id,
        )
        return {"type": "image", "transfer_method": "local_file", "upload_file_id": stored.related_id}


def _with_pictures(
    pictures: Sequence[Mapping[str, Value]],
    form: Sequence[Mapping[str, Value]],
    inputs: Mapping[str, Value],
    uploads: Uploads,
) -> tuple[dict[str, Value], Sequence[Mapping[str, Value]]]:
    """(inputs, files) with the pictures in the first file fields of the form that are free; else, where the app takes
    files, beside the inputs. BadParameter where there is no place for them."""
    placed, left = dict(inputs), list(pictures)
    for entry in form:
        for kind, field in entry.items():
            if left and field["variable"] not in placed and "image" in (field.get("allowed_file_types") or ["image"]):
                if kind == "file":
                    placed[field["variable"]] = left.pop(0)
                elif kind == "file-list":
                    placed[field["variable"]], left = left, []
    if left and not uploads.on:
        raise BadParameter("This app takes no images.", "messages", "unsupported_content")
    return placed, uploads.taken(left)


def _model(app: App, choices: Sequence[App]) -> dict[str, Value]:
    alone = sum(each.name == app.name for each in choices) == 1
    id_ = app.name if alone else app.id
    return {"id": id_, "object": "model", "created": int(app.created_at), "owned_by": "headrace"}


def _chosen(model: str, choices: Sequence[App]) -> App:
    """The app of that id or name."""
    found = [app for app in choices if app.id == model] or [app for app in choices if app.name == model]
    if not found:
        told = f"opens the app '{choices[0].name}': that is its model" if len(choices) == 1 else "opens no such app"
        raise RequestError(f"The model '{model}' does not exist. This key {told}.", "model_not_found", 404)
    if len(found) > 1:
        message = f"{len(found)} apps are called '{model}': name the one that you mean by its id, as /models does."
        raise BadParameter(message, "model")
    return found[0]


async def _heard(request: Request, completion: Completion, records: AsyncIterator[Record]) -> None:
    """Waits for the run's end. ClientDisconnect where the caller leaves before."""

    async def hear() -> None:
        async for record in records:
            completion.feed(record)

    hearing, leaving = asyncio.create_task(hear()), asyncio.create_task(gone(request.receive))
    try:
        await asyncio.wait((hearing, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not hearing.done():
            hearing.cancel()
        await asyncio.gather(hearing, leaving, return_exceptions=True)
    if hearing.cancelled():
        raise ClientDisconnect
    hearing.result()
