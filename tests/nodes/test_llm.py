"""The llm node: what a model is asked, what is streamed, and what comes out."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from headrace.errors import NodeError
from headrace.ports.services import ChatChunk, ChatRequest, Limits, Message
from headrace.values import File, Value
from tests.nodes.llm_world import PICTURE, USAGE, Model, failure, node, resources, run


async def test_an_answer_as_dify_shows_it():
    llm = node(
        [{"id": "s", "role": "system", "text": "You are terse."}, {"role": "user", "text": "{{#start.query#}}"}],
        context={"enabled": False, "variable_selector": []},
        vision={"enabled": False},
        model={"provider": "p", "name": "m", "mode": "chat", "completion_params": {"temperature": 0.7, "stop": ["."]}},
        structured_output_enabled=False,
    )
    ran = await run(llm, Model([ChatChunk("Echo:"), ChatChunk(" good"), ChatChunk(" morning")]))
    assert ran.texts == ["Echo:", " good", " morning"]
    assert ran.result.outputs == {
        "text": "Echo: good morning",
        "reasoning_content": "",
        "usage": USAGE.wire(),
        "finish_reason": "stop",
    }
    assert ran.result.inputs == {}
    assert ran.result.process == {
        "model_mode": "chat",
        "prompts": [
            {"role": "system", "text": "You are terse.", "files": []},
            {"role": "user", "text": "good morning", "files": []},
        ],
        "usage": USAGE.wire(),
        "finish_reason": "stop",
        "model_provider": "p",
        "model_name": "m",
    }
    assert ran.result.usage == USAGE.wire()
    assert ran.request == ChatRequest(
        "p",
        "m",
        [Message("system", "You are terse."), Message("user", "good morning")],
        {"temperature": 0.7},
        ["."],
        None,
        "me",
        "chat",
        run="r",
    )


async def test_a_failed_call_shows_its_text_and_nothing_else():
    error = await failure(node(), Model([NodeError("scripted model failure", "InvokeBadRequestError")]))
    assert (str(error), error.kind) == ("scripted model failure", "InvokeBadRequestError")
    assert (error.inputs, error.process, error.outputs) == ({}, {}, {})


async def test_a_failed_call_shows_the_context_it_had():
    llm = node(context={"enabled": True, "variable_selector": ["start", "query"]})
    error = await failure(llm, Model([NodeError("no", "InvokeBadRequestError")]))
    assert (error.inputs, error.kind) == ({"#context#": "good morning"}, "InvokeBadRequestError")


@pytest.mark.parametrize(
    ("prompt", "scopes", "kind", "text"),
    [
        ([{"role": "user", "text": "{{#start.x#}}"}], None, "VariableNotFoundError", "Variable #start.x# not found"),
        ([], None, "NoPromptFoundError", "No prompt found in the LLM configuration"),
        ([{"role": "user", "text": ""}], None, "NoPromptFoundError", "No prompt found"),
        (
            [{"role": "user", "text": "{{#start.query#}}"}],
            {"start": {"query": None}},
            "NoPromptFoundError",
            "No prompt",
        ),
        ({"text": ""}, None, "NoPromptFoundError", "No prompt found"),
    ],
)
async def test_prompts_that_cannot_be_made(prompt: Any, scopes: Any, kind: str, text: str):
    model = Model()
    error = await failure(node(prompt), model, scopes)
    assert error.kind == kind
    assert text in str(error)
    assert model.requests == []


async def test_empty_messages_are_left_out():
    ran = await run(node([{"role": "system", "text": ""}, {"role": "user", "text": "Hi"}]))
    assert ran.request.messages == [Message("user", "Hi")]


# ----------------------------------------------------------------------------------------------- shapes of old files


@pytest.mark.parametrize(
    "data",
    [
        {"vision": None, "context": None, "prompt_config": None, "memory": None},
        {"vision": {"enabled": False, "configs": None}, "prompt_config": {"jinja2_variables": None}},
        {"vision": {"enabled": True, "configs": {"detail": "low", "variable_selector": None}}},
        {"vision": {"enabled": True}, "context": {"enabled": False, "variable_selector": None}},
        {"model": {"provider": "p", "name": "m", "mode": "chat", "completion_params": None}},
        {"model": {"provider": "p", "name": "m", "completion_params": []}},
        {"structured_output": None, "structured_output_enabled": None, "reasoning_format": None},
        {"prompt_template": [{"role": "USER", "text": "Hi", "edition_type": None, "jinja2_text": None}]},
        {"prompt_template": [{"text": "Hi"}], "variables": [], "memory": {"window": {"enabled": False, "size": 50}}},
        {"prompt_template": {"text": "Hi", "edition_type": "basic", "jinja2_text": ""}},
    ],
)
async def test_old_shapes_run(data: dict[str, Any]):
    assert (await run(node(**data))).text == "Hi"


@pytest.mark.parametrize(
    "data",
    [
        {"model": None},
        {"model": {"name": "m"}},
        {"prompt_template": "Hi"},
        {"prompt_template": [{"role": "king", "text": "Hi"}]},
        {"reasoning_format": "loud"},
    ],
)
def test_shapes_that_are_none(data: dict[str, Any]):
    with pytest.raises(ValidationError):
        node(**data)


# ------------------------------------------------------------------------------------------------ jinja and context


async def test_a_jinja_prompt_gets_null_as_what_it_is():
    llm = node(
        [{"role": "user", "text": "", "edition_type": "jinja2", "jinja2_text": "{{ q }}"}],
        prompt_config={"jinja2_variables": [{"variable": "q", "value_selector": ["start", "query"]}]},
    )
    ran = await run(llm, scopes={"start": {"query": None}})
    assert ran.request.messages[0].text == "{{ q }} with {'q': None}"


async def test_jinja_prompts_render_in_the_sandbox():
    llm = node(
        [{"role": "user", "text": "{{#never.read#}}", "edition_type": "jinja2", "jinja2_text": "{{ q }}"}],
        prompt_config={"jinja2_variables": [{"variable": "q", "value_selector": ["start", "query"]}]},
    )
    assert (await run(llm)).request.messages == [Message("user", "{{ q }} with {'q': 'good morning'}")]
    error = await failure(llm, scopes={})
    assert (str(error), error.kind) == ("Variable q not found", "VariableNotFoundError")


@pytest.mark.parametrize(
    ("value", "context"),
    [
        ("found", "found"),
        (["a", "b"], "a\nb"),
        ([{"content": "a", "title": "t"}, {"content": "b", "summary": "s"}], "a\ns\nb"),
        ([], ""),
        (None, ""),
        (7, ""),
    ],
)
async def test_context(value: Value, context: str):
    llm = node(
        [{"role": "user", "text": "<{{#context#}}> {{#start.query#}}"}],
        context={"enabled": True, "variable_selector": ["kb", "result"]},
    )
    ran = await run(llm, scopes={"start": {"query": "q"}, "kb": {"result": value}})
    assert ran.request.messages == [Message("user", f"<{context}> q")]
    assert ran.result.inputs == ({"#context#": context} if context else {})


async def test_context_that_is_switched_off_or_was_skipped_is_empty():
    prompt = [{"role": "user", "text": "<{{#context#}}>"}]
    for context in (
        {"enabled": False, "variable_selector": ["start", "query"]},
        {"enabled": True, "variable_selector": ["x", "y"]},
    ):
        assert (await run(node(prompt, context=context))).request.messages == [Message("user", "<>")]


@pytest.mark.parametrize("item", [{"title": "no content"}, 7, None, ["x"]])
async def test_context_of_no_known_structure(item: Value):
    llm = node(context={"enabled": True, "variable_selector": ["kb", "result"]})
    error = await failure(llm, scopes={"start": {"query": "q"}, "kb": {"result": [item]}})
    assert error.kind == "InvalidContextStructureError"


async def test_what_a_context_quotes_is_no_template():
    llm = node([{"role": "user", "text": "{{#context#}}"}], context={"enabled": True, "variable_selector": ["kb", "r"]})
    ran = await run(llm, scopes={"kb": {"r": "{{#env.KEY#}}"}, "env": {"KEY": "secret"}})
    assert ran.request.messages == [Message("user", "{{#env.KEY#}}")]


# ------------------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("value", [PICTURE, [PICTURE]])
async def test_vision_shows_files_with_the_last_user_message(value: Value):
    llm = node(vision={"enabled": True, "configs": {"detail": "low", "variable_selector": ["start", "pic"]}})
    ran = await run(llm, scopes={"start": {"query": "What is it?", "pic": value}})
    assert ran.request.messages == [Message("user", "What is it?", (PICTURE,), "low")]
    assert ran.result.inputs == {"#files#": [PICTURE]}
    assert ran.result.process["prompts"] == [
        {
            "role": "user",
            "text": "What is it?",
            "files": [{"type": "image", "data": "https://ex...[TRUNCATED]...long/a.png", "detail": "low"}],
        }
    ]


async def test_files_get_a_message_of_their_own_after_the_system_s():
    llm = node([{"role": "system", "text": "Look."}], vision={"enabled": True})
    ran = await run(llm, scopes={"sys": {"files": [PICTURE]}})
    assert ran.request.messages == [Message("system", "Look."), Message("user", "", [PICTURE])]


async def test_vision_without_files():
    for scopes in ({"start": {"query": "q"}}, {"start": {"query": "q"}, "sys": {"files": []}}):
        ran = await run(node(vision={"enabled": True}), scopes=scopes)
        assert ran.request.messages == [Message("user", "q")]
        assert ran.result.inputs == {}


async def test_vision_of_what_is_no_file():
    llm = node(vision={"enabled": True, "configs": {"variable_selector": ["start", "query"]}})
    assert (await failure(llm)).kind == "InvalidVariableTypeError"


async def test_files_that_a_prompt_reads_are_shown():
    ran = await run(node([{"role": "user", "text": "See {{#start.pic#}}"}]), scopes={"start": {"pic": PICTURE}})
    assert ran.request.messages == [Message("user", "See "), Message("user", "", [PICTURE])]


async def test_a_file_that_no_model_takes_is_named():
    odd = File("custom", "local_file", "a.bin")
    ran = await run(node(vision={"enabled": True}), scopes={"start": {"query": "q"}, "sys": {"files": [odd]}})
    assert ran.request.messages == [Message("user", "[Unsupported file type: a.bin (custom)]q", ())]


# -------------------------------------------------------------------------------------------------------- the rest


async def test_completion_mode():
    llm = node(
        {"text": "{{#histories#}}Human: {{#start.query#}}", "edition_type": "basic"},
        model={"provider": "p", "name": "m", "mode": "completion"},
    )
    ran = await run(llm)
    assert (ran.request.mode, ran.request.messages) == ("completion", [Message("user", "Human: good morning")])
    assert ran.result.process["prompts"] == [{"role": "user", "text": "Human: good morning"}]


async def test_completion_parameters_read_variables():
    parameters = {"temperature": "{{#start.t#}}", "x": "{{#start.s#}}", "y": "plain", "z": 1}
    llm = node([{"role": "user", "text": "Hi"}], model={"provider": "p", "name": "m", "completion_params": parameters})
    ran = await run(llm, scopes={"start": {"t": 0.5, "s": "text"}})
    assert ran.request.parameters == {"temperature": 0.5, "x": "text", "y": "plain", "z": 1}


async def test_with_memory_the_query_comes_last_but_a_workflow_has_none():
    llm = node([{"role": "system", "text": "Be terse."}], memory={"query_prompt_template": "{{#sys.query#}}"})
    ran = await run(llm, scopes={"sys": {"query": "how are you"}})
    assert ran.request.messages == [Message("system", "Be terse."), Message("user", "how are you")]
    assert (await run(llm, scopes={"sys": {}})).request.messages == [Message("system", "Be terse.")]


async def test_an_endless_answer_is_stopped_and_its_connection_closed():
    model = Model([ChatChunk("x" * 60)] * 10)
    error = await failure(node(), model, limits=Limits(max_text=100))
    assert "longer than 100 characters" in str(error)
    assert model.closed


async def test_an_answer_of_nothing():
    ran = await run(node(), Model([], finish=None))
    assert ran.texts == []
    assert (ran.text, ran.result.outputs["finish_reason"]) == ("", None)


def test_what_is_missing_is_reported_before_anything_runs():
    assert list(node().missing_requirements(resources(Model()))) == []
    other = node(model={"provider": "other", "name": "m"})
    assert list(other.missing_requirements(resources(Model()))) == ["set the key of other"]
