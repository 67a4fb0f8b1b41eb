"""Triggers: requests and responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Url, Uuid, closed, described
from headrace.api.native.schemas.common import APP_ID, RUN_ID, Seconds, Status, one_of
from headrace.triggers.listing import TriggerLine

TRIGGER_ID = "3f6f2f0a-52f4-5a3c-8f0e-0d6a3b0a9c11"


class TriggeredRun(TypedDict):
    """The newest run that a trigger started."""

    id: Uuid
    status: Status
    created_at: Seconds


@described
class TriggerBody(TypedDict):
    """A trigger of an app's current version."""

    id: Uuid
    app_id: Uuid
    app_name: str
    node_id: str
    title: str
    kind: Annotated[str, one_of("webhook", "schedule", "plugin")]
    status: Annotated[str, one_of("active", "paused", "invalid")]
    """`invalid`: the schedule is never due."""
    url: Url | None
    """Of a webhook; null for keys without the permission `run`, since the URL starts runs."""
    schedule: str | None
    """A cron expression."""
    timezone: str | None
    next_at: Seconds | None
    """When the schedule is due."""
    last_run: TriggeredRun | None


class TriggerList(TypedDict):
    """Triggers, by app and in the order of the file."""

    data: list[TriggerBody]


@closed
class FireRequest(TypedDict):
    """A run that begins at a trigger."""

    inputs: NotRequired[Mapping[str, Any] | None]
    """What the run is started with. Of a webhook: `headers`, `query_params` and `body`."""


def trigger_body(line: TriggerLine, base_url: str | None) -> TriggerBody:
    """`base_url`: of the server, None where the URL is not shown."""
    run, trigger = line.last_run, line.trigger
    return {
        "id": trigger.id,
        "app_id": trigger.app.id,
        "app_name": trigger.app.name,
        "node_id": trigger.node,
        "title": trigger.title,
        "kind": trigger.trigger.kind,
        "status": line.status,
        "url": base_url + line.path if base_url is not None and line.path is not None else None,
        "schedule": None if line.schedule is None else line.schedule.expression,
        "timezone": None if line.schedule is None else line.schedule.timezone,
        "next_at": None if line.next_at is None else int(line.next_at),
        "last_run": None if run is None else {"id": run.run, "status": run.status, "created_at": int(run.created_at)},
    }


# ----------------------------------------------------------------------------------------------------------- examples

_TRIGGER: TriggerBody = {
    "id": TRIGGER_ID,
    "app_id": APP_ID,
    "app_name": "Orders",
    "node_id": "1736400000000",
    "title": "Order received",
    "kind": "webhook",
    "status": "active",
    "url": "https://headrace.example/triggers/webhook/2N0fvZ0mDTqqhB7J5aVnKx3c",
    "schedule": None,
    "timezone": None,
    "next_at": None,
    "last_run": {"id": RUN_ID, "status": "succeeded", "created_at": 1795226714},
}

TRIGGER = Media(TriggerBody, _TRIGGER)
TRIGGERS = Media(TriggerList, {"data": [_TRIGGER]})
FIRE = Media(FireRequest, {"inputs": {"body": {"order": {"id": 7}}}})
