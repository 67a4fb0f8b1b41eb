"""Forms: what a run asks of people, and what has come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, cast

from headrace.kernel.events import FormExpired, FormRequested, FormSubmitted, Record, RunPaused
from headrace.kernel.graph import node_of
from headrace.values import File, Value

WAITING: Final = "waiting"
SUBMITTED: Final = "submitted"
TIMEOUT: Final = "timeout"
EXPIRED: Final = "expired"

LATEST: Final = 253_402_300_799  # the end of the year 9999: the latest time that dates can show

WEBAPP: Final = "webapp"
EMAIL: Final = "email"

FILE_TYPES: Final = ("file", "file-list")
"""The types of inputs whose values are files."""

PLACEHOLDER = re.compile(r"\{\{#\$output\.([a-zA-Z_][a-zA-Z0-9_]{0,29})#\}\}")
"""Where the content of a form has the value of an input."""

FormOutcome: TypeAlias = FormSubmitted | FormExpired


def expires_at(request: FormRequested, at: float) -> int:
    """When the time of a form that was requested `at` a time is over, in seconds since the epoch."""
    return min(int(at) + request.seconds, LATEST)


def token_of(request: FormRequested) -> str | None:
    """The token by which clients of the API open a form; None if it is delivered by e-mail only."""
    return next((str(item["token"]) for item in request.deliveries if item["type"] == WEBAPP), None)


def without_tokens(record: Record) -> Record:
    """The record for clients that may not answer forms: a token alone opens the page of its form."""
    match record.event:
        case FormRequested() as event:
            return record._replace(event=replace(event, deliveries=[]))
        case RunPaused() as event:
            reasons = tuple({**reason, "form_token": None} for reason in event.reasons)
            return record._replace(event=replace(event, reasons=reasons))
        case _:
            return record


def title_of(request: FormRequested, action: str) -> str:
    """The title of an action of a form; its id if it has none."""
    return next((str(item["title"]) for item in request.actions if item["id"] == action), action)


def rendered(request: FormRequested, data: Mapping[str, Value]) -> str:
    """The content of a form with what was filled in. A value is not searched for further placeholders."""
    return PLACEHOLDER.sub(lambda match: _value_text(data.get(match[1])), request.content)


def _value_text(value: Value) -> str:
    match value:
        case None:
            return ""
        case File():
            return "[file]"
        case list():
            return f"[{len(cast('list[Value]', value))} files]"
        case _:
            return str(value)


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
