"""Forms that wait: responses."""

from __future__ import annotations

from typing_extensions import TypedDict

from headrace.api.http.schema import Media, Uuid
from headrace.api.native.schemas.common import APP_ID, RUN_ID, Milliseconds, Seconds
from headrace.kernel.graph import node_of
from headrace.ports import App, Form
from headrace.times import milliseconds, whole_seconds

TAG = "Human input"


class FormLine(TypedDict):
    """A form that a run waits for."""

    id: Uuid
    app_id: Uuid
    app_name: str
    workflow_run_id: Uuid
    node_id: str
    node_title: str
    form_token: str | None
    created_at: Seconds
    created_at_ms: Milliseconds
    expires_at: Seconds


class FormPage(TypedDict):
    """A page of the forms that wait, the first due first."""

    data: list[FormLine]
    next_cursor: str | None


def form_line(form: Form, app: App, *, token: bool) -> FormLine:
    return {
        "id": form.id,
        "app_id": form.app,
        "app_name": app.name,
        "workflow_run_id": form.run,
        "node_id": node_of(form.node),
        "node_title": form.title,
        "form_token": form.token if token else None,
        "created_at": whole_seconds(form.created_at),
        "created_at_ms": milliseconds(form.created_at),
        "expires_at": form.expires_at,
    }


_FORM: FormLine = {
    "id": "3f6c2a1e-7d5b-4e0f-8a9c-1b2d3e4f5a6b",
    "app_id": APP_ID,
    "app_name": "Review",
    "workflow_run_id": RUN_ID,
    "node_id": "review",
    "node_title": "Review the draft",
    "form_token": "Zm9ybS10b2tlbi1vZi0zMi1yYW5kb20tYnl0ZXMhISE",
    "created_at": 1795226714,
    "created_at_ms": 1795226714204,
    "expires_at": 1795313114,
}
FORMS = Media(FormPage, {"data": [_FORM], "next_cursor": None})
