"""Forms: what a run asks of people, and what has come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from headrace.kernel.events import FormExpired, FormRequested, FormSubmitted
from headrace.kernel.graph import node_of
from headrace.values import Value

WAITING: Final = "waiting"
SUBMITTED: Final = "submitted"
TIMEOUT: Final = "timeout"
EXPIRED: Final = "expired"

WEBAPP: Final = "webapp"
EMAIL: Final = "email"

FormOutcome: TypeAlias = FormSubmitted | FormExpired


def expires_at(request: FormRequested, at: float) -> int:
    """When the time of a form that was requested `at` a time is over, in seconds since the epoch."""
    return int(at) + request.seconds


def token_of(request: FormRequested) -> str | None:
    """The token by which clients of the API open a form; None if it is delivered by e-mail only."""
    return next((str(item["token"]) for item in request.deliveries if item["type"] == WEBAPP), None)


@dataclass(slots=True)
class FormState:
    """A form of a node that has not ended. Without an `outcome` it waits."""

    request: FormRequested
    requested_at: float
    outcome: FormOutcome | None = None

    @property
    def expires_at(self) -> int:
        return expires_at(self.request, self.requested_at)

    def reason(self) -> dict[str, Value]:
        """Why the run is paused, as Dify's API shows it."""
        request = self.request
        return {
            "TYPE": "human_input_required",
            "form_id": request.form,
            "form_content": request.content,
            "inputs": list(request.inputs),
            "actions": list(request.actions),
            "node_id": node_of(request.path),
            "node_title": request.title,
            "resolved_default_values": dict(request.defaults),
            "form_token": token_of(request),
            "expiration_time": self.expires_at,
        }
