"""Messages of chat and completion apps: send one, stop its answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, user_of
from headrace.api.dify import examples
from headrace.api.dify.chat_events import ChatEvents
from headrace.api.dify.chat_responses import FLOWING, BlockingMessage
from headrace.api.dify.message_requests import message_submission, with_text
from headrace.api.dify.run_requests import stop_task, stream_events, wants_ids
from headrace.api.dify.schemas.common import Success
from headrace.api.dify.schemas.message_events import MessageStreamEvent
from headrace.api.dify.schemas.messages import ChatRequest, CompletionRequest, Message, PausedMessage
from headrace.api.dify.schemas.runs import UserRequest
from headrace.api.http.errors import app_unavailable, not_chat_app, user_missing
from headrace.api.http.responses import success
from headrace.api.http.routing import IDS, Operation
from headrace.api.http.schema import EVENT_STREAM, Media, parse
from headrace.api.http.sse import EventStream
from headrace.apps.catalog import Served
from headrace.conversations.messages import CHATS, COMPLETION
from headrace.errors import NotFound, RequestError
from headrace.runs.submission import Submission

_STREAM = Media(MessageStreamEvent, examples.MESSAGE_STREAM, EVENT_STREAM)
_STOP = Media(UserRequest, {"user": examples.USER})
_STOPPED = Media(Success, {"result": "success"})


class ChatRoutes:
    """`/v1/chat-messages` and `/v1/completion-messages`, and their stops."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                "POST",
                "/chat-messages",
                self.chat,
                id="sendChatMessage",
                tag="Chat",
                summary="Send a message",
                description="The answer of a chat or chatflow. Messages of one conversation are answered one after "
                "the other. A message is a run: its id is the run's, and a stream that was cut off can be resumed "
                f"with GET /v1/workflow/{{message_id}}/events. {IDS}",
                body=Media(ChatRequest, examples.CHAT_REQUEST),
                response=(Media(Message | PausedMessage, examples.MESSAGE), _STREAM),
                errors=(
                    user_missing(),
                    not_chat_app(),
                    NotFound("Conversation Not Exists."),
                    RequestError("Headrace does not run apps of mode agent-chat with tools.", "not_implemented", 501),
                ),
            ),
            Operation(
                "POST",
                "/chat-messages/{task_id}/stop",
                self.stop_chat,
                id="stopChatMessage",
                tag="Chat",
                summary="Stop an answer",
                description="A task that is unknown or has ended is no error.",
                body=_STOP,
                response=_STOPPED,
                errors=(user_missing(), not_chat_app()),
            ),
            Operation(
                "POST",
                "/completion-messages",
                self.complete,
                id="sendCompletionMessage",
                tag="Chat",
                summary="Complete a text",
                description="The answer of a completion app.",
                body=Media(CompletionRequest, examples.COMPLETION_REQUEST),
                response=(Media(Message | PausedMessage, examples.COMPLETION), _STREAM),
                errors=(user_missing(), app_unavailable()),
            ),
            Operation(
                "POST",
                "/completion-messages/{task_id}/stop",
                self.stop_complete,
                id="stopCompletionMessage",
                tag="Chat",
                summary="Stop a completion",
                description="A task that is unknown or has ended is no error.",
                body=_STOP,
                response=_STOPPED,
                errors=(user_missing(), app_unavailable()),
            ),
        )

    # ---------------------------------------------------------------------------------------------------- messages

    async def chat(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        body = await self.api.json(request)
        user, mode = user_of(body), served.app.mode
        if mode not in CHATS:
            raise not_chat_app()
        message = with_text(parse(ChatRequest, body))
        if (version := message.get("workflow_id")) and mode == FLOWING:
            malformed = RequestError(f"Invalid workflow_id format: '{version}'. ", "bad_request", 400)
            served = await self.api.apps.version(served.app, as_uuid(version, malformed))
        submission = await message_submission(self.api, served, user, message)
        return await self._answer(request, submission, streamed=message.get("response_mode") == "streaming")

    async def complete(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        body = await self.api.json(request)
        user = user_of(body)
        if served.app.mode != COMPLETION:
            raise app_unavailable()
        message = parse(CompletionRequest, body)
        submission = await message_submission(self.api, served, user, message)
        return await self._answer(request, submission, streamed=message.get("response_mode") == "streaming")

    async def _answer(self, request: Request, submission: Submission, *, streamed: bool) -> Response:
        """The run continues either way, also if the client disconnects meanwhile."""
        run_service, flow = self.api.run_service, submission.served.flow
        if streamed:
            async with AsyncExitStack() as stack:
                started = await stack.enter_async_context(run_service.open(submission))
                events = ChatEvents(started.run, flow)
                stream = stream_events(events, started.records, started.task, ids=wants_ids(request))
                return EventStream(stream, self.api.options.ping_seconds, stack.pop_all())
        body: bytes | None = None
        async with run_service.open(submission) as started:
            response = BlockingMessage(started.run, started.task, flow)
            async for record in started.records:  # to the end: closing an unfinished iterator is expensive
                body = response.feed(record) or body
        if response.error is not None:
            raise response.error
        if body is None:
            raise RuntimeError(f"run {started.run} could not be followed to its end")
        return Response(body, media_type="application/json; charset=utf-8")

    # -------------------------------------------------------------------------------------------------------- stop

    async def stop_chat(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if served.app.mode not in CHATS:
            raise not_chat_app()
        return await self._stop(request, served, user)

    async def stop_complete(self, request: Request) -> Response:
        served = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if served.app.mode != COMPLETION:
            raise app_unavailable()
        return await self._stop(request, served, user)

    async def _stop(self, request: Request, served: Served, user: str) -> Response:
        await stop_task(self.api, served, request.path_params["task_id"], user)
        return success()
