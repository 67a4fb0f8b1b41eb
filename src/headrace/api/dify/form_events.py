"""What has happened to a form, as streams and messages show it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from headrace.api.dify.schemas.forms import (
    FormAction,
    FormDefinition,
    FormExpiredData,
    FormField,
    FormFilledData,
    FormSubmission,
    HumanInputContent,
)
from headrace.kernel.events import FormSubmitted
from headrace.kernel.forms import TIMEOUT, FormState, rendered, title_of, token_of
from headrace.kernel.graph import node_of
from headrace.values import Value


def form_definition(form: FormState) -> FormDefinition:
    request = form.request
    return {
        "form_id": request.form,
        "node_id": node_of(request.path),
        "node_title": request.title,
        "form_content": request.content,
        "inputs": cast("list[FormField]", list(request.inputs)),
        "actions": cast("list[FormAction]", list(request.actions)),
        "display_in_ui": False,
        "form_token": token_of(request),
        "resolved_default_values": cast("dict[str, str]", dict(request.defaults)),
        "expiration_time": form.expires_at,
    }


def _submission(form: FormState, outcome: FormSubmitted) -> FormSubmission:
    request = form.request
    return {
        "node_id": node_of(request.path),
        "node_title": request.title,
        "rendered_content": rendered(request, outcome.data),
        "action_id": outcome.action,
        "action_text": title_of(request, outcome.action),
    }


def form_events(form: FormState) -> Iterable[tuple[str, dict[str, Value]]]:
    """The event of the last thing that has happened to a form. None says that a form has expired with its run."""
    outcome, request = form.outcome, form.request
    if outcome is None:
        yield "human_input_required", {**form_definition(form)}
    elif isinstance(outcome, FormSubmitted):
        data: FormFilledData = {**_submission(form, outcome), "submitted_data": outcome.data}
        yield "human_input_form_filled", {**data}
    elif outcome.status == TIMEOUT:
        timeout_data: FormExpiredData = {
            "node_id": node_of(request.path),
            "node_title": request.title,
            "expiration_time": form.expires_at,
        }
        yield "human_input_form_timeout", {**timeout_data}


def message_content(run: str, form: FormState) -> HumanInputContent:
    """A form as the message shows it whose run has asked for it."""
    outcome = form.outcome
    submission = outcome if isinstance(outcome, FormSubmitted) else None
    return {
        "type": "human_input",
        "workflow_run_id": run,
        "submitted": submission is not None,
        "form_definition": form_definition(form) if submission is None else None,
        "form_submission_data": None if submission is None else _submission(form, submission),
    }
