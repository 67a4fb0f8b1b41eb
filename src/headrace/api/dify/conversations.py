"""Conversations of an end user, and their variables."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.dify import conversation_docs as operations
from headrace.api.http.errors import not_chat_app, of_status
from headrace.api.http.params import maybe_id, maybe_text, number, truth
from headrace.api.http.responses import gone, told
from headrace.api.http.routing import OperationList
from headrace.apps.catalog import Served
from headrace.conversations.messages import CHATS, title_of
from headrace.errors import InvalidParam, NotFound
from headrace.kernel.secrets import Mask
from headrace.ports import Conversation, ConversationVariable, EndUser
from headrace.values import Value, is_of, kind, plain

_ORDERS = ("created_at", "-created_at", "updated_at", "-updated_at")
_LONGEST_NAME = 255  # as in Dify's database
_NUMBERS = frozenset({"number", "integer", "float"})


class ConversationRoutes:
    """`/v1/conversations`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def add_to(self, router: OperationList) -> None:
        one = "/conversations/{conversation_id}"
        router.add_api_route("/conversations", self.listed, methods=["GET"], **operations.CONVERSATIONS)
        router.add_api_route(one, self.delete, methods=["DELETE"], **operations.DELETE_CONVERSATION)
        router.add_api_route(f"{one}/name", self.rename, methods=["POST"], **operations.RENAME_CONVERSATION)
        router.add_api_route(f"{one}/variables", self.variables, methods=["GET"], **operations.VARIABLES)
        router.add_api_route(
            f"{one}/variables/{{variable_id}}", self.assign, methods=["PUT"], **operations.ASSIGN_VARIABLE
        )

    # ----------------------------------------------------------------------------------------------- conversations

    async def listed(self, request: Request) -> Response:
        served, end_user = await self._asked(request)
        query = request.query_params
        last, limit = maybe_id(query, "last_id"), number(query, "limit", 20, 100)
        order = query.get("sort_by", "-updated_at")
        if order not in _ORDERS:
            raise InvalidParam("sort_by: Input should be 'created_at', '-created_at', 'updated_at' or '-updated_at'")
        if last is not None:
            try:
                await self.api.chats.find(served.app.id, end_user.id, last)
            except NotFound:
                raise NotFound("Last Conversation Not Exists.") from None
        found, more = await self.api.run_service.conversations.conversations(
            served.app.id, end_user.id, after=last, limit=limit, order=order
        )
        mask = Mask(served.flow.secrets)
        return told({"limit": limit, "has_more": more, "data": [_wire(each, mask) for each in found]})

    async def delete(self, request: Request) -> Response:
        """Hides the conversation; the runs that it is made of stay in the app's log."""
        served, end_user, _ = await self._sent(request)
        found = await self._conversation(request, served, end_user)
        now = self.api.run_service.world.clock()
        await self._save(replace(found, deleted=True, updated_at=now))
        return gone()

    async def rename(self, request: Request) -> Response:
        served, end_user, asked = await self._sent(request)
        name = maybe_text(asked, "name")
        if truth(asked, "auto_generate", False):
            found = await self._conversation(request, served, end_user)
            name = title_of(await self._first_query(found.id))
        elif name is None or not name.strip():
            raise InvalidParam("name is required when auto_generate is false")
        elif len(name) > _LONGEST_NAME:
            raise InvalidParam(f"name: String should have at most {_LONGEST_NAME} characters")
        # as it is by now: a run of it may have ended meanwhile
        found = await self._conversation(request, served, end_user)
        renamed = replace(found, name=name, updated_at=self.api.run_service.world.clock())
        await self._save(renamed)
        return told(_wire(renamed, Mask(served.flow.secrets)))

    async def _save(self, changed: Conversation) -> None:
        """NotFound where it was deleted since it was looked up."""
        if not await self.api.run_service.conversations.save_conversation(changed):
            raise NotFound("Conversation Not Exists.")

    async def _first_query(self, conversation: str) -> str:
        first, more = None, True
        while more:
            page, more = await self.api.run_service.conversations.messages(
                conversation, before=first.id if first else None, limit=100
            )
            first = page[-1] if page else first
        if first is None:
            raise InvalidParam("auto_generate: the conversation has no message to be called after")
        return first.query

    # --------------------------------------------------------------------------------------------------- variables

    async def variables(self, request: Request) -> Response:
        served, end_user = await self._asked(request)
        query = request.query_params
        last, limit, wanted = maybe_id(query, "last_id"), number(query, "limit", 20, 100), _variable_name(request)
        conversation = await self._conversation(request, served, end_user)
        known = await self.api.run_service.conversations.conversation_variables(conversation.id)
        found = [each for each in known if wanted in each.name.lower()]
        if last is not None:
            at = next((index for index, each in enumerate(found) if each.id == last), None)
            if at is None:
                raise InvalidParam("last_id: the conversation has no such variable")
            found = found[at + 1 :]
        mask = Mask(served.flow.secrets)
        data = [_variable(each, mask) for each in found[:limit]]
        return told({"limit": limit, "has_more": len(found) > limit, "data": data})

    async def assign(self, request: Request) -> Response:
        """Gives a variable a value of its type."""
        served, end_user, asked = await self._sent(request)
        if "value" not in asked:
            raise InvalidParam("value: Field required")
        value = asked["value"]
        conversation = await self._conversation(request, served, end_user)
        conversations = self.api.run_service.conversations
        unknown = NotFound("Conversation Variable Not Exists.")
        wanted = as_uuid(request.path_params["variable_id"], unknown)
        known = await conversations.conversation_variables(conversation.id)
        variable = next((each for each in known if each.id == wanted), None)
        if variable is None:
            raise unknown
        if not is_of(value, variable.type):
            told_as = "number" if variable.type in _NUMBERS else variable.type
            message = f"Type mismatch: variable '{variable.name}' expects {told_as}, but got {kind(value)} type"
            raise of_status(400, message)
        changed = replace(variable, value=value, updated_at=self.api.run_service.world.clock())
        await conversations.save_conversation_variable(changed)
        return told(_variable(changed, Mask(served.flow.secrets)))

    # ------------------------------------------------------------------------------------------------------- asked

    async def _asked(self, request: Request) -> tuple[Served, EndUser]:
        return await self._who(await self.api.authenticate(request), request.query_params.get("user"))

    async def _sent(self, request: Request) -> tuple[Served, EndUser, dict[str, Value]]:
        """As `_asked`, for what comes with a body: it says who the end user is."""
        served = await self.api.authenticate(request)
        asked = await self.api.json(request)
        return *await self._who(served, asked.get("user")), asked

    async def _who(self, served: Served, user: Value) -> tuple[Served, EndUser]:
        end_user = await self.api.caller(served.app, user)
        if served.app.mode not in CHATS:
            raise not_chat_app()
        return served, end_user

    async def _conversation(self, request: Request, served: Served, end_user: EndUser) -> Conversation:
        wanted = as_uuid(request.path_params["conversation_id"], NotFound("Conversation Not Exists."))
        return await self.api.chats.find(served.app.id, end_user.id, wanted)


def _wire(conversation: Conversation, mask: Mask) -> dict[str, Value]:
    return {
        "id": conversation.id,
        "name": mask.text(conversation.name),
        "inputs": mask.value(plain(dict(conversation.inputs))),
        "status": "normal",
        "introduction": mask.text(conversation.introduction),
        "created_at": int(conversation.created_at),
        "updated_at": int(conversation.updated_at),
    }


def _variable(variable: ConversationVariable, mask: Mask) -> dict[str, Value]:
    value = mask.value(plain(variable.value))
    return {
        "id": variable.id,
        "name": variable.name,
        "value_type": "number" if variable.type in _NUMBERS else variable.type,
        "value": None if value is None else str(value),  # as Python writes it: so does Dify
        "description": variable.description,
        "created_at": int(variable.created_at),
        "updated_at": int(variable.updated_at),
    }


def _variable_name(request: Request) -> str:
    """What the names of the variables are to contain, in lower case."""
    name = request.query_params.get("variable_name")
    if name is None:
        return ""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InvalidParam(
            "variable_name: up to 255 letters, numbers, hyphens (-), underscores (_) and periods (.) are taken"
        )
    return name.lower()
