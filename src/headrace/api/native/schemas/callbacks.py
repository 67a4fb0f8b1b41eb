"""Callbacks: responses."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Url, Uuid
from headrace.api.native.schemas.common import APP_ID, RUN_ID, Milliseconds, Seconds, one_of
from headrace.ports import Callback
from headrace.times import milliseconds, whole_seconds


class CallbackBody(TypedDict):
    """A message to a run's `callback_url`, or an e-mail about a form, whose URL is `mailto:`."""

    id: Uuid
    workflow_run_id: Uuid
    event: Annotated[
        str,
        one_of("run.succeeded", "run.partial-succeeded", "run.failed", "run.stopped", "run.paused", "form.requested"),
    ]
    url: Url
    status: Annotated[str, one_of("pending", "delivered", "failed")]
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: Seconds | None
    next_attempt_at_ms: Milliseconds | None
    created_at: Seconds
    created_at_ms: Milliseconds
    delivered_at: Seconds | None
    delivered_at_ms: Milliseconds | None


class CallbackList(TypedDict):
    """A run's callbacks, oldest first."""

    data: list[CallbackBody]


class CallbackSecret(TypedDict):
    """The secret that signs an app's callbacks."""

    secret: str


def callback_body(callback: Callback) -> CallbackBody:
    return {
        "id": callback.id,
        "workflow_run_id": callback.run,
        "event": callback.event,
        "url": callback.url,
        "status": callback.status,
        "attempts": callback.attempts,
        "last_status": callback.last_status,
        "last_error": callback.last_error,
        "next_attempt_at": whole_seconds(callback.next_at),
        "created_at": whole_seconds(callback.created_at),
        "delivered_at": whole_seconds(callback.delivered_at),
        "next_attempt_at_ms": milliseconds(callback.next_at),
        "created_at_ms": milliseconds(callback.created_at),
        "delivered_at_ms": milliseconds(callback.delivered_at),
    }


# ----------------------------------------------------------------------------------------------------------- examples

_DELIVERED = Callback(
    "0d9f6a0e-4c0e-5f4e-9f43-2b6a8f1d7c55",
    APP_ID,
    RUN_ID,
    "https://example.com/hooks/headrace",
    "run.succeeded",
    12,
    1795226715.204,
    "delivered",
    attempts=2,
    last_status=204,
    delivered_at=1795226720.391,
)
_RESENT = replace(_DELIVERED, status="pending", attempts=0, next_at=1795226800.017, delivered_at=None)

CALLBACKS = Media(CallbackList, {"data": [callback_body(_DELIVERED)]})
RESENT = Media(CallbackBody, callback_body(_RESENT))
SECRET = Media(CallbackSecret, {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="})
