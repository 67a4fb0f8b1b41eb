"""Batches: responses."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Uuid, described
from headrace.api.native.schemas.common import (
    APP_ID,
    BATCH_ID,
    USER,
    WORKFLOW_ID,
    Milliseconds,
    Seconds,
    one_of,
)


class AcceptedBatch(TypedDict):
    """A batch that is stored, and will be executed."""

    batch_id: Uuid
    status: Annotated[str, one_of("running", "stopped", "ended")]
    total: int
    created_at: Seconds


@described
class BatchDetail(TypedDict):
    """A batch as it is now."""

    id: Uuid
    workflow_id: Uuid
    app_id: Uuid
    status: Annotated[str, one_of("running", "stopped", "ended")]
    total: int
    queued: int
    """Lines whose run has not begun."""
    running: int
    paused: int
    succeeded: int
    partial_succeeded: int
    failed: int
    stopped: int
    concurrency: int
    rpm: int | None
    user: str
    created_at: Seconds
    created_at_ms: Milliseconds
    ended_at: Seconds | None
    ended_at_ms: Milliseconds | None


class BatchPage(TypedDict):
    """Batches, newest first."""

    data: list[BatchDetail]
    next_cursor: str | None


# ----------------------------------------------------------------------------------------------------------- examples

_RUNNING: BatchDetail = {
    "id": BATCH_ID,
    "workflow_id": WORKFLOW_ID,
    "app_id": APP_ID,
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
    "user": USER,
    "created_at": 1795226714,
    "created_at_ms": 1795226714250,
    "ended_at": None,
    "ended_at_ms": None,
}
_TEXT = {"type": "string"}
_LINES = """{"inputs": {"query": "hello"}}
{"inputs": {"query": "good morning"}}
{"inputs": {}}
"""

ACCEPTED = Media(AcceptedBatch, {"batch_id": BATCH_ID, "status": "running", "total": 3, "created_at": 1795226714})
BATCH = Media(BatchDetail, _RUNNING)
BATCHES = Media(BatchPage, {"data": [_RUNNING], "next_cursor": None})
STOPPED = Media(BatchDetail, {**_RUNNING, "status": "stopped", "running": 0, "stopped": 1})
LINES = [Media(None, _LINES, kind, _TEXT) for kind in ("application/jsonl", "application/x-ndjson", "text/plain")]
RESULTS = Media(
    None,
    '{"index":0,"workflow_run_id":"fb47b2e6-5e43-4f90-be01-d5c5a088d156","status":"succeeded",'
    '"outputs":{"answer":"hi"},"error":null,"elapsed_time":0.81,"total_tokens":150}\n'
    '{"index":1,"workflow_run_id":"0d9f6a0e-4c0e-5f4e-9f43-2b6a8f1d7c55","status":"running",'
    '"outputs":null,"error":null,"elapsed_time":null,"total_tokens":null}\n'
    '{"index":2,"workflow_run_id":null,"status":"failed","outputs":null,'
    '"error":"query is required in input form","elapsed_time":null,"total_tokens":null}\n',
    "application/jsonl",
    _TEXT,
)
