"""OpenAI's responses: runs of the apps that a key gives access to. A response is a run, and has its id."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api
from headrace.api.http.errors import BadParameter
from headrace.api.http.params import LIMIT, boolean, choice, integer, text
from headrace.api.http.responses import EventStream, encode, json_response
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, Media
from headrace.api.openai.answer import PING
from headrace.api.openai.calls import KEEP_RUNNING, KEY, NO_MODEL, ModelCalls, follow
from headrace.api.openai.input_items import input_items
from headrace.api.openai.open_calls import RetryTerms
from headrace.api.openai.requests import RESPONSE_PREFIX, read_response, run_of_response
from headrace.api.openai.response_objects import ResponseAnswer, events
from headrace.api.openai.response_schemas import InputItemList, ResponseObject, ResponseRequest
from headrace.conversations.messages import CHATS
from headrace.errors import RequestError
from headrace.kernel.events import RunId
from headrace.runs.reader import RunView

_ID = "5ad4cb98-f0c7-4085-b384-88c403be6290"
_RESPONSE: ResponseObject = {
    "id": f"resp_{_ID}",
    "object": "response",
    "created_at": 1795226714,
    "status": "completed",
    "background": False,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "echo",
    "output": [
        {
            "id": f"msg_{_ID}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello!", "annotations": [], "logprobs": []}],
        }
    ],
    "parallel_tool_calls": False,
    "previous_response_id": None,
    "conversation": None,
    "store": True,
    "text": {"format": {"type": "text"}},
    "tool_choice": "none",
    "tools": [],
    "usage": {
        "input_tokens": 6,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
    },
}
_STREAM = (
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":4,'
    f'"item_id":"msg_{_ID}","output_index":0,"content_index":0,"delta":"Hello!","logprobs":[]}}\n\n'
)


_ITEMS: InputItemList = {
    "object": "list",
    "data": [
        {
            "id": f"msg_{_ID}_0",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "hello"}],
        }
    ],
    "first_id": f"msg_{_ID}_0",
    "last_id": f"msg_{_ID}_0",
    "has_more": False,
}
_STREAMED = boolean("stream", "Respond with events")
_STARTING_AFTER = integer("starting_after", "The `sequence_number` of the last event received", None, 2**53, 0)
_ORDER = choice("order", "Of the items", ("asc", "desc"), "desc")
_AFTER = text("after", "The id of the last item received")


def _not_found(id_: str) -> RequestError:
    id_ = RESPONSE_PREFIX + id_.removeprefix(RESPONSE_PREFIX)[:100]
    return RequestError(f"Response with id '{id_}' not found.", "not_found", 404)


_NO_RESPONSE = _not_found(f"resp_{_ID}")


class ResponseRoutes(Routes):
    """`/v1/openai/responses`."""

    tag = "OpenAI"

    def __init__(self, api: Api, calls: ModelCalls) -> None:
        super().__init__(api)
        self._calls = calls

    @Operation(
        "POST",
        "/responses",
        (Media(ResponseObject, _RESPONSE), Media(None, _STREAM, EVENT_STREAM)),
        parameters=(KEEP_RUNNING, KEY),
        body=Media(ResponseRequest, {"model": "echo", "input": "hello"}),
        errors=(
            BadParameter("An app served here does not support 'tools'.", "tools", "unsupported_parameter"),
            NO_MODEL,
        ),
    )
    async def create_response(self, request: Request) -> Response:
        """Call the app for a response.

        As `POST /chat/completions`, in the form of OpenAI's newer API. `previous_response_id` or `conversation`
        continues a conversation. In the `background`, the run does not end with the connection, and without `stream`
        the response is returned before the run has ended.
        """
        choices, release = await self._calls.choices(request)
        body = await self.api.json(request)
        call, terms = read_response(body), RetryTerms.of(request, encode(body))
        release = await self._calls.release_of(request, call.model, choices, release)
        if call.conversation is not None and release.app.mode not in CHATS:
            raise BadParameter("This app has no conversations.", "conversation", "unsupported_parameter")
        if body.get("background"):
            if not call.streamed:
                view = await self.api.run_service.get(run := await self._calls.submit(release, call, terms))
                if view is None:
                    raise RuntimeError(f"run {run} no longer exists")
                return json_response(_fed(run, view).whole())
            terms = replace(terms, keep=True)
        async with AsyncExitStack() as stack:
            answer, records = await self._calls.open(
                stack,
                release,
                call,
                terms,
                lambda run, flow: ResponseAnswer(run, flow, call.model, call.json_format),
            )
            if call.streamed:
                return EventStream(events(answer, records), self.api.options.ping_seconds, stack.pop_all(), PING)
            await follow(request, answer, records)
        if answer.error is not None:
            raise answer.error
        return json_response(answer.whole())

    @Operation(
        "GET",
        "/responses/{response_id}",
        (Media(ResponseObject, _RESPONSE), Media(None, _STREAM, EVENT_STREAM)),
        parameters=(_STREAMED, _STARTING_AFTER),
        errors=(_NO_RESPONSE,),
    )
    async def get_response(self, request: Request) -> Response:
        """Get a response.

        Every run of an app is a response, also one that began elsewhere. As a stream, it has the events from the first
        one on, or after the one with the number `starting_after`, and those that follow until its end; disconnecting
        does not stop the run.
        """
        is_stream, after = _STREAMED.of(request), _STARTING_AFTER.of(request)
        if after is not None and not is_stream:
            raise BadParameter("'starting_after' is of a stream: it needs 'stream'.", "starting_after")
        run, view = await self._view(request)
        if not is_stream:
            return json_response(_fed(run, view).whole())
        records = self.api.run_service.follow(run)
        stream = events(ResponseAnswer.of(run, view), records, after)
        return EventStream(stream, self.api.options.ping_seconds, ping_event=PING)

    @Operation(
        "GET",
        "/responses/{response_id}/input_items",
        Media(InputItemList, _ITEMS),
        parameters=(LIMIT, _ORDER, _AFTER),
        errors=(_NO_RESPONSE,),
    )
    async def list_input_items(self, request: Request) -> Response:
        """List the input of a response.

        What its request had: the messages before (without those of a stored conversation), and the user's with its
        files. A workflow that was called otherwise than for a response has only its files.
        """
        limit, order, after = LIMIT.of(request), _ORDER.of(request), _AFTER.of(request)
        run, view = await self._view(request)
        items = input_items(run, view.summary.request)
        if order == "desc":
            items.reverse()
        ids = [item["id"] for item in items]
        if after is not None and after not in ids:
            raise BadParameter(f"There is no item '{after[:100]}'.", "after")
        first = 0 if after is None else ids.index(after) + 1
        page = items[first : first + limit]
        item_list: InputItemList = {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": first + limit < len(items),
        }
        return json_response(item_list)

    @Operation("POST", "/responses/{response_id}/cancel", Media(ResponseObject, _RESPONSE), errors=(_NO_RESPONSE,))
    async def cancel_response(self, request: Request) -> Response:
        """Cancel a response.

        Stops its run, in the background or not. A run that has ended remains as it is.
        """
        run, view = await self._view(request)
        await self.api.run_service.stop(run, "client cancelled")
        answer = ResponseAnswer.of(run, view)
        async for record in self.api.run_service.follow(run, on_pause=True):
            answer.feed(record)
        return json_response(answer.whole())

    async def _view(self, request: Request) -> tuple[RunId, RunView]:
        """The run of a response of an app that the key has access to."""
        choices, release = await self._calls.choices(request)
        id_ = request.path_params["response_id"]
        run = run_of_response(id_, _not_found(id_))
        view = await self.api.run_service.get(run)
        if view is None or view.release.app.id not in {app.id for app in choices}:
            raise _not_found(id_)
        if release is None:
            await self.api.authenticate(request, app=view.release.app.id)
        return run, view


def _fed(run: RunId, view: RunView) -> ResponseAnswer:
    answer = ResponseAnswer.of(run, view)
    for record in view.records:
        answer.feed(record)
    return answer
