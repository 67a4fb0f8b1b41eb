"""human-input: the run waits until a person has filled in a form, and takes the branch of the chosen action.

As in Dify: defaults and the options of a select are read from variables when the node is reached, and the content is
rendered then, except for the values of its own inputs (`{{#$output.name#}}`). If nobody answers in time, the branch
`__timeout` is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from secrets import token_urlsafe
from typing import ClassVar, cast

from headrace import values
from headrace.errors import NodeError
from headrace.kernel.events import FormRequested, FormSubmitted
from headrace.kernel.forms import EMAIL, WEBAPP, FormState, rendered, title_of
from headrace.node import Context, Node, OutputType, Read, Result
from headrace.nodes.human_input.config import (
    Delivery,
    FileInput,
    FormInput,
    HumanInputConfig,
    ListSource,
    Paragraph,
    Recipient,
    Select,
    StringSource,
)
from headrace.ports.services import Resources
from headrace.values import Value

TIMEOUT_HANDLE = "__timeout"
_SECONDS = {"hour": 3600, "day": 24 * 3600}
_TOKEN_BYTES = 32


class HumanInput(Node[HumanInputConfig]):
    type = "human-input"
    instant: ClassVar[bool] = True
    branching: ClassVar[bool] = True
    notes: ClassVar[str] = "both versions; first and later forms of the file format; see [human input](human-input.md)"

    def branches(self) -> Iterable[str]:
        return [*(action.id for action in self.config.user_actions), TIMEOUT_HANDLE]

    def reads(self) -> Iterable[Read]:
        yield from super().reads()
        for index, item in enumerate(self.config.inputs):
            field, source = _source(item)
            if source is not None and source.type == "variable":
                yield tuple(source.selector), ("inputs", index, field, "selector")

    def outputs_schema(self) -> Mapping[str, OutputType]:
        types = {"file": "file", "file-list": "array[file]"}
        answers = {
            item.output_variable_name: OutputType(types.get(item.type, "string"), nullable=True)
            for item in self.config.inputs
        }
        text = OutputType("string")
        return {**answers, "__action_id": text, "__action_value": text, "__rendered_content": text}

    def missing_requirements(self, resources: Resources) -> Iterable[str]:
        mails = [item.config.recipients for item in self.config.deliveries if item.type == EMAIL]
        if mails and resources.mail.missing:
            yield f"To send e-mails, set {', '.join(resources.mail.missing)}."
        for recipients in mails:
            if recipients.whole_workspace or recipients.include_bound_group:
                yield "No e-mail can be sent to a whole workspace of Dify: name its members in the file."
            for recipient in recipients.items:
                member = recipient.reference_id or recipient.user_id
                if not (recipient.email or recipient.selector) and member not in resources.mail.members:
                    yield f"The address of a recipient is not known: set HEADRACE_MEMBERS={member}=ADDRESS."

    async def run(self, ctx: Context) -> Result | FormRequested:
        return self._request(ctx) if ctx.form is None else self._result(ctx.form)

    def _request(self, ctx: Context) -> FormRequested:
        config = self.config
        deliveries = [_delivery(item, ctx) for item in config.deliveries]
        if config.recipients_spec is not None and not any(_reaches_somebody(item, ctx) for item in deliveries):
            raise NodeError("No one can approve this step.", "HumanInputDeliveryError")
        return FormRequested(
            ctx.path,
            ctx.new_id(),
            ctx.spec.title,
            ctx.variables.render(config.form_content, values.markdown),
            [_form_input(item, ctx) for item in config.inputs],
            [action.model_dump() for action in config.user_actions],
            {
                item.output_variable_name: default
                for item in config.inputs
                if (default := _default(item, ctx)) is not None
            },
            config.timeout * _SECONDS[config.timeout_unit],
            deliveries,
        )

    def _result(self, form: FormState) -> Result:
        request, outcome = form.request, form.outcome
        if not isinstance(outcome, FormSubmitted):
            return Result(_action_outputs("", "", request.content), handle=TIMEOUT_HANDLE)
        data, title = outcome.data, title_of(request, outcome.action)
        own = _action_outputs(outcome.action, title, rendered(request, data))
        return Result({**data, **own}, inputs=data, handle=outcome.action)


def _action_outputs(action: str, title: str, content: str) -> dict[str, Value]:
    return {"__action_id": action, "__action_value": title, "__rendered_content": content}


def _source(item: FormInput) -> tuple[str, StringSource | ListSource | None]:
    """The field of an input that may name a variable, and its value."""
    match item:
        case Paragraph():
            return "default", item.default
        case Select():
            return "option_source", item.option_source
        case FileInput():
            return "", None


def _form_input(item: FormInput, ctx: Context) -> dict[str, Value]:
    """An input as the form shows it, whose options no longer change."""
    fields = item.model_dump()
    if isinstance(item, Select) and item.option_source.type == "variable":
        exists, options = ctx.variables.find(item.option_source.selector)
        if not exists:
            return fields  # with the options of the file
        if not isinstance(options, list) or not all(isinstance(option, str) for option in cast("list[Value]", options)):
            selector = ".".join(item.option_source.selector)
            raise NodeError(
                f"The options {selector} of '{item.output_variable_name}' are not a list of texts.", "TypeError"
            )
        fields["option_source"]["value"] = options
    return fields


def _default(item: FormInput, ctx: Context) -> str | None:
    """The default of an input that is a variable."""
    if not isinstance(item, Paragraph) or item.default is None or item.default.type == "constant":
        return None
    exists, value = ctx.variables.find(item.default.selector)
    return values.text(value) if exists else None


def _delivery(delivery: Delivery, ctx: Context) -> dict[str, Value]:
    """A way to deliver the form, with a token for each recipient (one for those named twice), so that who answers is
    known."""
    if delivery.type == WEBAPP:
        return {"type": WEBAPP, "token": token_urlsafe(_TOKEN_BYTES)}
    config = delivery.config
    types = {_address(item, ctx): item.type for item in config.recipients.items}
    recipients: list[Value] = [
        {"type": type_, "to": to, "token": token_urlsafe(_TOKEN_BYTES)} for to, type_ in types.items()
    ]
    if config.recipients.whole_workspace or config.recipients.include_bound_group:
        recipients.append({"type": "workspace", "to": "", "token": token_urlsafe(_TOKEN_BYTES)})
    return {
        "type": EMAIL,
        "subject": ctx.variables.render(config.subject),
        "body": ctx.variables.render(config.body, values.markdown),
        "recipients": recipients,
    }


def _address(recipient: Recipient, ctx: Context) -> str:
    """The address of a recipient, or the id of a member. A variable that has no text is named instead, so that it can
    be seen why no e-mail was sent."""
    if not recipient.selector:
        return recipient.email or recipient.reference_id or recipient.user_id
    _, value = ctx.variables.find(recipient.selector)
    text = value.strip() if isinstance(value, str) else ""
    return text or f"{{{{#{'.'.join(recipient.selector)}#}}}}"


def _reaches_somebody(delivery: Mapping[str, Value], ctx: Context) -> bool:
    if delivery["type"] == WEBAPP:
        return True
    return any(
        "@" in recipient["to"] or recipient["to"] in ctx.resources.mail.members for recipient in delivery["recipients"]
    )
