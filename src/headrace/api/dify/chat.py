"""Messages of chat and completion apps: send one, stop its answer."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid, user_of
from headrace.api.dify import examples
from headrace.api.dify.chat_responses import FLOWING
from headrace.api.dify.message_requests import message_submission, with_text
from headrace.api.dify.runs import run_response, stop_task
from headrace.api.dify.schemas.common import Success
from headrace.api.dify.schemas.message_events import MessageStreamEvent
from headrace.api.dify.schemas.messages import ChatRequest, CompletionRequest, Message, PausedMessage
from headrace.api.dify.schemas.runs import UserRequest
from headrace.api.http.errors import app_unavailable, not_chat_app, user_missing
from headrace.api.http.params import IDS
from headrace.api.http.request_body import parse
from headrace.api.http.responses import success
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import EVENT_STREAM, Media
from headrace.apps.catalog import Release
from headrace.conversations.messages import CHATS, COMPLETION
from headrace.errors import NotFound, RequestError

_STREAM = Media(MessageStreamEvent, examples.MESSAGE_STREAM, EVENT_STREAM)
_STOP = Media(UserRequest, {"user": examples.USER})
_STOPPED = Media(Success, {"result": "success"})


class ChatRoutes(Routes):
    """`/v1/chat-messages` and `/v1/completion-messages`, and their stops."""

    tag = "Chat"

    # ---------------------------------------------------------------------------------------------------- messages

    @Operation(
        "POST",
        "/chat-messages",
        (Media(Message | PausedMessage, examples.MESSAGE), _STREAM),
        body=Media(ChatRequest, examples.CHAT_REQUEST),
        errors=(
            user_missing(),
            not_chat_app(),
            NotFound("Conversation Not Exists."),
        ),
        note=IDS,
    )
    async def send_chat_message(self, request: Request) -> Response:
        """Send a message.

        The answer of a chat or chatflow. Messages of one conversation are answered one after the other. A message is a
        run: its id is the run's, and a stream that was cut off can be resumed with GET
        /v1/workflow/{message_id}/events.
        """
        release = await self.api.authenticate(request)
        body = await self.api.json(request)
        user, mode = user_of(body), release.app.mode
        if mode not in CHATS:
            raise not_chat_app()
        message = with_text(parse(ChatRequest, body))
        if (version := message.get("workflow_id")) and mode == FLOWING:
            malformed = RequestError(f"Invalid workflow_id format: '{version}'. ", "bad_request", 400)
            release = await self.api.apps.version(release.app, as_uuid(version, malformed))
        submission = await message_submission(self.api, release, user, message)
        return await run_response(self.api, request, submission, streamed=message.get("response_mode") == "streaming")

    @Operation(
        "POST",
        "/completion-messages",
        (Media(Message | PausedMessage, examples.COMPLETION), _STREAM),
        body=Media(CompletionRequest, examples.COMPLETION_REQUEST),
        errors=(user_missing(), app_unavailable()),
    )
    async def send_completion_message(self, request: Request) -> Response:
        """Complete a text.

        The answer of a completion app.
        """
        release = await self.api.authenticate(request)
        body = await self.api.json(request)
        user = user_of(body)
        if release.app.mode != COMPLETION:
            raise app_unavailable()
        message = parse(CompletionRequest, body)
        submission = await message_submission(self.api, release, user, message)
        return await run_response(self.api, request, submission, streamed=message.get("response_mode") == "streaming")

    # -------------------------------------------------------------------------------------------------------- stop

    @Operation("POST", "/chat-messages/{task_id}/stop", _STOPPED, body=_STOP, errors=(user_missing(), not_chat_app()))
    async def stop_chat_message(self, request: Request) -> Response:
        """Stop an answer.

        A task that is unknown or has ended is not an error.
        """
        release = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if release.app.mode not in CHATS:
            raise not_chat_app()
        return await self._stop(request, release, user)

    @Operation(
        "POST", "/completion-messages/{task_id}/stop", _STOPPED, body=_STOP, errors=(user_missing(), app_unavailable())
    )
    async def stop_completion_message(self, request: Request) -> Response:
        """Stop a completion.

        A task that is unknown or has ended is not an error.
        """
        release = await self.api.authenticate(request)
        user = user_of(await self.api.json(request))
        if release.app.mode != COMPLETION:
            raise app_unavailable()
        return await self._stop(request, release, user)

    async def _stop(self, request: Request, release: Release, user: str) -> Response:
        await stop_task(self.api, release, request.path_params["task_id"], user)
        return success()
