"""The configuration of human-input nodes: a form, its actions, and how it is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import AliasChoices, Field, field_validator, model_validator

from headrace.kernel.forms import EMAIL, WEBAPP
from headrace.node import Config, SelectorField, null_means_default


class StringSource(Config):
    """A text, or the variable that has it. The editor keeps both when its user switches between them."""

    type: Literal["constant", "variable"]
    selector: list[str] = Field(default_factory=list[str])
    value: str = ""

    _null = null_means_default("selector", "value")


class ListSource(Config):
    """Texts, or the variable that has them."""

    type: Literal["constant", "variable"]
    selector: list[str] = Field(default_factory=list[str])
    value: list[str] = Field(default_factory=list[str])

    _null = null_means_default("selector", "value")


class Paragraph(Config):
    output_variable_name: str
    type: Literal["paragraph"]
    default: StringSource | None = None


class Select(Config):
    output_variable_name: str
    type: Literal["select"]
    option_source: ListSource


class FileInput(Config):
    output_variable_name: str
    type: Literal["file"]
    allowed_file_types: list[Literal["image", "document", "audio", "video", "custom"]] = Field(default_factory=list)
    allowed_file_extensions: list[str] = Field(default_factory=list[str])
    allowed_file_upload_methods: list[Literal["local_file", "remote_url"]] = Field(default_factory=list)

    _null = null_means_default("allowed_file_types", "allowed_file_extensions", "allowed_file_upload_methods")

    @model_validator(mode="after")
    def _has_extensions(self) -> FileInput:
        if "custom" in self.allowed_file_types and not self.allowed_file_extensions:
            raise ValueError("allowed_file_extensions must be set when allowed_file_types has custom")
        return self


class FileListInput(FileInput):
    type: Literal["file-list"]  # pyright: ignore[reportIncompatibleVariableOverride]
    number_limits: int = Field(0, ge=0)


FormInput: TypeAlias = Annotated[Paragraph | Select | FileInput | FileListInput, Field(discriminator="type")]


class Action(Config):
    id: str = Field(max_length=20, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    title: str = Field(max_length=100)
    button_style: Literal["primary", "default", "accent", "ghost"] = "default"


class Recipient(Config):
    """An address, a variable that has one, or a member of Dify's workspace by id: newer files have it as
    `reference_id`."""

    type: str
    email: str = ""
    user_id: str = ""
    reference_id: str = ""
    selector: SelectorField = ()

    _null = null_means_default("email", "user_id", "reference_id", "selector")


class Recipients(Config):
    whole_workspace: bool = False
    include_bound_group: bool = False
    items: list[Recipient] = Field(default_factory=list[Recipient])

    _null = null_means_default("whole_workspace", "include_bound_group", "items")


class DeliveryConfig(Config):
    """The settings of an e-mail; those of a web app are empty."""

    subject: str = ""
    body: str = ""
    recipients: Recipients = Field(default_factory=Recipients)

    _null = null_means_default("subject", "body", "recipients")


class Delivery(Config):
    type: str
    enabled: bool = True
    config: DeliveryConfig = Field(default_factory=DeliveryConfig)

    _null = null_means_default("enabled", "config")


class RecipientSpec(Config):
    """A recipient in version 2 of the node. The initiator is the user of the run: its form is for clients of the API,
    like that of a web app."""

    type: Literal["initiator", "contact", "onetime_email", "dynamic_email", "all_workspace_contacts"]
    contact_id: str = ""
    email: str = ""
    selector: SelectorField = ()

    _null = null_means_default("contact_id", "email", "selector")


class MessageTemplate(Config):
    subject: str = ""
    body: str = ""

    _null = null_means_default("subject", "body")


class HumanInputConfig(Config):
    """Version 2 of the node has `recipients_spec` and `message_template` instead of `delivery_methods`."""

    delivery_methods: list[Delivery] = Field(default_factory=list[Delivery])
    recipients_spec: list[RecipientSpec] | None = Field(
        default=None, validation_alias=AliasChoices("recipients_spec", "recpients_spec")
    )
    message_template: MessageTemplate = Field(default_factory=MessageTemplate)
    form_content: str = ""
    inputs: list[FormInput] = Field(default_factory=list[FormInput])
    user_actions: list[Action] = Field(default_factory=list[Action])
    timeout: int = Field(36, ge=0)
    timeout_unit: Literal["hour", "day"] = "hour"

    _null = null_means_default(
        "delivery_methods", "message_template", "form_content", "inputs", "user_actions", "timeout", "timeout_unit"
    )

    @property
    def deliveries(self) -> list[Delivery]:
        """How the form is delivered, in either version of the node."""
        if self.recipients_spec is None:
            return [item for item in self.delivery_methods if item.enabled and item.type in (WEBAPP, EMAIL)]
        by_type = {spec.type for spec in self.recipients_spec}
        recipients = Recipients(
            whole_workspace="all_workspace_contacts" in by_type,
            items=[
                Recipient(type=spec.type, email=spec.email, reference_id=spec.contact_id, selector=spec.selector)
                for spec in self.recipients_spec
                if spec.type in ("contact", "onetime_email", "dynamic_email")
            ],
        )
        message = self.message_template
        mail = DeliveryConfig(subject=message.subject, body=message.body, recipients=recipients)
        web = [Delivery(type=WEBAPP)] if "initiator" in by_type else []
        return [*web, *([Delivery(type=EMAIL, config=mail)] if by_type - {"initiator"} else [])]

    @field_validator("inputs", mode="before")
    @classmethod
    def _as_older_files_have_them(cls, inputs: object) -> object:
        return [_newer(item) for item in cast("list[object]", inputs)] if isinstance(inputs, list) else inputs

    @field_validator("inputs")
    @classmethod
    def _named_once(cls, inputs: list[FormInput]) -> list[FormInput]:
        _check_unique("output_variable_name", [item.output_variable_name for item in inputs])
        return inputs

    @field_validator("user_actions")
    @classmethod
    def _identified_once(cls, actions: list[Action]) -> list[Action]:
        _check_unique("id", [action.id for action in actions])
        return actions


def _newer(item: object) -> object:
    """An input of a first file format, as later ones have it."""
    if not isinstance(item, dict):
        return item
    fields = cast("dict[str, object]", item)
    if fields.get("type") == "text-input":
        fields = {**fields, "type": "paragraph"}
    if "placeholder" in fields and "default" not in fields:
        fields = {**fields, "default": fields["placeholder"]}
    return fields


def _check_unique(field: str, names: Sequence[str]) -> None:
    duplicates = {name for name in names if names.count(name) > 1}
    if duplicates:
        raise ValueError(f"{field} '{min(duplicates)}' is used twice")
