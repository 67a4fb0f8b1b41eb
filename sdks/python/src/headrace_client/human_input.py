"""The forms of runs that wait for a person's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from headrace_client.file_inputs import Variable
from headrace_client.response_model import Id, ResponseModel


class FormInput(ResponseModel):
    """A field of a form. `type`: paragraph, select, file or file-list."""

    type: str = ""
    output_variable_name: str = ""
    default: dict[str, Any] | None = None
    option_source: dict[str, Any] | None = None
    allowed_file_types: list[str] | None = None
    allowed_file_extensions: list[str] | None = None
    allowed_file_upload_methods: list[str] | None = None
    number_limits: int | None = None

    @property
    def options(self) -> list[str]:
        """The options of a select."""
        return (self.option_source or {}).get("value") or []


class FormAction(ResponseModel):
    """A button of a form."""

    id: str
    title: Id = ""
    button_style: str | None = None


class HumanInputForm(ResponseModel):
    """The form of a run that waits for a person's input."""

    form_content: str | None = None
    inputs: list[FormInput] = Field(default_factory=list)
    resolved_default_values: dict[str, Any] | None = None
    user_actions: list[FormAction] = Field(default_factory=list)
    expiration_time: float | None = None

    def variables(self) -> Mapping[str, Variable]:
        """The inputs as variables that may accept files."""
        return {item.output_variable_name: Variable(item.type, item.allowed_file_types or ()) for item in self.inputs}


class HumanInputRequiredData(ResponseModel):
    """A form that a node waits for. `form_token` is None if the form is delivered by e-mail only."""

    form_id: Id = ""
    node_id: Id = ""
    node_title: Id = ""
    form_content: str | None = None
    inputs: list[FormInput] = Field(default_factory=list)
    actions: list[FormAction] = Field(default_factory=list)
    display_in_ui: bool | None = None
    form_token: str | None = None
    resolved_default_values: dict[str, Any] | None = None
    expiration_time: float | None = None


class PauseReason(HumanInputRequiredData):
    """Why a run has paused. For a form, `TYPE` is human_input_required."""

    TYPE: str | None = None


class FormFilledData(ResponseModel):
    """A form that has been submitted. `rendered_content` is its text with the submitted values."""

    node_id: Id = ""
    node_title: Id = ""
    rendered_content: str | None = None
    action_id: Id = ""
    action_text: Id = ""
    submitted_data: dict[str, Any] | None = None


class FormTimeoutData(ResponseModel):
    """A form whose time is over."""

    node_id: Id = ""
    node_title: Id = ""
    expiration_time: float | None = None
