"""Conversations of an end user, and their variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import Api, as_uuid
from headrace.api.dify import examples
from headrace.api.dify.schemas import conversations as schemas
from headrace.api.http.errors import not_chat_app, of_status
from headrace.api.http.params import maybe_id, number
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import LIMIT, TEXT_SCHEMA, USER, Operation, parameter
from headrace.api.http.schema import Media, parse
from headrace.apps.catalog import Served
from headrace.conversations.messages import CHATS, title_of
from headrace.errors import InvalidParam, NotFound
from headrace.kernel.secrets import Mask
from headrace.ports import Conversation, ConversationVariable, EndUser
from headrace.values import Value, is_of, kind, plain

_ORDERS = ("created_at", "-created_at", "updated_at", "-updated_at")
_LONGEST_NAME = 255  # as in Dify's database
_NUMBERS = frozenset({"number", "integer", "float"})
_BAD_LIMIT = InvalidParam("limit: Input should be an integer from 1 to 100, not '1000'")
_UNKNOWN = NotFound("Conversation Not Exists.")
_ONE = "/conversations/{conversation_id}"


class ConversationRoutes:
    """`/v1/conversations`."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def operations(self) -> Sequence[Operation]:
        return (
            Operation(
                "GET",
                "/conversations",
                self.list_conversations,
                id="listConversations",
                tag="Conversations",
                summary="List an end user's conversations",
                description="Those with the newest messages come first, unless `sort_by` says otherwise (a minus: the "
                "newest first).",
                parameters=(
                    USER,
                    parameter("query", "last_id", "Only conversations after this one", TEXT_SCHEMA),
                    LIMIT,
                    parameter(
                        "query", "sort_by", "The order", TEXT_SCHEMA | {"enum": list(_ORDERS), "default": "-updated_at"}
                    ),
                ),
                response=Media(
                    schemas.ConversationPage, {"limit": 20, "has_more": False, "data": [examples.CONVERSATION]}
                ),
                errors=(not_chat_app(), _BAD_LIMIT, NotFound("Last Conversation Not Exists.")),
            ),
            Operation(
                "DELETE",
                _ONE,
                self.delete,
                id="deleteConversation",
                tag="Conversations",
                summary="Delete a conversation",
                description="It is no longer found. Its runs stay in the app's log.",
                body=Media(schemas.OptionalUserRequest, {"user": examples.USER}),
                response={204: ()},
                errors=(not_chat_app(), _UNKNOWN),
            ),
            Operation(
                "POST",
                f"{_ONE}/name",
                self.rename,
                id="renameConversation",
                tag="Conversations",
                summary="Rename a conversation",
                description="To `name`; or with `auto_generate` to its first query, shortened. (Dify calls a model for "
                "a title.)",
                body=Media(schemas.RenameRequest, {"name": "hello", "user": examples.USER}),
                response=Media(schemas.Conversation, examples.CONVERSATION),
                errors=(not_chat_app(), InvalidParam("name is required when auto_generate is false"), _UNKNOWN),
            ),
            Operation(
                "GET",
                f"{_ONE}/variables",
                self.variables,
                id="listConversationVariables",
                tag="Conversations",
                summary="List a conversation's variables",
                description="With their current values as text: objects and lists as Python writes them, as in Dify.",
                parameters=(
                    USER,
                    parameter("query", "last_id", "Only variables after this one", TEXT_SCHEMA),
                    LIMIT,
                    parameter(
                        "query",
                        "variable_name",
                        "Text in the variable's name",
                        TEXT_SCHEMA | {"minLength": 1, "maxLength": 255},
                    ),
                ),
                response=Media(
                    schemas.ConversationVariablePage, {"limit": 20, "has_more": False, "data": [examples.VARIABLE]}
                ),
                errors=(not_chat_app(), _BAD_LIMIT, _UNKNOWN),
            ),
            Operation(
                "PUT",
                f"{_ONE}/variables/{{variable_id}}",
                self.assign,
                id="assignConversationVariable",
                tag="Conversations",
                summary="Change a conversation's variable",
                description="Runs that start from now on read the new value, which must be of the variable's type.",
                body=Media(schemas.VariableRequest, {"value": 1, "user": examples.USER}),
                response=Media(schemas.ConversationVariable, examples.VARIABLE),
                errors=(
                    not_chat_app(),
                    of_status(400, "Type mismatch: variable 'count' expects number, but got string type"),
                    _UNKNOWN,
                    NotFound("Conversation Variable Not Exists."),
                ),
            ),
        )

    # ----------------------------------------------------------------------------------------------- conversations

    async def list_conversations(self, request: Request) -> Response:
        served, end_user = await self._for_query(request)
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
        stored, more = await self.api.run_service.conversations.conversations(
            served.app.id, end_user.id, after=last, limit=limit, order=order
        )
        mask = Mask(served.flow.secrets)
        page: schemas.ConversationPage = {
            "limit": limit,
            "has_more": more,
            "data": [_response(conversation, mask) for conversation in stored],
        }
        return json_response(page)

    async def delete(self, request: Request) -> Response:
        """Hides the conversation; its runs stay in the app's log."""
        served, end_user, _ = await self._for_body(request)
        conversation = await self._conversation(request, served, end_user)
        now = self.api.run_service.world.clock()
        await self._save(replace(conversation, deleted=True, updated_at=now))
        return no_content()

    async def rename(self, request: Request) -> Response:
        served, end_user, body = await self._for_body(request)
        fields = parse(schemas.RenameRequest, body)
        name = fields.get("name")
        if fields.get("auto_generate"):
            conversation = await self._conversation(request, served, end_user)
            name = title_of(await self._first_query(conversation.id))
        elif name is None or not name.strip():
            raise InvalidParam("name is required when auto_generate is false")
        # as it is now: a run of it may have ended meanwhile
        conversation = await self._conversation(request, served, end_user)
        renamed = replace(conversation, name=name, updated_at=self.api.run_service.world.clock())
        await self._save(renamed)
        return json_response(_response(renamed, Mask(served.flow.secrets)))

    async def _save(self, changed: Conversation) -> None:
        """NotFound where it was deleted since it was read."""
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
            raise InvalidParam("auto_generate: the conversation has no message to be named after")
        return first.query

    # --------------------------------------------------------------------------------------------------- variables

    async def variables(self, request: Request) -> Response:
        served, end_user = await self._for_query(request)
        query = request.query_params
        last, limit, name = maybe_id(query, "last_id"), number(query, "limit", 20, 100), _variable_name(request)
        conversation = await self._conversation(request, served, end_user)
        stored = await self.api.run_service.conversations.conversation_variables(conversation.id)
        variables = [variable for variable in stored if name in variable.name.lower()]
        if last is not None:
            at = next((index for index, variable in enumerate(variables) if variable.id == last), None)
            if at is None:
                raise InvalidParam("last_id: the conversation has no such variable")
            variables = variables[at + 1 :]
        mask = Mask(served.flow.secrets)
        page: schemas.ConversationVariablePage = {
            "limit": limit,
            "has_more": len(variables) > limit,
            "data": [_variable(variable, mask) for variable in variables[:limit]],
        }
        return json_response(page)

    async def assign(self, request: Request) -> Response:
        """Gives a variable a value of its type."""
        served, end_user, body = await self._for_body(request)
        value = parse(schemas.VariableRequest, body)["value"]
        conversation = await self._conversation(request, served, end_user)
        conversations = self.api.run_service.conversations
        unknown = NotFound("Conversation Variable Not Exists.")
        id_ = as_uuid(request.path_params["variable_id"], unknown)
        stored = await conversations.conversation_variables(conversation.id)
        variable = next((variable for variable in stored if variable.id == id_), None)
        if variable is None:
            raise unknown
        if not is_of(value, variable.type):
            expected = _type_name(variable)
            message = f"Type mismatch: variable '{variable.name}' expects {expected}, but got {kind(value)} type"
            raise of_status(400, message)
        changed = replace(variable, value=value, updated_at=self.api.run_service.world.clock())
        await conversations.save_conversation_variable(changed)
        return json_response(_variable(changed, Mask(served.flow.secrets)))

    # ----------------------------------------------------------------------------------------------------- requests

    async def _for_query(self, request: Request) -> tuple[Served, EndUser]:
        """The app of a request, and the end user that its query names."""
        return await self._for(await self.api.authenticate(request), request.query_params.get("user"))

    async def _for_body(self, request: Request) -> tuple[Served, EndUser, Mapping[str, Value]]:
        """The app of a request, the end user that its body names, and the body."""
        served = await self.api.authenticate(request)
        body = await self.api.json(request)
        return *await self._for(served, body.get("user")), body

    async def _for(self, served: Served, user: Value) -> tuple[Served, EndUser]:
        end_user = await self.api.caller(served.app, user)
        if served.app.mode not in CHATS:
            raise not_chat_app()
        return served, end_user

    async def _conversation(self, request: Request, served: Served, end_user: EndUser) -> Conversation:
        id_ = as_uuid(request.path_params["conversation_id"], NotFound("Conversation Not Exists."))
        return await self.api.chats.find(served.app.id, end_user.id, id_)


def _response(conversation: Conversation, mask: Mask) -> schemas.Conversation:
    return {
        "id": conversation.id,
        "name": mask.text(conversation.name),
        "inputs": mask.value(plain(dict(conversation.inputs))),
        "status": "normal",
        "introduction": mask.text(conversation.introduction),
        "created_at": int(conversation.created_at),
        "updated_at": int(conversation.updated_at),
    }


def _variable(variable: ConversationVariable, mask: Mask) -> schemas.ConversationVariable:
    value = mask.value(plain(variable.value))
    return {
        "id": variable.id,
        "name": variable.name,
        "value_type": _type_name(variable),
        "value": None if value is None else str(value),  # as Python writes it: so does Dify
        "description": variable.description,
        "created_at": int(variable.created_at),
        "updated_at": int(variable.updated_at),
    }


def _type_name(variable: ConversationVariable) -> str:
    return "number" if variable.type in _NUMBERS else variable.type


def _variable_name(request: Request) -> str:
    """The text that the names of the variables should contain, in lower case."""
    name = request.query_params.get("variable_name")
    if name is None:
        return ""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise InvalidParam(
            "variable_name: up to 255 letters, numbers, hyphens (-), underscores (_) and periods (.) are accepted"
        )
    return name.lower()
