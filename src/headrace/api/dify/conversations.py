"""Conversations of an end user, and their variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from headrace.api.auth import as_uuid
from headrace.api.dify import examples
from headrace.api.dify.schemas import conversations as schemas
from headrace.api.http.errors import not_chat_app, of_status
from headrace.api.http.params import LIMIT, USER, Query, choice, uuid
from headrace.api.http.request_body import parse
from headrace.api.http.responses import json_response, no_content
from headrace.api.http.routing import Operation, Routes
from headrace.api.http.schema import Media
from headrace.apps.catalog import Release
from headrace.conversations.messages import CHATS, title_of
from headrace.errors import InvalidParam, NotFound
from headrace.kernel.secrets import SecretMask
from headrace.ports import Conversation, ConversationVariable, EndUser
from headrace.values import Value, is_of_type, kind, to_json

_ORDER = choice("sort_by", "The order", ("created_at", "-created_at", "updated_at", "-updated_at"), "-updated_at")
_LAST = uuid("last_id", "Only conversations after this one")
_LAST_VARIABLE = uuid("last_id", "Only variables after this one")
_LONGEST_NAME = 255  # as in Dify's database
_NUMBERS = frozenset({"number", "integer", "float"})
_ONE = "/conversations/{conversation_id}"


_no_conversation = partial(NotFound, "Conversation Not Exists.")


def _part_of_name(value: str) -> str:
    """The text that the names of the variables should contain, in lower case."""
    plain_name = value.replace("-", "").replace("_", "").replace(".", "")
    if len(value) > _LONGEST_NAME or not plain_name.isalnum():
        raise InvalidParam(
            "variable_name: up to 255 letters, numbers, hyphens (-), underscores (_) and periods (.) are accepted"
        )
    return value.lower()


_NAME_SCHEMA = {"type": "string", "minLength": 1, "maxLength": _LONGEST_NAME}
_NAME = Query(
    "query",
    "variable_name",
    "Text in the variable's name",
    _NAME_SCHEMA,
    default="",
    parse=_part_of_name,
    parse_empty=True,
)


class ConversationRoutes(Routes):
    """`/v1/conversations`."""

    tag = "Conversations"

    # ----------------------------------------------------------------------------------------------- conversations

    @Operation(
        "GET",
        "/conversations",
        Media(schemas.ConversationPage, {"limit": 20, "has_more": False, "data": [examples.CONVERSATION]}),
        parameters=(USER, _LAST, LIMIT, _ORDER),
        errors=(not_chat_app(), NotFound("Last Conversation Not Exists.")),
    )
    async def list_conversations(self, request: Request) -> Response:
        """List an end user's conversations.

        Those with the newest messages come first, unless `sort_by` says otherwise (a minus: the newest first).
        """
        release, end_user = await self._for_query(request)
        last, limit, order = _LAST.of(request), LIMIT.of(request), _ORDER.of(request)
        if last is not None:
            try:
                await self.api.chats.find(release.app.id, end_user.id, last)
            except NotFound:
                raise NotFound("Last Conversation Not Exists.") from None
        conversations, more = await self.api.run_service.conversations.conversations(
            release.app.id, end_user.id, after=last, limit=limit, order=order
        )
        mask = SecretMask(release.flow.secrets)
        page: schemas.ConversationPage = {
            "limit": limit,
            "has_more": more,
            "data": [_response(conversation, mask) for conversation in conversations],
        }
        return json_response(page)

    @Operation(
        "DELETE",
        _ONE,
        {204: ()},
        body=Media(schemas.OptionalUserRequest, {"user": examples.USER}),
        errors=(not_chat_app(), _no_conversation()),
    )
    async def delete_conversation(self, request: Request) -> Response:
        """Delete a conversation.

        It is no longer found. Its runs stay in the app's log.
        """
        release, end_user, _ = await self._for_body(request)
        conversation = await self._conversation(request, release, end_user)
        now = self.api.run_service.environment.clock()
        await self._save(replace(conversation, deleted=True, updated_at=now))
        return no_content()

    @Operation(
        "POST",
        f"{_ONE}/name",
        Media(schemas.Conversation, examples.CONVERSATION),
        body=Media(schemas.RenameRequest, {"name": "hello", "user": examples.USER}),
        errors=(not_chat_app(), InvalidParam("name is required when auto_generate is false"), _no_conversation()),
    )
    async def rename_conversation(self, request: Request) -> Response:
        """Rename a conversation.

        To `name`; or with `auto_generate` to its first query, shortened. (Dify calls a model for a title.)
        """
        release, end_user, body = await self._for_body(request)
        fields = parse(schemas.RenameRequest, body)
        name = fields.get("name")
        if fields.get("auto_generate"):
            conversation = await self._conversation(request, release, end_user)
            name = title_of(await self._first_query(conversation.id))
        elif name is None or not name.strip():
            raise InvalidParam("name is required when auto_generate is false")
        # as it is now: a run of it may have ended meanwhile
        conversation = await self._conversation(request, release, end_user)
        new = replace(conversation, name=name, updated_at=self.api.run_service.environment.clock())
        await self._save(new)
        return json_response(_response(new, SecretMask(release.flow.secrets)))

    async def _save(self, conversation: Conversation) -> None:
        """NotFound where it was deleted since it was read."""
        if not await self.api.run_service.conversations.save_conversation(conversation):
            raise _no_conversation()

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

    @Operation(
        "GET",
        f"{_ONE}/variables",
        Media(schemas.ConversationVariablePage, {"limit": 20, "has_more": False, "data": [examples.VARIABLE]}),
        parameters=(USER, _LAST_VARIABLE, LIMIT, _NAME),
        errors=(not_chat_app(), _no_conversation()),
    )
    async def list_conversation_variables(self, request: Request) -> Response:
        """List a conversation's variables.

        With their current values as text: objects and lists as Python writes them, as in Dify.
        """
        release, end_user = await self._for_query(request)
        last, limit, name = _LAST_VARIABLE.of(request), LIMIT.of(request), _NAME.of(request)
        conversation = await self._conversation(request, release, end_user)
        all_variables = await self.api.run_service.conversations.conversation_variables(conversation.id)
        variables = [variable for variable in all_variables if name in variable.name.lower()]
        if last is not None:
            at = next((index for index, variable in enumerate(variables) if variable.id == last), None)
            if at is None:
                raise InvalidParam("last_id: the conversation has no such variable")
            variables = variables[at + 1 :]
        mask = SecretMask(release.flow.secrets)
        page: schemas.ConversationVariablePage = {
            "limit": limit,
            "has_more": len(variables) > limit,
            "data": [_variable(variable, mask) for variable in variables[:limit]],
        }
        return json_response(page)

    @Operation(
        "PUT",
        f"{_ONE}/variables/{{variable_id}}",
        Media(schemas.ConversationVariable, examples.VARIABLE),
        body=Media(schemas.VariableRequest, {"value": 1, "user": examples.USER}),
        errors=(
            not_chat_app(),
            of_status(400, "Type mismatch: variable 'count' expects number, but got string type"),
            _no_conversation(),
            NotFound("Conversation Variable Not Exists."),
        ),
    )
    async def assign_conversation_variable(self, request: Request) -> Response:
        """Change a conversation's variable.

        Runs that start from now on read the new value, which must be of the variable's type.
        """
        release, end_user, body = await self._for_body(request)
        value = parse(schemas.VariableRequest, body)["value"]
        conversation = await self._conversation(request, release, end_user)
        conversations = self.api.run_service.conversations
        unknown = NotFound("Conversation Variable Not Exists.")
        id_ = as_uuid(request.path_params["variable_id"], unknown)
        variables = await conversations.conversation_variables(conversation.id)
        variable = next((variable for variable in variables if variable.id == id_), None)
        if variable is None:
            raise unknown
        if not is_of_type(value, variable.type):
            type_name = _type_name(variable)
            message = f"Type mismatch: variable '{variable.name}' expects {type_name}, but got {kind(value)} type"
            raise of_status(400, message)
        new = replace(variable, value=value, updated_at=self.api.run_service.environment.clock())
        await conversations.save_conversation_variable(new)
        return json_response(_variable(new, SecretMask(release.flow.secrets)))

    # ----------------------------------------------------------------------------------------------------- requests

    async def _for_query(self, request: Request) -> tuple[Release, EndUser]:
        """The app of a request, and the end user that its query names."""
        return await self._for(await self.api.authenticate(request), USER.of(request))

    async def _for_body(self, request: Request) -> tuple[Release, EndUser, Mapping[str, Value]]:
        """The app of a request, the end user that its body names, and the body."""
        release = await self.api.authenticate(request)
        body = await self.api.json(request)
        return *await self._for(release, body.get("user")), body

    async def _for(self, release: Release, user: Value) -> tuple[Release, EndUser]:
        end_user = await self.api.caller(release.app, user)
        if release.app.mode not in CHATS:
            raise not_chat_app()
        return release, end_user

    async def _conversation(self, request: Request, release: Release, end_user: EndUser) -> Conversation:
        id_ = as_uuid(request.path_params["conversation_id"], _no_conversation())
        return await self.api.chats.find(release.app.id, end_user.id, id_)


def _response(conversation: Conversation, mask: SecretMask) -> schemas.Conversation:
    return {
        "id": conversation.id,
        "name": mask.text(conversation.name),
        "inputs": mask.value(to_json(dict(conversation.inputs))),
        "status": "normal",
        "introduction": mask.text(conversation.introduction),
        "created_at": int(conversation.created_at),
        "updated_at": int(conversation.updated_at),
    }


def _variable(variable: ConversationVariable, mask: SecretMask) -> schemas.ConversationVariable:
    value = mask.value(to_json(variable.value))
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
