"""Messages of chat and completion apps: send one, stop its answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, user_of
from headrace.api.dify import chat_docs as operations
from headrace.api.dify.chat_events import ChatEvents
from headrace.api.dify.chat_responses import FLOWING, BlockingMessage
from headrace.api.dify.message_requests import Message, chat_message, completion_message, message_submission
from headrace.api.dify.run_requests import stop, streaming, tell, wants_ids
from headrace.api.http.errors import app_unavailable, not_chat_app
from headrace.api.http.routing import OperationList
from headrace.api.http.sse import EventStream
from headrace.apps.catalog import Served
from headrace.conversations.messages import CHATS, COMPLETION
from headrace.errors import RequestError
from headrace.values import Value

_SUCCESS = b'{"result": "success"}'


class ChatRoutes:
    """`/v1/chat-messages` and `/v1/completion-messages`, and their stops."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/chat-messages", self.chat, methods=["POST"], **operations.CHAT)
        router.add_api_route("/chat-messages/{task_id}/stop", self.stop_chat, methods=["POST"], **operations.STOP_CHAT)
        router.add_api_route("/completion-messages", self.complete, methods=["POST"], **operations.COMPLETE)
        router.add_api_route(
            "/completion-messages/{task_id}/stop", self.stop_complete, methods=["POST"], **operations.STOP_COMPLETE
        )

    # ---------------------------------------------------------------------------------------------------- messages

    async def chat(self, request: Request) -> Response:
        served, asked, user = await self._asked(request)
        mode = served.app.mode
        if mode not in CHATS:
            raise not_chat_app()
        message = chat_message(asked)
        if message.version is not None and mode == FLOWING:
            malformed = RequestError(f"Invalid workflow_id format: '{message.version}'. ", "bad_request", 400)
            served = await self.api.apps.version(served.app, as_uuid(message.version, malformed))
        return await self._answer(request, served, user, message, streamed=streaming(asked))

    async def complete(self, request: Request) -> Response:
        served, asked, user = await self._asked(request)
        if served.app.mode != COMPLETION:
            raise app_unavailable()
        return await self._answer(request, served, user, completion_message(asked), streamed=streaming(asked))

    async def _asked(self, request: Request) -> tuple[Served, Mapping[str, Value], str]:
        served = await self.api.authenticate(request)
        asked = await self.api.json(request)
        return served, asked, user_of(asked)

    async def _answer(
        self, request: Request, served: Served, user: str, message: Message, *, streamed: bool
    ) -> Response:
        """The run goes on either way, also if the caller hangs up meanwhile."""
        submission = await message_submission(self.api, served, user, message)
        run_service, flow = self.api.run_service, submission.served.flow
        if streamed:
            async with AsyncExitStack() as stack:
                started = await stack.enter_async_context(run_service.open(submission))
                frames = ChatEvents(started.run, flow)
                told = tell(frames, started.records, started.task, ids=wants_ids(request))
                return EventStream(told, self.api.options.ping_seconds, stack.pop_all())
        body: bytes | None = None
        async with run_service.open(submission) as started:
            reply = BlockingMessage(started.run, started.task, flow)
            async for record in started.records:  # to the end: an iterator left half-way is dear to clean up
                body = reply.feed(record) or body
        if reply.error is not None:
            raise reply.error
        if body is None:
            raise RuntimeError(f"run {started.run} could not be followed to its end")
        return Response(body, media_type="application/json; charset=utf-8")

    # -------------------------------------------------------------------------------------------------------- stop

    async def stop_chat(self, request: Request) -> Response:
        served, _, user = await self._asked(request)
        if served.app.mode not in CHATS:
            raise not_chat_app()
        return await self._stop(request, served, user)

    async def stop_complete(self, request: Request) -> Response:
        served, _, user = await self._asked(request)
        if served.app.mode != COMPLETION:
            raise app_unavailable()
        return await self._stop(request, served, user)

    async def _stop(self, request: Request, served: Served, user: str) -> Response:
        await stop(self.api, served, request.path_params["task_id"], user)
        return Response(_SUCCESS, media_type="application/json")
