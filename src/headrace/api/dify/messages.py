"""Messages: those of a conversation, questions to ask after one, and end users' feedback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, user_of
from headrace.api.dify import examples
from headrace.api.dify.chat_responses import enabled
from headrace.api.dify.message_responses import Messages
from headrace.api.dify.schemas import messages as schemas
from headrace.api.dify.schemas.common import Success
from headrace.api.dify.suggested_questions import suggested
from headrace.api.http.errors import not_chat_app, user_missing
from headrace.api.http.params import LIMIT, USER, paging, text, uuid
from headrace.api.http.request_body import parse
from headrace.api.http.responses import iso, json_response, success
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.conversations.messages import CHATS
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ports import EndUser, Feedback, Message
from headrace.ports.services import Turn

_REMEMBERED = 3  # messages of the conversation that the model sees when it suggests questions
_NO_MESSAGE = "Message Not Exists."
_CONVERSATION = replace(uuid("conversation_id", "The id of a conversation"), required=True)
_FIRST = uuid("first_id", "Only messages before this one")
_PAGE, _PAGE_LIMIT = paging(101)
_QUESTIONS: schemas.SuggestedQuestions = {
    "result": "success",
    "data": ["What else can you do?", "Who made you?", "How are you?"],
}


class MessageRoutes(Routes):
    """`/v1/messages` and `/v1/app/feedbacks`."""

    tag = "Conversations"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.messages = Messages(api.run_service)

    # ---------------------------------------------------------------------------------------------------- messages

    @Operation(
        "GET",
        "/messages",
        Media(schemas.MessagePage, {"limit": 20, "has_more": False, "data": [examples.PAST_MESSAGE]}),
        parameters=(_CONVERSATION, USER, _FIRST, LIMIT),
        errors=(
            not_chat_app(),
            NotFound("Conversation Not Exists."),
            NotFound("First Message Not Exists."),
        ),
    )
    async def list_messages(self, request: Request) -> Response:
        """List the messages of a conversation.

        The newest messages, or those before `first_id`; within a page the oldest comes first. A message that is being
        answered has its answer as far as it has come. `error` says why a message's run failed.
        """
        release = await self.api.authenticate(request)
        end_user = await self.api.caller(release.app, USER.of(request))
        if release.app.mode not in CHATS:
            raise not_chat_app()
        if "conversation_id" not in request.query_params:
            raise InvalidParam("conversation_id: Field required")
        conversation, first, limit = _CONVERSATION.of(request), _FIRST.of(request), LIMIT.of(request)
        if conversation is None:
            return json_response({"limit": limit, "has_more": False, "data": []})
        conversations = self.api.run_service.conversations
        await self.api.chats.find(release.app.id, end_user.id, conversation)
        if first is not None:
            before = await conversations.find_message(first)
            if before is None or before.conversation != conversation:
                raise NotFound("First Message Not Exists.")
        messages, more = await conversations.messages(conversation, before=first, limit=limit)
        ratings = await conversations.feedback_of([message.id for message in messages], end_user.id)
        tokens = await self.api.answers_forms(request)
        message_views = (self.messages.show(release, message, tokens=tokens) for message in reversed(messages))
        views = await asyncio.gather(*message_views)
        data = [view.response(ratings.get(view.message.id)) for view in views]
        page: schemas.MessagePage = {"limit": limit, "has_more": more, "data": data}
        return json_response(page)

    @Operation(
        "GET",
        "/messages/{message_id}/suggested",
        Media(schemas.SuggestedQuestions, _QUESTIONS),
        parameters=(text("user", "The `user` of the message", required=True),),
        errors=(
            user_missing(),
            not_chat_app(),
            RequestError("Suggested Questions Is Disabled.", "bad_request", 400),
            NotFound(_NO_MESSAGE),
        ),
    )
    async def list_suggested_questions(self, request: Request) -> Response:
        """Suggest questions.

        Up to three questions that the user may ask after a message. The model of the app's first llm node writes them.
        Empty where it fails, or the app has none.
        """
        release = await self.api.authenticate(request, "run")  # it calls a model
        end_user = await self.api.apps.end_user(release.app, user_of(request.query_params))
        if release.app.mode not in CHATS:
            raise not_chat_app()
        message = await self._message(request, end_user)
        if message.conversation is None:
            raise NotFound("Conversation Not Exists.")
        await self.api.chats.find(release.app.id, end_user.id, message.conversation)
        if not enabled(release.flow, "suggested_questions_after_answer"):
            raise RequestError("Suggested Questions Is Disabled.", "bad_request", 400)
        run_service = self.api.run_service
        older, _ = await run_service.conversations.messages(
            message.conversation, before=message.id, limit=_REMEMBERED - 1
        )
        messages = [(await self.messages.show(release, shown)).message for shown in (*reversed(older), message)]
        turns = [Turn(message.query, message.answer) for message in messages if message.answer]
        questions = await suggested(run_service.environment.resources.models, release.flow, turns, end_user.session)
        response: schemas.SuggestedQuestions = {"result": "success", "data": questions}
        return json_response(response)

    # --------------------------------------------------------------------------------------------------- feedbacks

    @Operation(
        "POST",
        "/messages/{message_id}/feedbacks",
        Media(Success, {"result": "success"}),
        tag="Feedback",
        body=Media(
            schemas.FeedbackRequest,
            {"rating": "like", "user": examples.USER, "content": "Just what I needed."},
        ),
        errors=(
            user_missing(),
            InvalidParam("rating cannot be None when feedback not exists"),
            NotFound(_NO_MESSAGE),
        ),
    )
    async def give_feedback(self, request: Request) -> Response:
        """Rate an answer.

        An end user has one rating per message: a new one replaces it, null removes it.
        """
        release = await self.api.authenticate(request)
        body = await self.api.json(request)
        end_user = await self.api.apps.end_user(release.app, user_of(body))
        fields = parse(schemas.FeedbackRequest, body)
        message = await self._message(request, end_user)
        conversations, now = self.api.run_service.conversations, self.api.run_service.environment.clock()
        own = (await conversations.feedback_of([message.id], end_user.id)).get(message.id)
        if (rating := fields.get("rating")) is not None:
            id_, created_at = (own.id, own.created_at) if own else (str(uuid4()), now)
            app, content = release.app.id, fields.get("content")
            await conversations.save_feedback(
                Feedback(id_, app, message.id, rating, content, end_user.id, created_at, now)
            )
        elif own is None:
            raise InvalidParam("rating cannot be None when feedback not exists")
        else:
            await conversations.remove_feedback(message.id, end_user.id)
        return success()

    @Operation(
        "GET",
        "/app/feedbacks",
        Media(schemas.FeedbackPage, {"data": [examples.FEEDBACK]}),
        tag="Feedback",
        parameters=(_PAGE, _PAGE_LIMIT),
    )
    async def list_feedbacks(self, request: Request) -> Response:
        """List feedback.

        The ratings of all the app's answers, newest first.
        """
        app = (await self.api.authenticate(request)).app
        conversations = self.api.run_service.conversations
        feedbacks = await conversations.feedbacks(app.id, _PAGE.of(request), _PAGE_LIMIT.of(request))
        page: schemas.FeedbackPage = {"data": [await self._feedback(feedback) for feedback in feedbacks]}
        return json_response(page)

    async def _feedback(self, feedback: Feedback) -> schemas.Feedback:
        message = await self.api.run_service.conversations.find_message(feedback.message)
        conversation = message.conversation if message else None
        return {
            "id": feedback.id,
            "app_id": feedback.app,
            # Dify gives a message of a completion app a conversation of its own, which cannot be requested
            "conversation_id": conversation or feedback.message,
            "message_id": feedback.message,
            "rating": feedback.rating,
            "content": feedback.content,
            "from_source": "user",
            "from_end_user_id": feedback.end_user,
            "from_account_id": None,
            "created_at": iso(feedback.created_at),
            "updated_at": iso(feedback.updated_at),
        }

    async def _message(self, request: Request, end_user: EndUser) -> Message:
        message = as_uuid(request.path_params["message_id"], NotFound(_NO_MESSAGE))
        return await self.messages.find(end_user.app, end_user.id, message)
