"""Callbacks: responses."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Url, Uuid
from headrace.api.native.schemas.common import RUN_ID, Milliseconds, Seconds, one_of


class CallbackBody(TypedDict):
    """A message to a run's `callback_url`."""

    id: Uuid
    workflow_run_id: Uuid
    event: Annotated[str, one_of("run.succeeded", "run.partial-succeeded", "run.failed", "run.stopped", "run.paused")]
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


# ----------------------------------------------------------------------------------------------------------- examples

_DELIVERED: CallbackBody = {
    "id": "0d9f6a0e-4c0e-5f4e-9f43-2b6a8f1d7c55",
    "workflow_run_id": RUN_ID,
    "event": "run.succeeded",
    "url": "https://example.com/hooks/headrace",
    "status": "delivered",
    "attempts": 2,
    "last_status": 204,
    "last_error": None,
    "next_attempt_at": None,
    "next_attempt_at_ms": None,
    "created_at": 1795226715,
    "created_at_ms": 1795226715204,
    "delivered_at": 1795226720,
    "delivered_at_ms": 1795226720391,
}

CALLBACKS = Media(CallbackList, {"data": [_DELIVERED]})
RESENT = Media(
    CallbackBody,
    {
        **_DELIVERED,
        "status": "pending",
        "attempts": 0,
        "next_attempt_at": 1795226800,
        "next_attempt_at_ms": 1795226800017,
        "delivered_at": None,
        "delivered_at_ms": None,
    },
)
SECRET = Media(CallbackSecret, {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="})
