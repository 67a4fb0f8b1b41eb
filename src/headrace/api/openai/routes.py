"""OpenAI's chat completions: the apps that a key gives access to answer as models, so that every OpenAI client can call
one.

The last user message is the query of a chat, or fills the form of a workflow; earlier messages are `sys.history`,
unless the request continues a conversation that is stored here (`conversation_id`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.http.errors import BadParameter
from headrace.api.http.responses import EventStream, encode, json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, Media
from headrace.api.openai import schemas
from headrace.api.openai.answer import PING
from headrace.api.openai.calls import KEEP_RUNNING, KEY, NO_MODEL, ModelCalls, app_of_model, follow
from headrace.api.openai.completions import Completion, chunks
from headrace.api.openai.open_calls import RetryTerms
from headrace.api.openai.requests import read_completion, with_usage
from headrace.ports import App

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


class OpenAIRoutes(Routes):
    """`/v1/openai/chat/completions` and `/v1/openai/models`."""

    tag = "OpenAI"

    def __init__(self, api: Api, calls: ModelCalls) -> None:
        super().__init__(api)
        self._calls = calls

    @Operation("GET", "/models", Media(schemas.ModelList, {"object": "list", "data": [_MODEL]}))
    async def list_models(self, request: Request) -> Response:
        """List the models.

        The apps that the key gives access to, by their names: one with an app's own key, several with a workspace's.
        """
        choices, release = await self._calls.choices(request)
        if release is None:
            await self.api.principal(request)
        models: schemas.ModelList = {"object": "list", "data": [_model(app, choices) for app in choices]}
        return json_response(models)

    @Operation("GET", "/models/{model:path}", Media(schemas.Model, _MODEL), errors=(NO_MODEL,))
    async def get_model(self, request: Request) -> Response:
        """Get a model.

        By the app's name or id.
        """
        choices, release = await self._calls.choices(request)
        app = app_of_model(request.path_params["model"], choices)
        if release is None:
            await self.api.authenticate(request, app=app.id)
        return json_response(_model(app, choices))

    @Operation(
        "POST",
        "/chat/completions",
        (
            Media(schemas.ChatCompletion, _COMPLETION),
            Media(schemas.ChatCompletionChunk, _STREAM, EVENT_STREAM),
        ),
        parameters=(KEEP_RUNNING, KEY),
        body=Media(
            schemas.ChatCompletionRequest,
            {"model": "echo", "messages": [{"role": "user", "content": "hello"}]},
        ),
        errors=(
            BadParameter("An app served here does not support 'tools'.", "tools", "unsupported_parameter"),
            NO_MODEL,
        ),
    )
    async def create_chat_completion(self, request: Request) -> Response:
        """Call the app as a model.

        Any app that is served, for OpenAI clients: the base URL is `/v1/openai`, the model is the app's name, the key
        is the app's or one for several apps. The last user message is the query, or fills the form's text field (the
        one called query, text or input, else the first that is required); `inputs` fills the others, and `metadata`
        those that are text. Earlier messages are `sys.history`: their text is the memory of the app's models, except
        for system messages, since the app has its own. `conversation_id` (in every response of a chat) continues a
        conversation that is stored here. `response_format` may ask for a workflow's outputs as JSON. Tools, `n` and
        `logprobs` are refused; parameters that tune a model (`temperature` ...) have no effect. A client that
        disconnects stops the run, unless the request has the header `Headrace-Keep-Running: true`; a request that
        OpenAI's clients retry continues with the first one's run.
        """
        choices, release = await self._calls.choices(request)
        body = await self.api.json(request)
        call, terms = read_completion(body), RetryTerms.of(request, encode(body))
        release = await self._calls.release_of(request, call.model, choices, release)
        async with AsyncExitStack() as stack:
            completion, records = await self._calls.open(
                stack, release, call, terms, lambda run, flow: Completion(run, flow, call.model, call.json_format)
            )
            if call.streamed:
                stream = chunks(completion, records, with_usage=with_usage(body))
                return EventStream(stream, self.api.options.ping_seconds, stack.pop_all(), PING)
            await follow(request, completion, records)
        if completion.error is not None:
            raise completion.error
        return json_response(completion.whole())


def _model(app: App, choices: Sequence[App]) -> schemas.Model:
    is_unique = sum(choice.name == app.name for choice in choices) == 1
    id_ = app.name if is_unique else app.id
    return {"id": id_, "object": "model", "created": int(app.created_at), "owned_by": "headrace"}
