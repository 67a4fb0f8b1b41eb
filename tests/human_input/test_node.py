"""The node human-input by itself: its form, and what it makes of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.dsl.load import inspect, load
from headrace.errors import InvalidParam, NodeError, RequestError
from headrace.kernel.events import FormExpired, FormRequested, FormSubmitted
from headrace.kernel.forms import FormState
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Context, Result
from headrace.nodes import registry
from headrace.nodes.human_input.answer import accept
from headrace.nodes.human_input.config import HumanInputConfig
from headrace.nodes.human_input.node import HumanInput
from headrace.ports.mail import MailSetup
from headrace.ports.services import Limits
from headrace.values import File, Value
from tests.resources import only

from .flows import APPROVE, PARAGRAPH, WEBAPP, human_input, workflow

PICTURE = File("image", "local_file", "a.png", ".png", "image/png", 12, None, "0d5f", "http://127.0.0.1/a.png")
FILES = {"allowed_file_types": ["image"], "allowed_file_extensions": [], "allowed_file_upload_methods": ["local_file"]}


def node(**fields: Any) -> HumanInput:
    return HumanInput(HumanInputConfig.model_validate(human_input(**fields)))


def context(scopes: Mapping[str, Mapping[str, Value]] | None = None) -> Context:
    return Context(
        run="run",
        app="app",
        user="user",
        spec=NodeSpec("ask", "human-input", "Review"),
        variables=Variables(scopes or {"s": {"q": "Once upon a time"}}),
        inputs={},
        resources=only(mail=MailSetup()),
        limits=Limits(),
        emit=lambda name, text: None,
        key="run/ask/0",
        new_id=lambda: "form",
        path="ask",
    )


async def requested(where: HumanInput, scopes: Mapping[str, Mapping[str, Value]] | None = None) -> FormRequested:
    request = await where.run(context(scopes))
    assert isinstance(request, FormRequested)
    return request


async def answered(where: HumanInput, request: FormRequested, action: str, **data: Value) -> Result:
    outcome = FormSubmitted("ask", request.form, action, data)
    result = await where.run(replace(context(), form=FormState(request, 0.0, outcome)))
    assert isinstance(result, Result)
    return result


async def no_file(mapping: Mapping[str, Value]) -> File:
    raise InvalidParam("Invalid upload file")


async def picture(mapping: Mapping[str, Value]) -> File:
    return PICTURE


async def test_a_form_is_rendered_except_for_what_is_to_be_filled_in() -> None:
    request = await requested(node(timeout=2, timeout_unit="day"))
    assert (request.path, request.form, request.title, request.seconds) == ("ask", "form", "Review", 2 * 24 * 3600)
    assert request.content == "# Draft\nOnce upon a time\nComment: {{#$output.comment#}}"
    assert request.inputs == [PARAGRAPH]
    assert [action["id"] for action in request.actions] == ["approve", "reject"]
    [delivery] = request.deliveries
    assert delivery["type"] == "webapp"
    assert len(delivery["token"]) >= 43


async def test_each_form_has_a_token_of_its_own() -> None:
    where = node()
    tokens = {(await requested(where)).deliveries[0]["token"] for _ in range(3)}
    assert len(tokens) == 3


async def test_defaults_and_options_are_those_of_the_moment() -> None:
    variable = {"type": "variable", "selector": ["s", "q"], "value": ""}
    unknown = {"type": "variable", "selector": ["gone", "q"], "value": "x"}
    options = {"type": "variable", "selector": ["s", "levels"], "value": []}
    inputs = [
        {**PARAGRAPH, "default": variable},
        {**PARAGRAPH, "output_variable_name": "constant", "default": {"type": "constant", "value": "c"}},
        {**PARAGRAPH, "output_variable_name": "unknown", "default": unknown},
        {"type": "select", "output_variable_name": "level", "option_source": options},
    ]
    scopes = {"s": {"q": ["a", "b"], "levels": ["low", "high"]}}
    request = await requested(node(inputs=inputs), scopes)
    assert request.defaults == {"comment": '["a", "b"]'}
    assert request.inputs[3]["option_source"] == {**options, "value": ["low", "high"]}
    with pytest.raises(NodeError, match=r"s\.levels of 'level' are not a list of texts"):
        await requested(node(inputs=inputs), {"s": {"levels": "low"}})
    assert (await requested(node(inputs=inputs), {})).inputs[3]["option_source"] == options


async def test_every_recipient_of_an_email_gets_a_token() -> None:
    recipients = {
        "whole_workspace": True,
        "items": [
            {"type": "external", "email": "ada@example.com"},
            {"type": "member", "user_id": "m1"},
            {"type": "member", "reference_id": "m2"},
            {"type": "external", "email": "ada@example.com"},
        ],
    }
    config = {"subject": "About {{#s.q#}}", "body": "Go to {{#url#}}", "recipients": recipients, "debug_mode": False}
    mail = {"id": WEBAPP["id"], "type": "email", "enabled": True, "config": config}
    request = await requested(node(delivery_methods=[mail, {**WEBAPP, "enabled": False}, {"type": "pigeon"}]))
    [delivery] = request.deliveries
    assert (delivery["subject"], delivery["body"]) == ("About Once upon a time", "Go to {{#url#}}")
    sent = [(item["type"], item["to"]) for item in delivery["recipients"]]
    assert sent == [("external", "ada@example.com"), ("member", "m1"), ("member", "m2"), ("workspace", "")]
    assert len({item["token"] for item in delivery["recipients"]}) == 4


async def test_an_answer_becomes_outputs_and_the_branch_of_its_action() -> None:
    where = node()
    result = await answered(where, await requested(where), "reject", comment="No {{#$output.comment#}}")
    assert result.handle == "reject"
    assert result.inputs == {"comment": "No {{#$output.comment#}}"}
    assert result.outputs == {
        "comment": "No {{#$output.comment#}}",
        "__action_id": "reject",
        "__action_value": "Send back",
        "__rendered_content": "# Draft\nOnce upon a time\nComment: No {{#$output.comment#}}",
    }


async def test_a_placeholder_has_a_name_of_30_letters_at_most() -> None:
    longest, longer = "a" * 30, "a" * 31
    inputs = [{**PARAGRAPH, "output_variable_name": name} for name in (longest, longer)]
    content = f"{{{{#$output.{longest}#}}}} {{{{#$output.{longer}#}}}} {{{{#$output.1st#}}}}"
    where = node(inputs=inputs, form_content=content)
    result = await answered(where, await requested(where), "approve", **{longest: "x", longer: "y"})
    assert result.outputs["__rendered_content"] == content.replace(f"{{{{#$output.{longest}#}}}}", "x")


async def test_files_are_shown_by_their_number() -> None:
    inputs = [
        {"type": "file", "output_variable_name": "doc", **FILES},
        {"type": "file-list", "output_variable_name": "docs", **FILES, "number_limits": 5},
    ]
    where = node(inputs=inputs, form_content="{{#$output.doc#}} {{#$output.docs#}} {{#$output.gone#}}|")
    request = await requested(where)
    result = await answered(where, request, "approve", doc=PICTURE, docs=[PICTURE, PICTURE])
    assert result.outputs["__rendered_content"] == "[file] [2 files] |"
    assert result.outputs["docs"] == [PICTURE, PICTURE]


async def test_a_form_that_nobody_answers_takes_the_branch_of_a_timeout() -> None:
    where = node()
    request = await requested(where)
    expired = FormState(request, 0.0, FormExpired("ask", "form", "timeout"))
    result = await where.run(replace(context(), form=expired))
    assert isinstance(result, Result)
    assert (result.handle, result.inputs) == ("__timeout", {})
    assert result.outputs == {"__action_id": "", "__action_value": "", "__rendered_content": request.content}


def test_older_files_name_their_fields_otherwise() -> None:
    older = {"type": "text-input", "output_variable_name": "comment", "placeholder": {"type": "constant", "value": "c"}}
    [field] = node(inputs=[older]).config.inputs
    default = {"type": "constant", "selector": [], "value": "c"}
    assert field.model_dump() == {"output_variable_name": "comment", "type": "paragraph", "default": default}


def test_nulls_of_the_editor_mean_defaults() -> None:
    config = node(inputs=None, user_actions=None, delivery_methods=None, form_content=None, timeout=None).config
    assert (config.inputs, config.user_actions, config.timeout) == ([], [], 36)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": [PARAGRAPH, PARAGRAPH]}, "output_variable_name 'comment' is used twice"),
        ({"user_actions": [APPROVE, APPROVE]}, "id 'approve' is used twice"),
        ({"user_actions": [{**APPROVE, "id": "not an id"}]}, "pattern"),
        ({"user_actions": [{**APPROVE, "id": "a" * 21}]}, "at most 20"),
        ({"user_actions": [{**APPROVE, "title": "a" * 101}]}, "at most 100"),
        (
            {"inputs": [{"type": "file", "output_variable_name": "f", **FILES, "allowed_file_types": ["custom"]}]},
            "exten",
        ),
        (
            {"inputs": [{"type": "file", "output_variable_name": "f", "allowed_file_upload_methods": ["tool_file"]}]},
            "loc",
        ),
        ({"inputs": [{"type": "number", "output_variable_name": "n"}]}, "number"),
        ({"inputs": ["comment"]}, "inputs.0"),
        ({"timeout": -1}, "greater than or equal to 0"),
        ({"timeout_unit": "week"}, "hour"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_rejected(fields: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        node(**fields)


def test_what_it_reads_and_puts_out_is_known() -> None:
    source = {"type": "variable", "selector": ["llm", "text"], "value": "x"}
    default = {"type": "constant", "selector": ["old", "text"], "value": "x"}
    inputs = [
        {**PARAGRAPH, "default": source},
        {**PARAGRAPH, "output_variable_name": "other", "default": default},
        {"type": "file-list", "output_variable_name": "docs", **FILES},
    ]
    where = node(inputs=inputs)
    reads = dict(where.reads())
    assert reads == {("s", "q"): ("form_content",), ("llm", "text"): ("inputs", 0, "default", "selector")}
    assert list(where.branches()) == ["approve", "reject", "__timeout"]
    types = {name: output.name for name, output in where.outputs_schema().items()}
    assert types["docs"] == "array[file]"
    assert types["comment"] == types["__rendered_content"] == "string"


SELECT = {"type": "select", "output_variable_name": "level", "option_source": {"type": "constant", "value": ["low"]}}
FORM = [
    PARAGRAPH,
    SELECT,
    {"type": "file", "output_variable_name": "doc", **FILES},
    {"type": "file-list", "output_variable_name": "docs", **FILES, "number_limits": 1},
]
VALID: dict[str, Value] = {"comment": "", "level": "low", "doc": {"transfer_method": "local_file"}, "docs": []}


@pytest.mark.parametrize(
    ("action", "change", "message"),
    [
        ("publish", {}, "Invalid action: publish"),
        ("approve", {"comment": ..., "docs": ...}, "Missing required inputs: comment, docs"),
        ("approve", {"comment": 7}, "Invalid value for paragraph input 'comment': expected string"),
        ("approve", {"level": "high"}, "Invalid value for select input 'level': high"),
        ("approve", {"level": ["low"]}, "Invalid value for select input 'level': expected string"),
        ("approve", {"doc": "a.png"}, "Invalid value for file input 'doc': expected mapping"),
        ("approve", {"docs": {}}, "Invalid value for file list input 'docs': expected list"),
        ("approve", {"docs": ["a.png"]}, "Invalid value for file list input 'docs': expected list of mappings"),
        ("approve", {"docs": [{}, {}]}, "Invalid value for file list input 'docs': exceeds number limit"),
        ("approve", {}, "Invalid value for file input 'doc': Invalid upload file"),
    ],
)
async def test_an_answer_that_is_not_valid_is_refused(action: str, change: Mapping[str, Any], message: str) -> None:
    request = await requested(node(inputs=FORM))
    inputs = {name: value for name, value in {**VALID, **change}.items() if value is not ...}
    with pytest.raises(RequestError) as refused:
        await accept(request, action, inputs, no_file)
    assert (refused.value.code, refused.value.status, refused.value.message) == ("invalid_form_data", 400, message)


async def test_a_valid_answer_has_its_files_and_nothing_else() -> None:
    request = await requested(node(inputs=FORM))
    inputs = {**VALID, "comment": "a\0b", "docs": [{"transfer_method": "local_file"}], "unknown": 1}
    data = await accept(request, "reject", inputs, picture)
    assert data == {"comment": "ab", "level": "low", "doc": PICTURE, "docs": [PICTURE]}


@pytest.mark.parametrize("limits", [{"allowed_file_types": ["video"]}, {"allowed_file_upload_methods": ["remote_url"]}])
async def test_files_of_another_kind_are_refused(limits: Mapping[str, Any]) -> None:
    request = await requested(node(inputs=[{"type": "file", "output_variable_name": "doc", **FILES, **limits}]))
    with pytest.raises(RequestError, match="file is not allowed by config"):
        await accept(request, "approve", {"doc": {}}, picture)


async def test_files_are_allowed_by_their_extension() -> None:
    limits = {**FILES, "allowed_file_types": ["custom"], "allowed_file_extensions": ["PNG"]}
    request = await requested(node(inputs=[{"type": "file", "output_variable_name": "doc", **limits}]))
    assert await accept(request, "approve", {"doc": {}}, picture) == {"doc": PICTURE}


MESSAGE = {"subject": "About {{#s.q#}}", "body": "Go to {{#url#}}"}
INITIATOR = {"type": "initiator"}
ANN = {"type": "onetime_email", "email": "ann@example.com"}
DYNAMIC = {"type": "dynamic_email", "selector": ["s", "mail"]}
CONTACT = {"type": "contact", "contact_id": "m1"}


def second(*recipients: Mapping[str, Any], spelling: str = "recipients_spec") -> HumanInput:
    """A node of version 2."""
    data = human_input(version="2", message_template=MESSAGE, debug_mode={"enabled": False, "channels": []})
    del data["delivery_methods"]
    return HumanInput(HumanInputConfig.model_validate({**data, spelling: list(recipients)}))


@pytest.mark.parametrize("spelling", ["recipients_spec", "recpients_spec"])
async def test_the_recipients_of_version_2(spelling: str) -> None:
    where = second(INITIATOR, ANN, DYNAMIC, CONTACT, {"type": "all_workspace_contacts"}, spelling=spelling)
    request = await requested(where, {"s": {"q": "it", "mail": " bob@example.com "}})
    web, mail = request.deliveries
    assert (web["type"], mail["type"]) == ("webapp", "email")
    assert (mail["subject"], mail["body"]) == ("About it", "Go to {{#url#}}")
    assert [item["to"] for item in mail["recipients"]] == ["ann@example.com", "bob@example.com", "m1", ""]
    assert (("s", "mail"), ("recipients_spec", 2, "selector")) in list(where.reads())
    problems = list(where.missing_requirements(only(mail=MailSetup())))
    assert [problem for problem in problems if "HEADRACE_MEMBERS" in problem] == [
        "The address of a recipient is not known: set HEADRACE_MEMBERS=m1=ADDRESS."
    ]


async def test_version_2_fails_if_nobody_can_answer() -> None:
    for recipients in [], [DYNAMIC], [CONTACT], [{"type": "all_workspace_contacts"}]:
        with pytest.raises(NodeError, match="No one can approve this step") as raised:
            await requested(second(*recipients), {"s": {"mail": 7}})
        assert raised.value.kind == "HumanInputDeliveryError"
    (mail,) = (await requested(second(ANN, DYNAMIC), {"s": {"mail": 7}})).deliveries
    assert [item["to"] for item in mail["recipients"]] == ["ann@example.com", "{{#s.mail#}}"]
    (web,) = (await requested(second(INITIATOR))).deliveries
    assert web["type"] == "webapp"


def test_a_recipient_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValidationError, match="recipients_spec"):
        second({"type": "pigeon"})


def test_a_file_with_version_2_loads() -> None:
    data = human_input(version="2", recipients_spec=[INITIATOR], message_template=MESSAGE)
    content = workflow({"ask": data}, ["s>ask", "ask:approve>e"])
    assert isinstance(load(content, registry(()), "review.yml").nodes["ask"], HumanInput)
    assert inspect(content, registry(()))[1] == []
