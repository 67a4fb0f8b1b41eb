"""Messages of chat and completion apps: send one, stop its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from headrace.api import chat_operations as operations
from headrace.api.arguments import truth
from headrace.api.asking import accepted, payload, stop, streaming, tell, wants_ids
from headrace.api.auth import Api, as_uuid, user_of
from headrace.api.chat_bodies import FLOWING, BlockingReply
from headrace.api.chat_frames import ChatFrames
from headrace.api.errors import app_unavailable, not_chat_app
from headrace.api.sse import EventStream
from headrace.api.uploads import Uploads
from headrace.apps import Served
from headrace.chat import CHATS, COMPLETION, Chats
from headrace.errors import InvalidParam, RequestError
from headrace.submission import Submission
from headrace.values import Value

_SUCCESS = b'{"result": "success"}'


class _Message(NamedTuple):
    """A message as it was sent, right in its form."""

    query: str
    inputs: Mapping[str, Value]
    files: Sequence[Mapping[str, Value]]
    streamed: bool
    conversation: str | None = None
    named: bool = True
    version: str | None = None


class ChatRoutes:
    """`/v1/chat-messages` and `/v1/completion-messages`, and their stops."""

    def __init__(self, api: Api, chats: Chats) -> None:
        self.api = api
        self.chats = chats

    def add_to(self, router: APIRouter) -> None:
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
        message = _chat_message(asked)
        end_user = await self.api.end_user(served.app, user)
        if message.version is not None and mode == FLOWING:
            malformed = RequestError(f"Invalid workflow_id format: '{message.version}'. ", "bad_request", 400)
            served = await self.api.apps.version(served.app, as_uuid(message.version, malformed))
        conversation = None
        if message.conversation is not None:
            conversation = await self.chats.find(served.app.id, end_user.id, message.conversation)
        submission = await self._submission(served, user, message)
        submission = await self.chats.message(submission, conversation, named=message.named)
        return await self._answer(request, submission, streamed=message.streamed)

    async def complete(self, request: Request) -> Response:
        served, asked, user = await self._asked(request)
        if served.app.mode != COMPLETION:
            raise app_unavailable()
        message = _completion_message(asked)
        submission = await self._submission(served, user, message)
        return await self._answer(request, submission, streamed=message.streamed)

    async def _asked(self, request: Request) -> tuple[Served, Mapping[str, Value], str]:
        served = await self.api.authenticate(request)
        asked = await self.api.json(request)
        return served, asked, user_of(asked)

    async def _submission(self, served: Served, user: str, message: _Message) -> Submission:
        uploads = Uploads(served.flow)
        files = uploads.taken(message.files)
        submission = await accepted(self.api, served, user, message.inputs, files)
        uploads.check(submission.files)
        return replace(submission, query=message.query)

    async def _answer(self, request: Request, submission: Submission, *, streamed: bool) -> Response:
        """The run goes on either way, also if the caller hangs up meanwhile."""
        runtime, flow = self.api.runtime, submission.served.flow
        if streamed:
            async with AsyncExitStack() as stack:
                started = await stack.enter_async_context(runtime.open(submission))
                frames = ChatFrames(started.run, flow)
                told = tell(frames, started.records, started.task, ids=wants_ids(request))
                return EventStream(told, self.api.options.ping_seconds, stack.pop_all())
        body: bytes | None = None
        async with runtime.open(submission) as started:
            reply = BlockingReply(started.run, started.task, flow)
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


def _chat_message(asked: Mapping[str, Value]) -> _Message:
    """InvalidParam where an argument is missing or of the wrong form."""
    inputs, files = payload(asked)
    if "query" not in asked:
        raise InvalidParam("query: Field required")
    query = _text(asked, "query")
    streamed, conversation = streaming(asked), _conversation(asked.get("conversation_id"))
    named, version = truth(asked, "auto_generate_name", True), asked.get("workflow_id")
    if version is not None and not isinstance(version, str):
        raise InvalidParam("workflow_id: Input should be a valid string")
    if not query:
        raise InvalidParam("query is required")
    return _Message(query, inputs, files, streamed, conversation, named, version or None)


def _completion_message(asked: Mapping[str, Value]) -> _Message:
    inputs, files = payload(asked)
    return _Message(_text(asked, "query"), inputs, files, streaming(asked))


def _text(asked: Mapping[str, Value], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise InvalidParam(f"{name}: Input should be a valid string")
    return value.replace("\0", "")


def _conversation(value: Value) -> str | None:
    given = value.strip() if isinstance(value, str) else value
    if not given:
        return None
    malformed = InvalidParam("conversation_id: Value error, conversation_id must be a valid UUID")
    if not isinstance(given, str):
        raise malformed
    return as_uuid(given, malformed)
