"""Forms that people fill in."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from headrace.api.dify.schemas.common import Object
from headrace.api.dify.schemas.runs import UserRequest


class DefaultSource(TypedDict):
    """Where the default of a paragraph comes from. `resolved_default_values` has the value of a variable."""

    type: Literal["constant", "variable"]
    selector: list[str]
    value: str


class OptionSource(TypedDict):
    """The options of a select: those of a variable are what they were when the form was made."""

    type: Literal["constant", "variable"]
    selector: list[str]
    value: list[str]


class FormField(TypedDict):
    """An input of a form; which other fields there are depends on its type."""

    type: Literal["paragraph", "select", "file", "file-list"]
    output_variable_name: str
    default: NotRequired[DefaultSource | None]
    option_source: NotRequired[OptionSource]
    allowed_file_types: NotRequired[list[str]]
    allowed_file_extensions: NotRequired[list[str]]
    allowed_file_upload_methods: NotRequired[list[str]]
    number_limits: NotRequired[int]


class FormAction(TypedDict):
    """A button of a form: the branch of the workflow that follows."""

    id: str
    title: str
    button_style: Literal["primary", "default", "accent", "ghost"]


class FormResponse(TypedDict):
    """A form that waits. Of `form_content` the values of its inputs, `{{#$output.name#}}`, are still to be replaced."""

    form_content: str
    inputs: list[FormField]
    resolved_default_values: dict[str, str]
    user_actions: list[FormAction]
    expiration_time: int


class FormRequest(UserRequest):
    """An answer: a value for each input, and the action. A file is an object with its `transfer_method` and
    `upload_file_id` or `url`."""

    inputs: Annotated[Object, Field(description="The value of each input by its name; all must be there.")]
    action: Annotated[str, Field(description="The id of an action.")]


class FormDefinition(TypedDict):
    """A form that a run asks a person to fill in. `form_token` is null if it is delivered by e-mail only."""

    form_id: str
    node_id: str
    node_title: str
    form_content: str
    inputs: list[FormField]
    actions: list[FormAction]
    display_in_ui: bool
    form_token: str | None
    resolved_default_values: dict[str, str]
    expiration_time: int


class FormSubmission(TypedDict):
    """The answer to a form. `rendered_content` has what was filled in."""

    node_id: str
    node_title: str
    rendered_content: str
    action_id: str
    action_text: str


class FormFilledData(FormSubmission):
    submitted_data: Object


class FormExpiredData(TypedDict):
    """Nobody has answered a form in time."""

    node_id: str
    node_title: str
    expiration_time: int


class HumanInputContent(TypedDict):
    """A form of a message's run: its definition, or what was submitted."""

    type: Literal["human_input"]
    workflow_run_id: str
    submitted: bool
    form_definition: FormDefinition | None
    form_submission_data: FormSubmission | None
