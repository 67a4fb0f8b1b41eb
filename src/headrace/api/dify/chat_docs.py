"""What `/docs` and `/openapi.json` say of messages, and of the models that apps are to OpenAI's clients. See
`operations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.api.openapi import IDS, error, operation, parameter, responses

_MESSAGE = "5ad4cb98-f0c7-4085-b384-88c403be6290"
_CONVERSATION = "45701982-8118-4bc5-8e9b-64562b4555f2"
_TASK = "c3800678-a077-43df-a102-53f23ed20b88"
_USER = "user-123"
_AT = 1795226714

_NO_KEY = error("unauthorized", "Access token is invalid", 401)
_NO_USER = error("invalid_param", "Arg user must be provided.", 400)
_NO_QUERY = error("invalid_param", "query: Field required", 400)
_FAILED = error("invalid_param", "Run failed: ...", 400)
_NOT_CHAT = error("not_chat_app", "Please check if your app mode matches the right API route.", 400)
_NOT_COMPLETION = error("app_unavailable", "App unavailable, please check your app configurations.", 400)
_NO_CONVERSATION = error("not_found", "Conversation Not Exists.", 404)
_NO_JSON = error("unsupported_media_type", "The request's Content-Type is not 'application/json'.", 415)
_BUSY = error("too_many_requests", "Too many requests. Please try again later.", 429)
_AGENT = error("not_implemented", "Headrace does not run apps of mode agent-chat with tools (time).", 501)

_USAGE: Mapping[str, Any] = {
    "prompt_tokens": 6,
    "prompt_unit_price": "0.001",
    "prompt_price_unit": "0.001",
    "prompt_price": "0.0000060",
    "completion_tokens": 4,
    "completion_unit_price": "0.002",
    "completion_price_unit": "0.001",
    "completion_price": "0.0000080",
    "total_tokens": 10,
    "total_price": "0.0000140",
    "currency": "USD",
    "latency": 0.124,
    "time_to_first_token": 0.03,
    "time_to_generate": 0.1,
}
_METADATA: Mapping[str, Any] = {"annotation_reply": None, "retriever_resources": [], "usage": _USAGE}
_ANSWER: Mapping[str, Any] = {
    "event": "message",
    "task_id": _TASK,
    "id": _MESSAGE,
    "message_id": _MESSAGE,
    "conversation_id": _CONVERSATION,
    "mode": "advanced-chat",
    "answer": "Hello!",
    "metadata": _METADATA,
    "created_at": _AT,
}
_STREAM = (
    f'data: {{"event":"message","conversation_id":"{_CONVERSATION}","message_id":"{_MESSAGE}","created_at":{_AT},'
    f'"task_id":"{_TASK}","id":"{_MESSAGE}","answer":"Hello!","from_variable_selector":["llm","text"]}}\n\n'
    "event: ping\n\n"
    f'data: {{"event":"message_end","conversation_id":"{_CONVERSATION}","message_id":"{_MESSAGE}","created_at":{_AT},'
    f'"task_id":"{_TASK}","id":"{_MESSAGE}","metadata":{{}},"files":[]}}\n\n'
)
_COMMON: Mapping[str, Any] = {
    "inputs": {"type": "object", "description": "The app's variables by name."},
    "user": {"type": "string", "description": "Your name for whoever the message is from."},
    "response_mode": {"type": "string", "enum": ["blocking", "streaming"], "default": "blocking"},
    "files": {"type": "array", "items": {"type": "object"}, "description": "Left out where the app takes none."},
}
_CHAT_BODY: Mapping[str, Any] = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["inputs", "query", "user"],
            "properties": {
                "query": {"type": "string", "description": "What is said or asked."},
                **_COMMON,
                "conversation_id": {"type": "string", "description": "To go on with one; empty for a new one."},
                "auto_generate_name": {
                    "type": "boolean",
                    "default": True,
                    "description": "Call a new conversation after its first query.",
                },
                "workflow_id": {"type": "string", "description": "A version of a chatflow, in place of the current."},
            },
        },
        "example": {"inputs": {}, "query": "hello", "response_mode": "blocking", "user": _USER},
    }
}
_COMPLETION_BODY: Mapping[str, Any] = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["inputs", "user"],
            "properties": {"query": {"type": "string", "default": ""}, **_COMMON},
        },
        "example": {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": _USER},
    }
}
_STOP_BODY = {"application/json": {"schema": {"type": "object", "required": ["user"]}, "example": {"user": _USER}}}
_TASK_ID = parameter("path", "task_id", "A message's task id", {"type": "string"})

CHAT = operation(
    "sendChatMessage",
    "Chat",
    "Send a message",
    "The answer of a chat or chatflow. Two messages of one conversation are answered one after the other. A message "
    "is a run: its id is the run's, and a stream that was cut off is taken up again by "
    "GET /v1/workflow/{message_id}/events. " + IDS,
    responses(
        (_NO_USER, _NO_QUERY, _NOT_CHAT, _FAILED, _NO_KEY, _NO_CONVERSATION, _NO_JSON, _BUSY, _AGENT),
        json=_ANSWER,
        stream=_STREAM,
    ),
    body=_CHAT_BODY,
)
STOP_CHAT = operation(
    "stopChatMessage",
    "Chat",
    "Stop an answer",
    "A task that is unknown or has ended is no error.",
    responses((_NO_USER, _NOT_CHAT, _NO_KEY, _NO_JSON), json={"result": "success"}),
    [_TASK_ID],
    _STOP_BODY,
)
COMPLETE = operation(
    "sendCompletionMessage",
    "Chat",
    "Complete a text",
    "The answer of a completion app.",
    responses(
        (_NO_USER, _NOT_COMPLETION, _NO_KEY, _NO_JSON, _BUSY),
        json={name: each for name, each in _ANSWER.items() if name != "conversation_id"} | {"mode": "completion"},
        stream=_STREAM,
    ),
    body=_COMPLETION_BODY,
)
STOP_COMPLETE = operation(
    "stopCompletionMessage",
    "Chat",
    "Stop a completion",
    "A task that is unknown or has ended is no error.",
    responses((_NO_USER, _NOT_COMPLETION, _NO_KEY, _NO_JSON), json={"result": "success"}),
    [_TASK_ID],
    _STOP_BODY,
)

# ---------------------------------------------------------------------------------------------------------- OpenAI


def _refused(code: str, message: str, status: int, kind: str, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's envelope, with what `responses` sorts it by."""
    told = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return {"code": code, "status": status, "told": told}


