"""What `/docs` and `/openapi.json` say of conversations, their messages, and speech. See `operations`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.openapi import error, operation, parameter, responses

_MESSAGE = "5ad4cb98-f0c7-4085-b384-88c403be6290"
_CONVERSATION = "45701982-8118-4bc5-8e9b-64562b4555f2"
_VARIABLE = "3f0c1f9e-6f0f-4a7f-9e3e-5c9a3c2d1b0a"
_USER = "user-123"
_AT = 1795226714

NO_KEY = error("unauthorized", "Access token is invalid", 401)
_NO_USER = error("invalid_param", "Arg user must be provided.", 400)
NO_JSON = error("unsupported_media_type", "The request's Content-Type is not 'application/json'.", 415)
_NOT_CHAT = error("not_chat_app", "Please check if your app mode matches the right API route.", 400)
_NO_CONVERSATION = error("not_found", "Conversation Not Exists.", 404)
_NO_MESSAGE = error("not_found", "Message Not Exists.", 404)
_NO_VARIABLE = error("not_found", "Conversation Variable Not Exists.", 404)
_BAD_LIMIT = error("invalid_param", "limit: Input should be an integer from 1 to 100, not '1000'", 400)

TEXT = {"type": "string"}
UUID = {"type": "string", "format": "uuid"}
_SUCCESS = {"result": "success"}


def body(example: Mapping[str, Any], properties: Mapping[str, Any], *required: str) -> Mapping[str, Any]:
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"application/json": {"schema": schema, "example": example}}


def _up_to(most: int) -> Mapping[str, Any]:
    return {"type": "integer", "default": 20, "minimum": 1, "maximum": most}


def paging(most: int = 100) -> list[Mapping[str, Any]]:
    return [
        parameter("query", "page", "From 1", {"type": "integer", "default": 1, "minimum": 1}),
        parameter(
            "query", "limit", "How many a page", {"type": "integer", "default": 20, "minimum": 1, "maximum": most}
        ),
    ]


_LIMIT = parameter("query", "limit", "How many at most", _up_to(100))
_USER_QUERY = parameter("query", "user", "Your name for whoever it is about; who has none shares one", TEXT)
_USER_FIELD = {"user": {"type": "string", "description": "Your name for whoever it is about; who has none shares one."}}
_ONE = parameter("path", "conversation_id", "A conversation's id", UUID)

# --------------------------------------------------------------------------------------------------------- messages

_ONE_MESSAGE = parameter("path", "message_id", "A message's id: its run's", UUID)
MESSAGES = operation(
    "listMessages",
    "Conversations",
    "List the messages of a conversation",
    "The newest messages, or those before `first_id`; within a page the oldest comes first. What is being answered is "
    "among them, with what its answer has come to. `error` says why a message's run failed.",
    responses(
        (_NOT_CHAT, _BAD_LIMIT, _NO_CONVERSATION, error("not_found", "First Message Not Exists.", 404), NO_KEY),
        json={
            "limit": 20,
            "has_more": False,
            "data": [
                {
                    "id": _MESSAGE,
                    "conversation_id": _CONVERSATION,
                    "parent_message_id": "00000000-0000-0000-0000-000000000000",
                    "inputs": {},
                    "query": "hello",
                    "answer": "Hello!",
                    "feedback": {"rating": "like"},
                    "retriever_resources": [],
                    "created_at": _AT,
                    "agent_thoughts": [],
                    "message_files": [],
                    "message_tokens": 6,
                    "answer_tokens": 4,
                    "provider_response_latency": 1.234567,
                    "total_price": "0.0000140",
                    "currency": "USD",
                    "status": "normal",
                    "error": None,
                    "extra_contents": [],
                    "total_tokens": 10,
                }
            ],
        },
    ),
    [
        parameter("query", "conversation_id", "A conversation's id", TEXT, required=True),
        _USER_QUERY,
        parameter("query", "first_id", "The oldest message that is known: those before it are told", TEXT),
        _LIMIT,
    ],
)
SUGGESTED = operation(
    "listSuggestedQuestions",
    "Conversations",
    "What to ask next",
    "Up to three questions that may follow a message. The app's own model thinks them up: the first of its llm nodes. "
    "None where it fails, or the app has none.",
    responses(
        (
            _NO_USER,
            _NOT_CHAT,
            error("bad_request", "Suggested Questions Is Disabled.", 400),
            _NO_MESSAGE,
            NO_KEY,
        ),
        json={**_SUCCESS, "data": ["What else can you do?", "Who made you?", "How are you?"]},
    ),
    [
        _ONE_MESSAGE,
        parameter("query", "user", "The `user` that the message came from", TEXT, required=True),
    ],
)
GIVE_FEEDBACK = operation(
    "giveFeedback",
    "Feedback",
    "Rate an answer",
    "One rating an end user and message: the next takes its place, null takes it back.",
    responses(
        (
            _NO_USER,
            error("invalid_param", "rating cannot be None when feedback not exists", 400),
            _NO_MESSAGE,
            NO_KEY,
            NO_JSON,
        ),
        json=_SUCCESS,
    ),
    [_ONE_MESSAGE],
    body(
        {"rating": "like", "user": _USER, "content": "Just what I needed."},
        {
            "rating": {"type": ["string", "null"], "enum": ["like", "dislike", None]},
            "content": {"type": ["string", "null"], "description": "What there is to say besides."},
            "user": {"type": "string", "description": "The `user` that the message came from."},
        },
        "user",
    ),
)
FEEDBACKS = operation(
    "listFeedbacks",
    "Feedback",
    "List what end users think",
    "The ratings of all the app's answers, newest first.",
    responses(
        (error("invalid_param", "limit: Input should be an integer from 1 to 101, not '1000'", 400), NO_KEY),
        json={
            "data": [
                {
                    "id": "b7e2f8a1-3c4d-4e6f-8890-abcdef123456",
                    "app_id": "b2c69214-ecc5-4196-99c4-c8fdf975a694",
                    "conversation_id": _CONVERSATION,
                    "message_id": _MESSAGE,
                    "rating": "like",
                    "content": "Just what I needed.",
                    "from_source": "user",
                    "from_end_user_id": "f1e2d3c4-b5a6-7890-abcd-ef1234567890",
                    "from_account_id": None,
                    "created_at": "2026-11-21T02:05:14Z",
                    "updated_at": "2026-11-21T02:05:14Z",
                }
            ]
        },
    ),
    paging(101),
)

# ---------------------------------------------------------------------------------------------------- conversations

_WIRE: Mapping[str, Any] = {
    "id": _CONVERSATION,
    "name": "hello",
    "inputs": {},
    "status": "normal",
    "introduction": "Hi there!",
    "created_at": _AT,
    "updated_at": _AT,
}
_ORDERS = ["created_at", "-created_at", "updated_at", "-updated_at"]
CONVERSATIONS = operation(
    "listConversations",
    "Conversations",
    "List an end user's conversations",
    "Those that were last spoken in come first, unless `sort_by` says otherwise (a minus: the newest first).",
    responses(
        (_NOT_CHAT, _BAD_LIMIT, error("not_found", "Last Conversation Not Exists.", 404), NO_KEY),
        json={"limit": 20, "has_more": False, "data": [_WIRE]},
    ),
    [
        _USER_QUERY,
        parameter("query", "last_id", "The last conversation that is known: those after it are told", TEXT),
        _LIMIT,
        parameter("query", "sort_by", "The order", TEXT | {"enum": _ORDERS, "default": "-updated_at"}),
    ],
)
DELETE_CONVERSATION = operation(
    "deleteConversation",
    "Conversations",
    "Delete a conversation",
    "Nobody finds it any more. The runs that it was made of stay in the app's log.",
    responses((_NOT_CHAT, _NO_CONVERSATION, NO_KEY, NO_JSON), 204),
    [_ONE],
    body({"user": _USER}, _USER_FIELD),
)
RENAME_CONVERSATION = operation(
    "renameConversation",
    "Conversations",
    "Rename a conversation",
    "To `name`; or, with `auto_generate`, to what was said in it first, shortened. (Dify asks a model for a title.)",
    responses(
        (
            _NOT_CHAT,
            error("invalid_param", "name is required when auto_generate is false", 400),
            _NO_CONVERSATION,
            NO_KEY,
            NO_JSON,
        ),
        json=_WIRE,
    ),
    [_ONE],
    body(
        {"name": "hello", "user": _USER},
        {
            "name": {"type": ["string", "null"], "maxLength": 255},
            "auto_generate": {"type": "boolean", "default": False},
            **_USER_FIELD,
        },
    ),
)
_WIRE_VARIABLE: Mapping[str, Any] = {
    "id": _VARIABLE,
    "name": "count",
    "value_type": "number",
    "value": "1",
    "description": "",
    "created_at": _AT,
    "updated_at": _AT,
}
VARIABLES = operation(
    "listConversationVariables",
    "Conversations",
    "List a conversation's variables",
    "With what they hold now, as text: objects and lists as Python writes them, as Dify does it.",
    responses(
        (_NOT_CHAT, _BAD_LIMIT, _NO_CONVERSATION, NO_KEY),
        json={"limit": 20, "has_more": False, "data": [_WIRE_VARIABLE]},
    ),
    [
        _ONE,
        _USER_QUERY,
        parameter("query", "last_id", "The last variable that is known: those after it are told", TEXT),
        _LIMIT,
        parameter("query", "variable_name", "Found in the variable's name", TEXT | {"minLength": 1, "maxLength": 255}),
    ],
)
ASSIGN_VARIABLE = operation(
    "assignConversationVariable",
    "Conversations",
    "Change a conversation's variable",
    "Runs that begin from now on read the new value. It is to be of the variable's type.",
    responses(
        (
            _NOT_CHAT,
            error("bad_request", "Type mismatch: variable 'count' expects number, but got string type", 400),
            _NO_CONVERSATION,
            _NO_VARIABLE,
            NO_KEY,
            NO_JSON,
        ),
        json=_WIRE_VARIABLE,
    ),
    [_ONE, parameter("path", "variable_id", "A variable's id", UUID)],
    body({"value": 1, "user": _USER}, {"value": {"description": "Of the variable's type."}, **_USER_FIELD}, "value"),
)

# ------------------------------------------------------------------------------------------------------------ audio

_NO_PROVIDER = error("provider_not_initialize", "provider_not_initialize: speech has no provider. ...", 400)
_FAILED = error("completion_request_error", "...", 400)
TRANSCRIBE = operation(
    "audioToText",
    "Speech",
    "Speech to text",
    "Of 30 MB at most, of the type audio/mp3, mpeg, mpga, m4a, mp4, wav, webm, ogg, flac or amr.",
    responses(
        (
            error("no_audio_uploaded", "Please upload your audio.", 400),
            error("invalid_param", "Speech to text is not enabled", 400),
            error("audio_too_large", "Audio size larger than 30 mb", 413),
            error("unsupported_audio_type", "Audio type not allowed.", 415),
            _NO_PROVIDER,
            _FAILED,
            NO_KEY,
        ),
        json={"text": "Hello!"},
    ),
    body={
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}, "user": TEXT},
            }
        }
    },
)
SPEAK = operation(
    "textToAudio",
    "Speech",
    "Text to speech",
    "Speaks a message's answer (`message_id`), or else `text`; with the app's voice, unless another is asked for.",
    responses(
        (error("invalid_param", "TTS is not enabled", 400), _NO_MESSAGE, _NO_PROVIDER, _FAILED, NO_KEY, NO_JSON),
        audio="...",
    ),
    body=body(
        {"text": "Hello!", "user": _USER, "voice": "alloy"},
        {
            "message_id": {"type": ["string", "null"], "description": "The message whose answer is to be spoken."},
            "text": {"type": ["string", "null"]},
            "voice": {"type": ["string", "null"]},
            "streaming": {"type": ["boolean", "null"], "description": "Taken, and of no effect."},
            **_USER_FIELD,
        },
    ),
)
