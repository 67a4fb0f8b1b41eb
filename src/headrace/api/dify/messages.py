"""Messages: those of a conversation, what to ask after one, and what end users think of them."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid, user_of
from headrace.api.dify import conversation_docs as operations
from headrace.api.dify.chat_responses import enabled
from headrace.api.dify.message_responses import Messages
from headrace.api.dify.suggested_questions import suggested
from headrace.api.http.errors import not_chat_app
from headrace.api.http.json import iso
from headrace.api.http.params import maybe_id, maybe_text, number
from headrace.api.http.responses import done, told
from headrace.api.http.routing import OperationList
from headrace.conversations.messages import CHATS
from headrace.errors import InvalidParam, NotFound, RequestError
from headrace.ports import EndUser, Feedback, Message
from headrace.ports.services import Turn
from headrace.values import Value

_REMEMBERED = 3  # messages of the conversation that a model is told to suggest questions
_RATINGS = ("like", "dislike")
_NO_MESSAGE = "Message Not Exists."


class MessageRoutes:
    """`/v1/messages` and `/v1/app/feedbacks`."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.messages = Messages(api.run_service)

    def add_to(self, router: OperationList) -> None:
        router.add_api_route("/messages", self.listed, methods=["GET"], **operations.MESSAGES)
        router.add_api_route(
            "/messages/{message_id}/suggested", self.suggested, methods=["GET"], **operations.SUGGESTED
        )
        router.add_api_route(
            "/messages/{message_id}/feedbacks", self.give_feedback, methods=["POST"], **operations.GIVE_FEEDBACK
        )
        router.add_api_route("/app/feedbacks", self.feedbacks, methods=["GET"], **operations.FEEDBACKS)

    # ---------------------------------------------------------------------------------------------------- messages

    async def listed(self, request: Request) -> Response:
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
            return told({"limit": limit, "has_more": False, "data": []})
        conversations = self.api.run_service.conversations
        await self.api.chats.find(served.app.id, end_user.id, conversation)
        if first is not None:
            before = await conversations.find_message(first)
            if before is None or before.conversation != conversation:
                raise NotFound("First Message Not Exists.")
        found, more = await conversations.messages(conversation, before=first, limit=limit)
        rated = await conversations.feedback_of([each.id for each in found], end_user.id)
        shown = await asyncio.gather(*(self.messages.show(served, each) for each in reversed(found)))
        data = [each.response(rated.get(each.message.id)) for each in shown]
        return told({"limit": limit, "has_more": more, "data": data})

    async def suggested(self, request: Request) -> Response:
        served = await self.api.authenticate(request, "run")  # it asks a model
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
        shown = [(await self.messages.show(served, each)).message for each in (*reversed(older), message)]
        turns = [Turn(each.query, each.answer) for each in shown if each.answer]
        questions = await suggested(run_service.world.resources.models, served.flow, turns, end_user.session)
        return told({"result": "success", "data": questions})

    # --------------------------------------------------------------------------------------------------- feedbacks

    async def give_feedback(self, request: Request) -> Response:
        """Takes what the end user thinks of a message, or (`rating` null) takes it back."""
        served = await self.api.authenticate(request)
        asked = await self.api.json(request)
        end_user = await self.api.end_user(served.app, user_of(asked))
        rating, content = asked.get("rating"), maybe_text(asked, "content")
        if rating is not None and rating not in _RATINGS:
            raise InvalidParam("rating: Input should be 'like' or 'dislike'")
        message = await self._message(request, end_user)
        conversations, now = self.api.run_service.conversations, self.api.run_service.world.clock()
        known = (await conversations.feedback_of([message.id], end_user.id)).get(message.id)
        if rating is not None:
            id_, since = (known.id, known.created_at) if known else (str(uuid4()), now)
            app = served.app.id
            await conversations.save_feedback(Feedback(id_, app, message.id, rating, content, end_user.id, since, now))
        elif known is None:
            raise InvalidParam("rating cannot be None when feedback not exists")
        else:
            await conversations.remove_feedback(message.id, end_user.id)
        return done()

    async def feedbacks(self, request: Request) -> Response:
        served, query = await self.api.authenticate(request), request.query_params
        page, limit = number(query, "page", 1, 99_999_999), number(query, "limit", 20, 101)
        found = await self.api.run_service.conversations.feedbacks(served.app.id, page, limit)
        return told({"data": [await self._feedback(each) for each in found]})

    async def _feedback(self, feedback: Feedback) -> dict[str, Value]:
        message = await self.api.run_service.conversations.find_message(feedback.message)
        conversation = message.conversation if message else None
        return {
            "id": feedback.id,
            "app_id": feedback.app,
            # Dify gives a message of a completion app a conversation of its own, which nobody can ask for
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