def _answers(errors: Sequence[Mapping[str, Any]], **contents: Any) -> dict[int | str, Any]:
    told = responses((), **contents)
    for each in errors:
        at = told.setdefault(each["status"], {"description": "Refused", "content": {"application/json": {}}})
        content = at["content"]["application/json"]
        content.setdefault("schema", _OPENAI_ERROR)
        content.setdefault("examples", {})[each["code"]] = {"value": each["told"]}
    return told


_OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
        }
    },
}
_NO_MODEL = _refused("model_not_found", "The model 'x' does not exist.", 404, "invalid_request_error")
_WRONG_KEY = _refused("unauthorized", "Access token is invalid", 401, "authentication_error")
_TOOLS = _refused(
    "unsupported_parameter", "An app served here does not support 'tools'.", 400, "invalid_request_error", "tools"
)
_LIMIT = _refused("too_many_requests", "Too many requests. Please try again later.", 429, "rate_limit_error")
_MODEL = {"id": "echo", "object": "model", "created": _AT, "owned_by": "headrace"}
_MESSAGES = [{"role": "user", "content": "hello"}]
_CHUNK = (
    f'data: {{"id":"chatcmpl-{_MESSAGE}","object":"chat.completion.chunk","created":{_AT},"model":"echo",'
    '"choices":[{"index":0,"delta":{"content":"Hello!"},"logprobs":null,"finish_reason":null}]}\n\n'
    "data: [DONE]\n\n"
)

COMPLETIONS = operation(
    "createChatCompletion",
    "OpenAI",
    "Call the app as a model",
    "Any app that is served, called by a client of OpenAI's: the base URL is `/v1/openai`, the model the app's name; "
    "the key is the app's, or one that opens several. The last user message is the query, or fills the form's text "
    "field (the one called query, text or input, else the first that is required); `inputs` fills the others, and "
    "`metadata` those that are text. What was said before is `sys.history`: its text is the memory of the app's "
    "models, but for system messages, since the app has its own. With `conversation_id` (told in every answer of a "
    "chat) the conversation kept here goes on. Tools, `n`, `logprobs` and JSON formats are refused; what tunes a model "
    "(`temperature` ...) does nothing. A caller who leaves stops the run, unless the request has the header "
    "`Headrace-Keep-Running: true`; a request that OpenAI's clients send again goes on with the run of the first.",
    _answers(
        (_TOOLS, _WRONG_KEY, _NO_MODEL, _LIMIT),
        json={
            "id": f"chatcmpl-{_MESSAGE}",
            "object": "chat.completion",
            "created": _AT,
            "model": "echo",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello!", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10},
        },
        stream=_CHUNK,
    ),
    [
        parameter("header", "Headrace-Keep-Running", "true: leaving does not stop the run", {"type": "boolean"}),
        parameter("header", "Idempotency-Key", "Requests of one key and one body get one run", {"type": "string"}),
    ],
    body={
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["model", "messages"],
                "properties": {
                    "model": {"type": "string", "description": "The app's name or id."},
                    "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
                    "stream": {"type": "boolean", "default": False},
                    "stream_options": {"type": "object", "description": "include_usage"},
                    "user": {"type": "string"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                    "inputs": {"type": "object", "description": "Beyond OpenAI's: the app's variables by name."},
                    "conversation_id": {"type": "string", "description": "Beyond OpenAI's: goes on with a chat."},
                },
            },
            "example": {"model": "echo", "messages": _MESSAGES},
        }
    },
)
MODELS = operation(
    "listModels",
    "OpenAI",
    "List the models",
    "The apps that the key opens, by their names: an app's own key opens one, a workspace's key several.",
    _answers((_WRONG_KEY,), json={"object": "list", "data": [_MODEL]}),
)
MODEL = operation(
    "getModel",
    "OpenAI",
    "Look at the model",
    "By the app's name or id.",
    _answers((_WRONG_KEY, _NO_MODEL), json=_MODEL),
    [parameter("path", "model", "The app's name or id", {"type": "string"})],
)
