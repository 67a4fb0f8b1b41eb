"""Runs in Dify's responses, apart from streams: the blocking response, the detail, an entry of the log."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID, uuid5

from headrace.api.dify.run_events import paused_nodes, run_outcome
from headrace.api.dify.schemas.runs import (
    BlockingRun,
    LoggedEndUser,
    PausedRun,
    RunResult,
    WorkflowLog,
    WorkflowRun,
)
from headrace.api.http.responses import encode, encode_text
from headrace.errors import RequestError
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused
from headrace.kernel.summary import PAUSED, QUEUED, RUNNING, RunLifecycle
from headrace.node import Flow
from headrace.ports import ListedRun, Version
from headrace.runs.reader import RunView

ANONYMOUS = "DEFAULT-USER"  # Dify's end user for requests without a `user`


class BlockingResponse:
    """Folds a run's records into the response of a blocking request. This is the hot path: it keeps what it needs and
    nothing else."""

    __slots__ = ("_flow", "_lifecycle", "_run", "_task", "error")

    def __init__(self, run: RunId, task: str, flow: Flow) -> None:
        self._run = run
        self._task = task
        self._flow = flow
        self._lifecycle = RunLifecycle()
        self.error: RequestError | None = None  # set instead of a response where a message's run failed

    def feed(self, record: Record) -> bytes | None:
        """The response, once a record ends or pauses the run."""
        self._lifecycle.apply(record)
        event = record.event
        if isinstance(event, RunEnded):
            return self._encode(self._result(event, record.at))
        if isinstance(event, RunPaused):
            return self._encode(self._paused(event, record.at))
        return None

    def _result(self, end: RunEnded, at: float) -> RunResult:
        outcome = run_outcome(self._lifecycle, end, at)
        return {**outcome, "created_at": int(self._lifecycle.queued_at), "finished_at": int(at)}

    def _paused(self, pause: RunPaused, at: float) -> PausedRun:
        result = self._result(RunEnded(PAUSED, tokens=pause.tokens, steps=pause.steps), at)
        return {**result, "finished_at": None, "paused_nodes": paused_nodes(pause), "reasons": list(pause.reasons)}

    def _encode(self, data: RunResult | PausedRun) -> bytes:
        response: BlockingRun = {"task_id": self._task, "workflow_run_id": self._run, "data": data}
        return encode(response)


def workflow_run(run: RunId, view: RunView) -> WorkflowRun:
    """GET /workflows/run/{id}. `outputs` is `{}` while the run continues, and null if it ended without any."""
    summary = view.summary
    request, end = summary.request, summary.ended
    inputs = {**request.inputs, **{f"sys.{name}": value for name, value in request.system.items()}}
    outputs = "{}"
    if end is not None:
        outputs = encode_text(dict(end.outputs)) if end.outputs else None
    return {
        "id": run,
        "workflow_id": request.version,
        "status": RUNNING if summary.status == QUEUED else summary.status,  # Dify has no queued runs
        "inputs": encode_text(inputs),
        "outputs": outputs,
        "error": end.error if end else None,
        "total_steps": summary.steps,
        "total_tokens": summary.tokens,
        "created_at": int(summary.queued_at),
        "finished_at": None if summary.ended_at is None else int(summary.ended_at),
        "elapsed_time": summary.elapsed_so_far or 0.0,
    }


def workflow_log(summary: ListedRun, version: Version | None) -> WorkflowLog:
    """An entry of GET /workflows/logs. Dify names a version by when it was published."""
    published_at = datetime.fromtimestamp(version.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f") if version else None
    end_user: LoggedEndUser | None = None
    if summary.end_user is not None:
        end_user = {
            "id": summary.end_user,
            "type": "service-api",
            "is_anonymous": summary.session == ANONYMOUS,
            "session_id": summary.session,
        }
    trigger = re.match(r"trigger-(\w+):", summary.source)  # webhook, schedule or plugin
    return {
        "id": str(uuid5(UUID(summary.run), "log")),
        "workflow_run": {
            "id": summary.run,
            "version": published_at,
            "status": summary.status,
            "triggered_from": trigger[1] if trigger else "app-run",
            "error": summary.error,
            "elapsed_time": round(summary.elapsed, 6),
            "total_tokens": summary.tokens,
            "total_steps": summary.steps,
            "created_at": int(summary.created_at),
            "finished_at": None if summary.finished_at is None else int(summary.finished_at),
            "exceptions_count": summary.exceptions,
        },
        "details": None,
        "created_from": "service-api" if trigger else summary.source,
        "created_by_role": "end_user",
        "created_by_account": None,
        "created_by_end_user": end_user,
        "created_at": int(summary.created_at),
    }
