"""The body of a callback, and its signature according to Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from headrace import __version__
from headrace.content.surrogates import mend_text
from headrace.kernel.events import Record, RunEnded, RunId, RunPaused, RunQueued
from headrace.kernel.summary import RunSummary
from headrace.ports import Callback
from headrace.ports.services import HttpRequest
from headrace.runs.reader import RunView
from headrace.times import times
from headrace.values import Value, to_json

SECRET_PREFIX = "whsec_"
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 15.0
_RESPONSE = 16 * 1024  # bytes of a response that are read


def signing_secret(secret: bytes, app: str) -> str:
    """The secret that signs the callbacks of an app's runs: `whsec_` and 32 bytes in base64. `secret` is the
    installation's own."""
    derived_key = hmac.new(secret, f"callbacks of {app}".encode(), hashlib.sha256).digest()
    return SECRET_PREFIX + base64.b64encode(derived_key).decode()


def signature(secret: str, name: str, at: int, body: bytes) -> str:
    """A `webhook-signature` of Standard Webhooks, version 1. `at`: seconds since the epoch."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signature = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signature).decode()


def message(callback: Callback, view: RunView) -> bytes:
    """The JSON body of a callback: the same in every attempt, whatever the run has done since."""
    records = [record for record in view.records if record.seq is not None and record.seq <= callback.seq]
    at = datetime.fromtimestamp(callback.created_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _json({"type": callback.event, "timestamp": at, "data": _data(records, view)})


def _data(records: Sequence[Record], view: RunView) -> dict[str, Value]:
    """The run as it was after these records, with the names of GET /workflow-runs/{id}."""
    summary = RunSummary(view.release.flow.graph)
    for record in records:
        summary.apply(record)
    request, end, last = summary.request, summary.ended, records[-1].event
    return {
        "id": summary.run,
        "workflow_id": request.version,
        "app_id": request.app,
        "task_id": request.task,
        "status": summary.status,
        "outputs": end.outputs if end else None,
        "error": end.error if end else None,
        "reasons": list(last.reasons) if isinstance(last, RunPaused) else [],
        "usage": summary.usage.body(),
        "total_tokens": summary.usage.tokens,
        "total_steps": summary.steps,
        "exceptions_count": summary.exceptions,
        **times(created_at=summary.queued_at, started_at=summary.started_at, finished_at=summary.ended_at),
        "elapsed_time": summary.elapsed,
        "user": request.user,
        "retry_of": request.retry_of,
        **_message(summary.run, request, end),
    }


def _message(run: RunId, request: RunQueued, end: RunEnded | None) -> dict[str, Value]:
    """The further fields of a run that answers a message."""
    if "query" not in request.system:
        return {}
    answer = end.outputs.get("answer") if end else None
    return {"answer": answer or "", "conversation_id": request.conversation, "message_id": run}


def _json(value: Mapping[str, Value]) -> bytes:
    """Compact JSON; numbers that JSON does not have (NaN, Infinity) are null."""
    body = to_json(dict(value))
    try:
        text = json.dumps(body, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        finite = json.loads(json.dumps(body), parse_constant=lambda _: None)
        text = json.dumps(finite, separators=(",", ":"), ensure_ascii=False)
    return mend_text(text).encode()


def request_of(callback: Callback, body: bytes, at: int, secret: str) -> HttpRequest:
    """The request of an attempt at a time, in whole seconds since the epoch."""
    headers = (
        ("Content-Type", "application/json"),
        ("User-Agent", f"Headrace/{__version__}"),
        ("webhook-id", callback.id),
        ("webhook-timestamp", str(at)),
        ("webhook-signature", signature(secret, callback.id, at, body)),
    )
    return HttpRequest(
        "POST",
        callback.url,
        headers,
        body,
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_size=_RESPONSE,
        cut_off=True,
        follow_redirects=False,
    )
