"""Batches: responses."""

from __future__ import annotations

from dataclasses import replace
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
from headrace.batches.progress import Progress
from headrace.ports import Batch
from headrace.times import milliseconds, whole_seconds


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


def batch_detail(batch: Batch, progress: Progress) -> BatchDetail:
    return {
        "id": batch.id,
        "workflow_id": batch.version,
        "app_id": batch.app,
        "status": batch.status,
        "total": batch.total,
        "queued": progress.queued,
        "running": progress.running,
        "paused": progress.paused,
        "succeeded": progress.succeeded,
        "partial_succeeded": progress.partial_succeeded,
        "failed": progress.failed,
        "stopped": progress.stopped,
        "concurrency": batch.concurrency,
        "rpm": batch.rpm,
        "user": batch.user,
        "created_at": whole_seconds(batch.created_at),
        "ended_at": whole_seconds(batch.ended_at),
        "created_at_ms": milliseconds(batch.created_at),
        "ended_at_ms": milliseconds(batch.ended_at),
    }


# ----------------------------------------------------------------------------------------------------------- examples

_BATCH = Batch(BATCH_ID, APP_ID, WORKFLOW_ID, USER, 3, 1795226714.25)
_RUNNING = batch_detail(_BATCH, Progress(running=1, succeeded=1, failed=1))
_STOPPED = batch_detail(replace(_BATCH, status="stopped"), Progress(succeeded=1, failed=1, stopped=1))
_TEXT = {"type": "string"}
_LINES = """{"inputs": {"query": "hello"}}
{"inputs": {"query": "good morning"}}
{"inputs": {}}
"""

ACCEPTED = Media(AcceptedBatch, {"batch_id": BATCH_ID, "status": "running", "total": 3, "created_at": 1795226714})
BATCH = Media(BatchDetail, _RUNNING)
BATCHES = Media(BatchPage, {"data": [_RUNNING], "next_cursor": None})
STOPPED = Media(BatchDetail, _STOPPED)
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
