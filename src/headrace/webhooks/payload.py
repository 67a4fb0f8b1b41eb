"""What a callback says, and how it is signed: as Standard Webhooks have it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from headrace.content.surrogates import mend_text
from headrace.kernel.events import NodeSucceeded, Record, RunEnded, RunId, RunPaused, RunQueued
from headrace.kernel.graph import Graph
from headrace.kernel.state import State
from headrace.ports import Callback
from headrace.runs.service import RunView
from headrace.times import times
from headrace.values import Value, plain

SECRET_PREFIX = "whsec_"
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")


def signing_secret(secret: bytes, app: str) -> str:
    """What the callbacks of an app's runs are signed with: `whsec_` and 32 bytes in base64. `secret` is the
    installation's own."""
    made = hmac.new(secret, f"callbacks of {app}".encode(), hashlib.sha256).digest()
    return SECRET_PREFIX + base64.b64encode(made).decode()


def signature(secret: str, name: str, at: int, body: bytes) -> str:
    """A `webhook-signature` of Standard Webhooks, version 1. `at`: seconds since the epoch."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = hmac.new(key, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def message(callback: Callback, view: RunView) -> bytes:
    """What a callback tells, as JSON: the same at every try, whatever the run has done since."""
    known = [record for record in view.records if record.seq is not None and record.seq <= callback.seq]
    at = datetime.fromtimestamp(callback.created_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _json({"type": callback.event, "timestamp": at, "data": _data(known, view)})


def _data(known: Sequence[Record], view: RunView) -> dict[str, Value]:
    """The run as it stood with the last of these records, under the names of GET /workflow-runs/{id}."""
    state = State(view.served.flow.graph)
    for record in known:
        state.apply(record)
    queued, ended, last = state.queued, state.ended, known[-1].event
    assert queued is not None
    since = state.queued_at if state.started_at is None else state.started_at
    return {
        "id": known[-1].run,
        "workflow_id": queued.version,
        "app_id": queued.app,
        "task_id": queued.task,
        "status": ended.status if ended else "paused",
        "outputs": ended.outputs if ended else None,
        "error": ended.error if ended else None,
        "reasons": list(last.reasons) if isinstance(last, RunPaused) else [],
        "usage": _usage(known, view.served.flow.graph),
        "total_tokens": state.totals.tokens,
        "total_steps": state.totals.steps,
        "exceptions_count": state.totals.exceptions,
        **times(created_at=state.queued_at, started_at=state.started_at, finished_at=state.ended_at),
        "elapsed_time": None if state.ended_at is None else round(max(0.0, state.ended_at - since), 6),
        "user": queued.user,
        "retry_of": queued.retry_of,
        **_message(known[-1].run, queued, ended),
    }


def _message(run: RunId, queued: RunQueued, ended: RunEnded | None) -> dict[str, Value]:
    """What is told beside of a run that answers a message."""
    if "query" not in queued.system:
        return {}
    answer = ended.outputs.get("answer") if ended else None
    return {"answer": answer or "", "conversation_id": queued.conversation, "message_id": run}


def _usage(records: Sequence[Record], graph: Graph) -> dict[str, Value]:
    """What models were paid. There is no price where currencies are mixed."""
    ends = (record.event for record in records if isinstance(record.event, NodeSucceeded))
    # a container's is the sum of what is counted already
    paid = [each.usage for each in ends if each.usage and not graph.is_container(each.path)]
    currencies = {str(each["currency"]) for each in paid if each.get("currency")} or {"USD"}
    price = sum((Decimal(str(each.get("total_price") or 0)) for each in paid), Decimal(0))
    return {
        **{name: sum(each.get(name) or 0 for each in paid) for name in _TOKENS},
        "total_price": format(price, "f") if len(currencies) == 1 else None,
        "currency": currencies.pop() if len(currencies) == 1 else None,
    }


def _json(value: Mapping[str, Value]) -> bytes:
    """Compact JSON; numbers that JSON does not have (NaN, Infinity) are null."""
    shown = plain(dict(value))
    try:
        text = json.dumps(shown, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        finite = json.loads(json.dumps(shown), parse_constant=lambda _: None)
        text = json.dumps(finite, separators=(",", ":"), ensure_ascii=False)
    return mend_text(text).encode()
