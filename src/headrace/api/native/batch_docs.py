"""What `/docs` says of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.api.native.run_docs import CONFLICT, IN_PROGRESS, KEY
from headrace.api.openapi import error, operation, parameter, responses
from headrace.times import times

_TAG = "Batches"
_BATCH_ID = "5c0a2f0e-98a5-4f3c-8d1c-8a7b6c5d4e3f"
_WORKFLOW_ID = "7c3e33d4-2a8b-4e5f-9b1a-d3c6e8f12345"
_APP_ID = "b2c69214-ecc5-4196-99c4-c8fdf975a694"
_UUID = {"type": "string", "format": "uuid"}
_ID = [parameter("path", "batch_id", "A batch's id", _UUID)]

_NO_KEY = error("unauthorized", "Access token is invalid", 401)
_NO_BATCH = error("not_found", "Batch not found", 404)
_NO_WORKFLOW = error("not_found", f"Workflow not found with id: {_WORKFLOW_ID}", 404)
_EMPTY = error("invalid_param", 'The body has no lines. Send JSON Lines, one {"inputs": {...}} a line.', 400)
_WRONG_TYPE = error(
    "unsupported_media_type", 'Send JSON Lines, one {"inputs": {...}} a line, as application/jsonl.', 415
)
_TOO_LARGE = error("request_entity_too_large", "A batch may have 100000 lines at most.", 413)
_STALE = error(
    "version_not_loadable",
    "The version that this batch is of cannot be loaded any more: version 2: there is no `app` section",
    409,
)

_ACCEPTED = {"batch_id": _BATCH_ID, "status": "running", "total": 3, "created_at": 1795226714}
_BATCH: Mapping[str, Any] = {
    "id": _BATCH_ID,
    "workflow_id": _WORKFLOW_ID,
    "app_id": _APP_ID,
    "status": "running",
    "total": 3,
    "queued": 0,
    "running": 1,
    "paused": 0,
    "succeeded": 1,
    "partial_succeeded": 0,
    "failed": 1,
    "stopped": 0,
    "concurrency": 10,
    "rpm": None,
    "user": "user-123",
    **times(created_at=1795226714.25, ended_at=None),
}
_LINES = """{"inputs": {"query": "hello"}}
{"inputs": {"query": "good morning"}}
{"inputs": {}}
"""
_RESULTS = (
    '{"index":0,"workflow_run_id":"fb47b2e6-5e43-4f90-be01-d5c5a088d156","status":"succeeded",'
    '"outputs":{"answer":"hi"},"error":null,"elapsed_time":0.81,"total_tokens":150}\n'
    '{"index":1,"workflow_run_id":"0d9f6a0e-4c0e-5f4e-9f43-2b6a8f1d7c55","status":"running",'
    '"outputs":null,"error":null,"elapsed_time":null,"total_tokens":null}\n'
    '{"index":2,"workflow_run_id":null,"status":"failed","outputs":null,'
    '"error":"query is required in input form","elapsed_time":null,"total_tokens":null}\n'
)
_JSON_LINES = {"schema": {"type": "string"}, "example": _LINES}


def _results() -> dict[int | str, Any]:
    told = responses((error("invalid_param", "only: Input should be 'ended'", 400), _NO_KEY, _NO_BATCH, _STALE))
    told[200]["content"] = {"application/jsonl": {"schema": {"type": "string"}, "example": _RESULTS}}
    return told


BEGIN = operation(
    "beginBatch",
    _TAG,
    "Run a workflow, or ask a chat, for many inputs",
    'Takes JSON Lines, each `{"inputs": {...}}`, up to 100,000 of them or 50 MB, and begins a run for each, in order. '
    "`workflow_id` is an app's id (its published version) or a version's. A line that cannot become a run (it is no "
    "JSON object, an input will not do) counts as failed, and says why among the results; the others run all the same. "
    "Of a chat app each line is a message, with a `query` and maybe a `conversation_id`: lines of one conversation are "
    "answered one after the other. "
    "A batch goes on after a crash of the server: no line is run to its end twice.",
    responses(
        (_EMPTY, _NO_KEY, _NO_WORKFLOW, CONFLICT, IN_PROGRESS, _STALE, _TOO_LARGE, _WRONG_TYPE),
        202,
        json=_ACCEPTED,
    ),
    [
        parameter("path", "workflow_id", "An app's id or a version's", _UUID),
        parameter("query", "user", "Your name for whoever the runs are made for", {"type": "string", "maxLength": 255}),
        parameter(
            "query",
            "concurrency",
            "How many of its runs are under way at once",
            {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
        ),
        parameter(
            "query",
            "rpm",
            "How many of its runs are begun a minute, at most, evenly spaced",
            {"type": "integer", "minimum": 1, "maximum": 100_000},
        ),
        KEY,
    ],
    {"application/jsonl": _JSON_LINES, "application/x-ndjson": _JSON_LINES, "text/plain": _JSON_LINES},
)
LIST = operation(
    "listBatches",
    _TAG,
    "The app's batches",
    "Newest first.",
    responses(
        (error("invalid_param", "cursor: Input should be the next_cursor of the page before", 400), _NO_KEY),
        json={"data": [_BATCH], "next_cursor": None},
    ),
    [
        parameter(
            "query", "limit", "Batches on a page", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
        ),
        parameter("query", "cursor", "The next_cursor of the page before", {"type": "string"}),
    ],
)
DETAIL = operation(
    "getBatch",
    _TAG,
    "How far a batch is",
    "`status` is `running`, `stopped` or `ended`; `ended_at` is set once the last run has ended. The numbers say how "
    "many lines stand how, and add up to `total`: `queued` ones have not been begun, and `stopped` has those, too, "
    "that never were because the batch was stopped.",
    responses((_NO_KEY, _NO_BATCH), json=_BATCH),
    _ID,
)
RESULTS = operation(
    "getBatchResults",
    _TAG,
    "The results of a batch",
    "JSON Lines, one for each line of the batch, in its order. A line that is not over has the status `queued`, "
    "`running` or `paused`, and no outputs; `only=ended` leaves these out. Lines that are messages also have `answer`, "
    "`conversation_id` and `message_id`.",
    _results(),
    [*_ID, parameter("query", "only", "Leave out lines that are not over", {"type": "string", "enum": ["ended"]})],
)
STOP = operation(
    "stopBatch",
    _TAG,
    "Stop a batch",
    "Its runs are stopped, and lines that wait are never begun. Nothing happens to a batch that is over.",
    responses((_NO_KEY, _NO_BATCH), json=dict(_BATCH) | {"status": "stopped", "running": 0, "stopped": 1}),
    _ID,
)
