"""OpenAI's chat completions: the apps that a key gives access to answer as models, so that every OpenAI client can call
one.

The last user message is the query of a chat, or fills the form of a workflow; earlier messages are `sys.history`,
unless the request continues a conversation that is stored here (`conversation_id`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.dify.run_requests import run_submission
from headrace.api.dify.upload_rules import Uploads
from headrace.api.http.errors import BadParameter, file_too_large
from headrace.api.http.json import encode
from headrace.api.http.params import TEXT_SCHEMA, Parameter
from headrace.api.http.responses import json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, Media
from headrace.api.http.sse import EventStream, disconnected
from headrace.api.openai import schemas
from headrace.api.openai.open_calls import OpenCalls, RetryTerms
from headrace.api.openai.requests import CompletionCall, Picture, read, with_text
from headrace.api.openai.responses import PING, Completion, chunks
from headrace.apps.catalog import Served
from headrace.conversations.messages import CHATS, COMPLETION
from headrace.errors import RequestError
from headrace.kernel.events import Record, RunId
from headrace.nodes.start import Start
from headrace.ports import App, EndUser
from headrace.runs.service import StartedRun
from headrace.runs.submission import Submission
from headrace.values import Value

_ID = "chatcmpl-5ad4cb98-f0c7-4085-b384-88c403be6290"
_CREATED = 1795226714
_MODEL: schemas.Model = {"id": "echo", "object": "model", "created": _CREATED, "owned_by": "headrace"}
_COMPLETION: schemas.ChatCompletion = {
    "id": _ID,
    "object": "chat.completion",
    "created": _CREATED,
    "model": "echo",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello!", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10},
}
_STREAM = (
    f'data: {{"id":"{_ID}","object":"chat.completion.chunk","created":{_CREATED},"model":"echo",'
    '"choices":[{"index":0,"delta":{"content":"Hello!"},"logprobs":null,"finish_reason":null}]}\n\n'
    "data: [DONE]\n\n"
)
_KEEP_RUNNING = Parameter(
    "header", "Headrace-Keep-Running", "true: disconnecting does not stop the run", {"type": "boolean"}
)
_KEY = Parameter("header", "Idempotency-Key", "Requests with the same key and body get one run", TEXT_SCHEMA)
_NO_MODEL = RequestError("The model 'x' does not exist.", "model_not_found", 404)


class OpenAIRoutes(Routes):
    """`/v1/openai/chat/completions` and `/v1/openai/models`."""

    tag = "OpenAI"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self._open_calls = OpenCalls(api.run_service)

    @Operation("GET", "/models", Media(schemas.ModelList, {"object": "list", "data": [_MODEL]}))
    async def list_models(self, request: Request) -> Response:
        """List the models.

        The apps that the key gives access to, by their names: one with an app's own key, several with a workspace's.
        """
        choices, served = await self._choices(request)
        if served is None:
            await self.api.principal(request)
        models: schemas.ModelList = {"object": "list", "data": [_model(app, choices) for app in choices]}
        return json_response(models)

    @Operation("GET", "/models/{model:path}", Media(schemas.Model, _MODEL), errors=(_NO_MODEL,))
    async def get_model(self, request: Request) -> Response:
        """Get a model.

        By the app's name or id.
        """
        choices, served = await self._choices(request)
        chosen = _chosen(request.path_params["model"], choices)
        if served is None:
            await self.api.authenticate(request, app=chosen.id)
        return json_response(_model(chosen, choices))

    @Operation(
        "POST",
        "/chat/completions",
        (
            Media(schemas.ChatCompletion, _COMPLETION),
            Media(schemas.ChatCompletionChunk, _STREAM, EVENT_STREAM),
        ),
        parameters=(
            _KEEP_RUNNING,
            _KEY,
        ),
        body=Media(
            schemas.ChatCompletionRequest,
            {"model": "echo", "messages": [{"role": "user", "content": "hello"}]},
        ),
        errors=(
            BadParameter("An app served here does not support 'tools'.", "tools", "unsupported_parameter"),
            _NO_MODEL,
        ),
    )
    async def create_chat_completion(self, request: Request) -> Response:
        """Call the app as a model.

        Any app that is served, for OpenAI clients: the base URL is `/v1/openai`, the model is the app's name, the key
        is the app's or one for several apps. The last user message is the query, or fills the form's text field (the
        one called query, text or input, else the first that is required); `inputs` fills the others, and `metadata`
        those that are text. Earlier messages are `sys.history`: their text is the memory of the app's models, except
        for system messages, since the app has its own. `conversation_id` (in every response of a chat) continues a
        conversation that is stored here. Tools, `n`, `logprobs` and JSON formats are refused; parameters that tune a
        model (`temperature` ...) have no effect. A client that disconnects stops the run, unless the request has the
        header `Headrace-Keep-Running: true`; a request that OpenAI's clients retry continues with the first one's run.
        """
        choices, served = await self._choices(request)
        body = await self.api.json(request)
        call, terms = read(body), RetryTerms.of(request, encode(body))
        chosen = _chosen(call.model, choices)
        if served is None:
            served = await self.api.authenticate(request, app=chosen.id)
        run, exists = await self._open_calls.run_of(served.app.id, terms)
        async with AsyncExitStack() as stack:
            if exists and run is not None:
                started = await self._existing(run)
            else:
                submission = await self._submission(served, call, run)
                started = await stack.enter_async_context(self.api.run_service.open(submission, run))
            completion = Completion(started.run, started.flow, call.model)
            # a request that streams has had a response, and is not sent again
            retried = terms.key is not None or (terms.attempt is not None and not call.streamed)
            waiting = self._open_calls.waiting(started.run, terms, lambda: completion.is_done, retried=retried)
            await stack.enter_async_context(waiting)
            if call.streamed:
                stream = chunks(completion, started.records, with_usage=call.with_usage)
                return EventStream(stream, self.api.options.ping_seconds, stack.pop_all(), PING)
            await _follow(request, completion, started.records)
        if completion.error is not None:
            raise completion.error
        return json_response(completion.whole())

    async def _existing(self, run: RunId) -> StartedRun:
        """An existing run, followed from its first record."""
        view = await self.api.run_service.get(run)
        if view is None:
            raise RuntimeError(f"run {run} no longer exists")
        return StartedRun(run, view.summary.request.task, self.api.run_service.follow(run), view.served.flow)

    async def _choices(self, request: Request) -> tuple[Sequence[App], Served | None]:
        """The apps that `model` may name, and the app itself where there is only one."""
        choices = await self.api.choices(request)
        return choices, await self.api.authenticate(request) if len(choices) == 1 else None

    async def _submission(self, served: Served, call: CompletionCall, run: RunId | None) -> Submission:
        app = served.app
        start = served.flow.nodes[served.flow.graph.root]
        form = start.form() if isinstance(start, Start) else ()
        is_chat = app.mode in CHATS
        if is_chat and not call.text:
            raise BadParameter("The last user message has no text.", "messages")
        end_user = await self.api.apps.end_user(app, call.user)
        conversation = None
        if is_chat and call.conversation is not None:
            conversation = await self.api.chats.find(app.id, end_user.id, call.conversation)
        names = {field["variable"] for entry in form for field in entry.values()}
        inputs = {**{name: text for name, text in call.metadata.items() if name in names}, **call.inputs}
        pictures = [await self._mapping(picture, app, end_user) for picture in call.pictures]
        inputs, files = _with_pictures(pictures, form, inputs, Uploads(served.flow))
        inputs = inputs if is_chat else with_text(call.text, form, inputs)
        submission = await run_submission(self.api, served, call.user, {"inputs": inputs, "files": list(files)})
        system: dict[str, Value] = {}
        if call.history and conversation is None:
            system["history"] = list(call.history)
            if is_chat:
                system["dialogue_count"] = 1 + sum(message["role"] == "user" for message in call.history)
        submission = replace(submission, system=system)
        if is_chat:
            return await self.api.chats.message(replace(submission, query=call.text), conversation, run=run)
        return replace(submission, query=call.text) if app.mode == COMPLETION else submission

    async def _mapping(self, picture: Picture, app: App, end_user: EndUser) -> Mapping[str, Value]:
        """A picture as in requests of Dify's API; one whose bytes are in the request is stored."""
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
    files, beside the inputs. BadParameter where the app takes none."""
    placed, rest = dict(inputs), list(pictures)
    for entry in form:
        for kind, field in entry.items():
            if rest and field["variable"] not in placed and "image" in (field.get("allowed_file_types") or ["image"]):
                if kind == "file":
                    placed[field["variable"]] = rest.pop(0)
                elif kind == "file-list":
                    placed[field["variable"]], rest = rest, []
    if rest and not uploads.are_enabled:
        raise BadParameter("This app takes no images.", "messages", "unsupported_content")
    return placed, uploads.accepted(rest)


def _model(app: App, choices: Sequence[App]) -> schemas.Model:
    is_unique = sum(choice.name == app.name for choice in choices) == 1
    id_ = app.name if is_unique else app.id
    return {"id": id_, "object": "model", "created": int(app.created_at), "owned_by": "headrace"}


def _chosen(model: str, choices: Sequence[App]) -> App:
    """The app of that id or name."""
    matches = [app for app in choices if app.id == model] or [app for app in choices if app.name == model]
    if not matches:
        hint = f"can access only '{choices[0].name}'" if len(choices) == 1 else "cannot access such an app"
        raise RequestError(f"The model '{model}' does not exist. This key {hint}.", "model_not_found", 404)
    if len(matches) > 1:
        message = f"{len(matches)} apps are called '{model}'; use the id, as listed in /models."
        raise BadParameter(message, "model")
    return matches[0]


async def _follow(request: Request, completion: Completion, records: AsyncIterator[Record]) -> None:
    """Waits for the run's end. ClientDisconnect where the client disconnects before."""

    async def feed() -> None:
        async for record in records:
            completion.feed(record)

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
