"""What `/docs` says of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.openapi import IDS, STARTING_POINT, error, operation, parameter, responses
from headrace.times import times

_TAG = "Asynchronous runs"
_RUN_ID = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"
_TASK_ID = "c3800678-a077-43df-a102-53f23ed20b88"
_WORKFLOW_ID = "7c3e33d4-2a8b-4e5f-9b1a-d3c6e8f12345"
_APP_ID = "b2c69214-ecc5-4196-99c4-c8fdf975a694"
_USER = "user-123"
_TEXT = {"type": "string"}
_UUID = {"type": "string", "format": "uuid"}
_BOOL = {"type": "boolean", "default": False}
_STATUS = {
    "type": "string",
    "enum": ["queued", "running", "paused", "succeeded", "partial-succeeded", "failed", "stopped"],
}

_NO_KEY = error("unauthorized", "Access token is invalid", 401)
_NO_RUN = error("not_found", "Workflow run not found", 404)
_BAD_JSON = error("bad_request", "The browser (or proxy) sent a request that this server could not understand.", 400)
_TOO_LARGE = error("request_entity_too_large", "The data value transmitted exceeds the capacity limit.", 413)
_STALE = error(
    "version_not_loadable",
    "The version that this run is of cannot be loaded any more: version 2: there is no `app` section",
    409,
)
CONFLICT = error(
    "idempotency_conflict",
    "This Idempotency-Key came with another request before. Use a new key for a new request.",
    409,
)
IN_PROGRESS = error(
    "idempotency_in_progress",
    "The first request with this Idempotency-Key is still being answered. Ask again later.",
    409,
)
KEY = parameter(
    "header",
    "Idempotency-Key",
    "1 to 255 visible ASCII characters of your choice. The first answer is kept for 24 hours and given again to the "
    "same request, with `Idempotency-Replayed: true`.",
    _TEXT | {"minLength": 1, "maxLength": 255},
)

_QUEUED = {"task_id": _TASK_ID, "workflow_run_id": _RUN_ID, "status": "queued", "created_at": 1795226714}
_CONVERSATION_ID = "45701982-8118-4bc5-8e9b-64562b4555f2"
_RUN: Mapping[str, Any] = {
    "id": _RUN_ID,
    "workflow_id": _WORKFLOW_ID,
    "app_id": _APP_ID,
    "task_id": _TASK_ID,
    "status": "failed",
    "inputs": {"query": "hello"},
    "outputs": {},
    "error": "Reached maximum retries (0) for URL https://example.com/",
    "error_node": {
        "id": "0ad1b1e8-5f2e-5d1f-8f57-6f0f7f3f2c11",
        "node_id": "1718000000001",
        "title": "Look it up",
        "type": "http-request",
        "error_type": "HttpRequestNodeError",
    },
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "total_price": "0.0002250",
        "currency": "USD",
    },
    "total_tokens": 150,
    "total_steps": 3,
    "exceptions_count": 1,
    **times(created_at=1795226714.25, started_at=1795226714.26, finished_at=1795226715.49),
    "elapsed_time": 1.23,
    "user": _USER,
    "source": "service-api",
    "retry_of": None,
    "callback_url": "https://example.com/headrace",
}
_STREAM = (
    f'data: {{"event":"workflow_started","workflow_run_id":"{_RUN_ID}","task_id":"{_TASK_ID}",'
    f'"data":{{"id":"{_RUN_ID}","workflow_id":"{_WORKFLOW_ID}","inputs":{{"query":"hello"}},'
    '"created_at":1795226714,"reason":"initial"}}\n\n'
)
_RUN_PARAMETER = parameter("path", "workflow_run_id", "A run's id", _UUID)

RUN = operation(
    "submitRun",
    _TAG,
    "Run a workflow, or send a message to a chat",
    "Answers 202 once the run is safe on disk; it goes on by itself, whatever `response_mode` says. Two exceptions: "
    "`blocking` answers 200 with the run once it has ended or paused, as GET /workflow-runs/{workflow_run_id} does; "
    "`streaming` answers 200 with the run's events where the request has `Accept: text/event-stream`. With a "
    "`callback_url`, a signed message is sent there when the run ends or pauses.\n\n"
    "A workflow needs no `query`: it is the input of that name where the start node declares one and `inputs` has "
    "none, and is ignored elsewhere. Of a chat or chatflow the `query` is asked, in a new conversation or the one that "
    "`conversation_id` names; the answer tells its `conversation_id`, and the `message_id`, which is the run's.",
    responses(
        (
            _BAD_JSON,
            error("invalid_param", "Arg user must be provided.", 400),
            _NO_KEY,
            error("not_found", f"Workflow not found with id: {_WORKFLOW_ID}", 404),
            error("not_implemented", "Headrace does not run apps of mode agent-chat.", 501),
            CONFLICT,
            IN_PROGRESS,
            _TOO_LARGE,
            error(
                "unsupported_media_type",
                "Did not attempt to load JSON data because the request Content-Type was not 'application/json'.",
                415,
            ),
            error("too_many_requests", "Too many requests. Please try again later.", 429),
        ),
        202,
        json=_QUEUED,
    )
    | {200: responses((), json=dict(_RUN), stream=_STREAM)[200]},
    [parameter("path", "workflow_id", "An app's id (its published version), or a version's", _UUID), KEY],
    {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs", "user"],
                "properties": {
                    "inputs": {"type": "object", "description": "The start node's variables by name."},
                    "user": {"type": "string", "description": "Your name for whoever the run is made for."},
                    "response_mode": {"type": "string", "enum": ["async", "streaming", "blocking"], "default": "async"},
                    "files": {
                        "type": "array",
                        "items": {"type": "object"},
                        "description": "What `sys.files` holds, within the app's limits of uploads.",
                    },
                    "query": {"type": "string", "description": "What is said or asked: for chats and completion apps."},
                    "conversation_id": {"type": "string", "description": "To go on with one; empty for a new one."},
                    "auto_generate_name": {"type": "boolean", "default": True},
                    "callback_url": {"type": "string", "format": "uri", "maxLength": 2048},
                },
            },
            "examples": {
                "async": {"value": {"inputs": {"query": "hello"}, "user": _USER}},
                "message": {
                    "value": {
                        "inputs": {"field1": "value1"},
                        "query": "What is on this picture?",
                        "conversation_id": _CONVERSATION_ID,
                        "files": [
                            {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/a.png"}
                        ],
                        "response_mode": "streaming",
                        "user": _USER,
                    }
                },
                "callback": {
                    "value": {
                        "inputs": {"query": "hello"},
                        "user": _USER,
                        "callback_url": "https://example.com/headrace",
                    }
                },
                "blocking": {"value": {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": _USER}},
            },
        }
    },
)
DETAIL = operation(
    "getRun",
    _TAG,
    "Look at a run, or wait for its end",
    "The run as it stands. With `wait`, the answer comes when the run ends, or as it stands after so many seconds. "
    "`outputs`, `finished_at` and `elapsed_time` are null until it has ended; `error_node` is the node whose failure "
    "ended it. Times are seconds since the epoch. With If-None-Match, 304 if nothing has happened since. A run that "
    "answers a message also has `query`, `answer` (as far as it goes), `conversation_id` and `message_id`.",
    responses(
        (
            error("invalid_param", "wait: Input should be a number of seconds from 0 to 60, not 'long'", 400),
            _NO_KEY,
            _NO_RUN,
            _STALE,
        ),
        json=dict(_RUN),
    )
    | {304: {"description": "Nothing has happened since"}},
    [
        _RUN_PARAMETER,
        parameter("query", "wait", "Seconds", {"type": "number", "minimum": 0, "maximum": 60, "default": 0}),
        parameter("header", "If-None-Match", "The ETag of an earlier answer", _TEXT),
    ],
)
_LINE = {
    name: _RUN[name]
    for name in ("id", "workflow_id", "app_id", "status", "error", "total_tokens", "total_steps", "exceptions_count")
} | {
    name: _RUN[name]
    for name in ("created_at", "finished_at", "created_at_ms", "finished_at_ms", "elapsed_time", "user", "source")
}
LIST = operation(
    "listRuns",
    _TAG,
    "List runs",
    "The app's runs, newest first. For the next page give `next_cursor` as `cursor`; it is null on the last. A page "
    "may show fewer runs than `limit` where it is filtered by queued or running. Runs that answer messages also have "
    "`conversation_id` and `message_id`.",
    responses(
        (error("invalid_param", "limit: Input should be an integer from 1 to 100, not '1000'", 400), _NO_KEY),
        json={"data": [_LINE], "next_cursor": "MTc5NTIyNjcxNC4yNSBmYjQ3YjJlNi01ZTQzLTRmOTAtYmUwMS1kNWM1YTA4OGQxNTY"},
    ),
    [
        parameter("query", "status", "Runs of this status", _STATUS),
        parameter("query", "workflow_id", "Runs of this version", _UUID),
        parameter("query", "user", "The `user` that the runs were asked for with", _TEXT),
        parameter("query", "created_after", "Seconds since the epoch, or ISO 8601", _TEXT),
        parameter("query", "created_before", "Seconds since the epoch, or ISO 8601", _TEXT),
        parameter("query", "keyword", "Found in the inputs, the outputs or the id", _TEXT),
        parameter("query", "source", "`service-api`, or `batch:` and a batch's id", _TEXT),
        parameter("query", "limit", "Runs a page", {"type": "integer", "default": 20, "minimum": 1, "maximum": 100}),
        parameter("query", "cursor", "The `next_cursor` of the page before", _TEXT),
    ],
)
NODE_EXECUTIONS = operation(
    "listNodeExecutions",
    _TAG,
    "See what each node did",
    "The nodes of a run that have started, in order of their start; those inside an iteration or a loop once a round. "
    "`attempts` are those that failed and were followed by another. `reused`: taken over from the run that this one is "
    "a retry of.",
    responses(
        (_NO_KEY, _NO_RUN, _STALE),
        json={
            "data": [
                {
                    "id": "0ad1b1e8-5f2e-5d1f-8f57-6f0f7f3f2c11",
                    "node_id": "1718000000001",
                    "node_type": "llm",
                    "title": "Write",
                    "index": 2,
                    "predecessor_node_id": "1718000000000",
                    "iteration_id": None,
                    "iteration_index": None,
                    "loop_id": None,
                    "loop_index": None,
                    "status": "succeeded",
                    "inputs": {},
                    "process_data": {"model_mode": "chat"},
                    "outputs": {"text": "Hello!"},
                    "error": None,
                    "error_type": None,
                    "attempts": [],
                    "reused": False,
                    "usage": _RUN["usage"],
                    **times(started_at=1795226714.27, finished_at=1795226715.42),
                    "elapsed_time": 1.15,
                }
            ]
        },
    ),
    [_RUN_PARAMETER],
)
EVENTS = operation(
    "followRun",
    _TAG,
    "Follow a run",
    "The run's events from the beginning, or those after a starting point, without a gap and without telling anything "
    "twice, until the run ends or pauses. " + IDS,
    responses(
        (
            error("invalid_param", "Last-Event-ID 99 is beyond the run's last event, 12", 400),
            _NO_KEY,
            _NO_RUN,
            _STALE,
        ),
        stream=_STREAM,
    ),
    [
        _RUN_PARAMETER,
        parameter("query", "continue_on_pause", "Do not end at a pause", _BOOL),
        *STARTING_POINT,
    ],
)
STOP = operation(
    "stopRun",
    _TAG,
    "Stop a run",
    "Cancels the nodes under way, and answers with the run's status: usually `stopped`, or what it was if it had ended "
    "already.",
    responses(
        (_BAD_JSON, _NO_KEY, _NO_RUN, _STALE, _TOO_LARGE),
        json={"workflow_run_id": _RUN_ID, "task_id": _TASK_ID, "status": "stopped"},
    ),
    [_RUN_PARAMETER],
)
STOP["openapi_extra"]["requestBody"] = {
    "required": False,
    "content": {"application/json": {"schema": {"type": "object"}, "example": {"user": _USER}}},
}
RETRY = operation(
    "retryRun",
    _TAG,
    "Retry a run that failed or was stopped",
    "Makes a new run of the same version and inputs, which takes over what the old one had finished and goes on from "
    "there. Its `retry_of` names the old one.",
    responses(
        (
            _BAD_JSON,
            _NO_KEY,
            _NO_RUN,
            error("not_retryable", "Only a run that failed or was stopped can be retried.", 409),
            CONFLICT,
            IN_PROGRESS,
            _STALE,
            _TOO_LARGE,
        ),
        202,
        json=_QUEUED,
    ),
    [_RUN_PARAMETER, KEY],
)
