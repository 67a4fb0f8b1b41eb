"""Messages: those of a conversation, questions to ask after one, and end users' feedback."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
from headrace.api.http.json import iso
from headrace.api.http.params import maybe_id, number
from headrace.api.http.responses import json_response, success
from headrace.api.http.routing import LIMIT, TEXT_SCHEMA, USER, Operation, paging, parameter
from headrace.api.http.schema import Media, parse
from headrace.conversations.messages import CHATS
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ports import EndUser, Feedback, Message
from headrace.ports.services import Turn

_REMEMBERED = 3  # messages of the conversation that the model sees when it suggests questions
_NO_MESSAGE = "Message Not Exists."
_BAD_LIMIT = InvalidParam("limit: Input should be an integer from 1 to 100, not '1000'")
_QUESTIONS: schemas.SuggestedQuestions = {
    "result": "success",
    "data": ["What else can you do?", "Who made you?", "How are you?"],
}


class MessageRoutes:
    """`/v1/messages` and `/v1/app/feedbacks`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.messages = Messages(api.run_service)

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                "GET",
                "/messages",
                self.list_messages,
                id="listMessages",
                tag="Conversations",
                summary="List the messages of a conversation",
                description="The newest messages, or those before `first_id`; within a page the oldest comes first. A "
                "message that is being answered has its answer as far as it has come. `error` says why a message's run "
                "failed.",
                parameters=(
                    parameter("query", "conversation_id", "The id of a conversation", TEXT_SCHEMA, required=True),
                    USER,
                    parameter("query", "first_id", "Only messages before this one", TEXT_SCHEMA),
                    LIMIT,
                ),
                response=Media(schemas.MessagePage, {"limit": 20, "has_more": False, "data": [examples.PAST_MESSAGE]}),
                errors=(
                    not_chat_app(),
                    _BAD_LIMIT,
                    NotFound("Conversation Not Exists."),
                    NotFound("First Message Not Exists."),
                ),
            ),
            Operation(
                "GET",
                "/messages/{message_id}/suggested",
                self.suggested,
                id="listSuggestedQuestions",
                tag="Conversations",
                summary="Suggest questions",
                description="Up to three questions that the user may ask after a message. The model of the app's first "
                "llm node writes them. Empty where it fails, or the app has none.",
                parameters=(parameter("query", "user", "The `user` of the message", TEXT_SCHEMA, required=True),),
                response=Media(schemas.SuggestedQuestions, _QUESTIONS),
                errors=(
                    user_missing(),
                    not_chat_app(),
                    RequestError("Suggested Questions Is Disabled.", "bad_request", 400),
                    NotFound(_NO_MESSAGE),
                ),
            ),
            Operation(
                "POST",
                "/messages/{message_id}/feedbacks",
                self.give_feedback,
                id="giveFeedback",
                tag="Feedback",
                summary="Rate an answer",
                description="An end user has one rating per message: a new one replaces it, null removes it.",
                body=Media(
                    schemas.FeedbackRequest,
                    {"rating": "like", "user": examples.USER, "content": "Just what I needed."},
                ),
                response=Media(Success, {"result": "success"}),
                errors=(
                    user_missing(),
                    InvalidParam("rating cannot be None when feedback not exists"),
                    NotFound(_NO_MESSAGE),
                ),
            ),
            Operation(
                "GET",
                "/app/feedbacks",
                self.feedbacks,
                id="listFeedbacks",
                tag="Feedback",
                summary="List feedback",
                description="The ratings of all the app's answers, newest first.",
                parameters=paging(101),
                response=Media(schemas.FeedbackPage, {"data": [examples.FEEDBACK]}),
                errors=(InvalidParam("limit: Input should be an integer from 1 to 101, not '1000'"),),
            ),
        )

    # ---------------------------------------------------------------------------------------------------- messages

    async def list_messages(self, request: Request) -> Response:
        """The newest messages of a conversation, or those before `first_id`; the oldest of them comes first."""
        served, query = await self.api.authenticate(request), request.query_params
        end_user = await self.api.caller(served.app, query.get("user"))
        if served.app.mode not in CHATS:
            raise not_chat_app()
        if "conversation_id" not in query:
            raise InvalidParam("conversation_id: Field required")
        conversation, first = maybe_id(query, "conversation_id"), maybe_id(query, "first_id")
        limit = number(query, "limit", 20, 100)
        if conversation is None:
            return json_response({"limit": limit, "has_more": False, "data": []})
        conversations = self.api.run_service.conversations
        await self.api.chats.find(served.app.id, end_user.id, conversation)
        if first is not None:
            before = await conversations.find_message(first)
            if before is None or before.conversation != conversation:
                raise NotFound("First Message Not Exists.")
        messages, more = await conversations.messages(conversation, before=first, limit=limit)
        ratings = await conversations.feedback_of([message.id for message in messages], end_user.id)
        views = await asyncio.gather(*(self.messages.show(served, message) for message in reversed(messages)))
        data = [view.response(ratings.get(view.message.id)) for view in views]
        page: schemas.MessagePage = {"limit": limit, "has_more": more, "data": data}
        return json_response(page)

    async def suggested(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "run")  # it calls a model
        end_user = await self.api.end_user(served.app, user_of(request.query_params))
        if served.app.mode not in CHATS:
            raise not_chat_app()
        message = await self._message(request, end_user)
        if message.conversation is None:
            raise NotFound("Conversation Not Exists.")
        await self.api.chats.find(served.app.id, end_user.id, message.conversation)
        if not enabled(served.flow, "suggested_questions_after_answer"):
            raise RequestError("Suggested Questions Is Disabled.", "bad_request", 400)
        run_service = self.api.run_service
        older, _ = await run_service.conversations.messages(
            message.conversation, before=message.id, limit=_REMEMBERED - 1
        )
        messages = [(await self.messages.show(served, shown)).message for shown in (*reversed(older), message)]
        turns = [Turn(message.query, message.answer) for message in messages if message.answer]
        questions = await suggested(run_service.world.resources.models, served.flow, turns, end_user.session)
        response: schemas.SuggestedQuestions = {"result": "success", "data": questions}
        return json_response(response)

    # --------------------------------------------------------------------------------------------------- feedbacks

    async def give_feedback(self, request: Request) -> Response:
        """Stores the end user's rating of a message, or removes it (`rating` null)."""
        served = await self.api.authenticate(request)
        body = await self.api.json(request)
        end_user = await self.api.end_user(served.app, user_of(body))
        fields = parse(schemas.FeedbackRequest, body)
        message = await self._message(request, end_user)
        conversations, now = self.api.run_service.conversations, self.api.run_service.world.clock()
        known = (await conversations.feedback_of([message.id], end_user.id)).get(message.id)
        if (rating := fields.get("rating")) is not None:
            id_, created_at = (known.id, known.created_at) if known else (str(uuid4()), now)
            app, content = served.app.id, fields.get("content")
            await conversations.save_feedback(
                Feedback(id_, app, message.id, rating, content, end_user.id, created_at, now)
            )
        elif known is None:
            raise InvalidParam("rating cannot be None when feedback not exists")
        else:
            await conversations.remove_feedback(message.id, end_user.id)
        return success()

    async def feedbacks(self, request: Request) -> Response:
        served, query = await self.api.authenticate(request), request.query_params
        number_of_page, limit = number(query, "page", 1, 99_999_999), number(query, "limit", 20, 101)
        stored = await self.api.run_service.conversations.feedbacks(served.app.id, number_of_page, limit)
        page: schemas.FeedbackPage = {"data": [await self._feedback(feedback) for feedback in stored]}
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
