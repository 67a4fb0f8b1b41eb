"""Runs as Dify's API tells them outside of the stream: the blocking answer, the detail, a line of the log."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid5

from headrace.api.http.json import encode, encode_text
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused, RunQueued, RunStarted
from headrace.ports import RunSummary, Version
from headrace.runs.service import RunView
from headrace.values import Value

ANONYMOUS = "DEFAULT-USER"  # whom Dify takes a caller for who does not say


def seconds(since: float, until: float) -> float:
    return round(max(0.0, until - since), 6)


def outcome(
    run: RunId, queued: RunQueued, queued_at: float, since: float | None, ended: RunEnded, at: float
) -> dict[str, Value]:
    """`data` of a blocking answer; workflow_finished says a little more. `since`: when the run started, if it did."""
    return {
        "id": run,
        "workflow_id": queued.version,
        "status": ended.status,
        "outputs": ended.outputs,
        "error": ended.error,
        "elapsed_time": seconds(queued_at if since is None else since, at),
        "total_tokens": ended.tokens,
        "total_steps": ended.steps,
        "created_at": int(queued_at),
        "finished_at": int(at),
    }


class Blocking:
    """Folds a run's records into the one answer of a blocking call. Does as little as can be: it is the hot path."""

    __slots__ = ("_queued", "_queued_at", "_run", "_since", "_task")

    def __init__(self, run: RunId, task: str) -> None:
        self._run = run
        self._task = task
        self._queued: RunQueued | None = None
        self._queued_at = 0.0
        self._since: float | None = None

    def feed(self, record: Record) -> bytes | None:
        """The answer, once this record ends or pauses the run."""
        event = record.event
        if isinstance(event, RunEnded):
            queued = self._queued
            assert queued is not None
            return self._answer(outcome(self._run, queued, self._queued_at, self._since, event, record.at))
        if isinstance(event, RunQueued):
            self._queued, self._queued_at = event, record.at
        elif isinstance(event, RunStarted):
            self._since = record.at
        elif isinstance(event, RunPaused):
            return self._paused(event, record.at)
        return None

    def _paused(self, paused: RunPaused, at: float) -> bytes:
        queued = self._queued
        assert queued is not None
        data = outcome(self._run, queued, self._queued_at, self._since, RunEnded("paused"), at)
        return self._answer(
            data
            | {
                "finished_at": None,
                "paused_nodes": [reason["node_id"] for reason in paused.reasons if "node_id" in reason],
                "reasons": list(paused.reasons),
            }
        )

    def _answer(self, data: dict[str, Value]) -> bytes:
        return encode({"task_id": self._task, "workflow_run_id": self._run, "data": data})


def detail(run: RunId, view: RunView) -> bytes:
    """GET /workflows/run/{id}: inputs and outputs are JSON within JSON; no outputs at the end are null."""
    state = view.state
    queued, ended = state.queued, state.ended
    assert queued is not None
    inputs = {**queued.inputs, **{f"sys.{name}": value for name, value in queued.system.items()}}
    since = state.queued_at if state.started_at is None else state.started_at
    outputs = "{}"
    if ended is not None:
        outputs = encode_text(dict(ended.outputs)) if ended.outputs else None
    return encode(
        {
            "id": run,
            "workflow_id": queued.version,
            "status": ended.status if ended else "paused" if state.paused else "running",
            "inputs": encode_text(inputs),
            "outputs": outputs,
            "error": ended.error if ended else None,
            "total_steps": ended.steps if ended else state.totals.steps,
            "total_tokens": ended.tokens if ended else state.totals.tokens,
            "created_at": int(state.queued_at),
            "finished_at": None if state.ended_at is None else int(state.ended_at),
            "elapsed_time": 0.0 if state.ended_at is None else seconds(since, state.ended_at),
        }
    )


def log_line(summary: RunSummary, version: Version | None) -> dict[str, Value]:
    """One entry of GET /workflows/logs. Dify names a version by when it was published."""
    published = datetime.fromtimestamp(version.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f") if version else None
    end_user = None
    if summary.end_user is not None:
        end_user = {
            "id": summary.end_user,
            "type": "service-api",
            "is_anonymous": summary.session == ANONYMOUS,
            "session_id": summary.session,
        }
    return {
        "id": str(uuid5(UUID(summary.run), "log")),
        "workflow_run": {
            "id": summary.run,
            "version": published,
            "status": summary.status,
            "triggered_from": "app-run",
            "error": summary.error,
            "elapsed_time": round(summary.elapsed, 6),
            "total_tokens": summary.tokens,
            "total_steps": summary.steps,
            "created_at": int(summary.created_at),
            "finished_at": None if summary.finished_at is None else int(summary.finished_at),
            "exceptions_count": summary.exceptions,
        },
        "details": None,
        "created_from": summary.source,
        "created_by_role": "end_user",
        "created_by_account": None,
        "created_by_end_user": end_user,
        "created_at": int(summary.created_at),
    }
