"""Apps without a graph: what their model is told, what their callers are asked, and what is named as not run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml

from headrace.dsl.load import inspect, load
from headrace.errors import LoadError, Problem
from headrace.node import Flow
from headrace.nodes import registry
from headrace.nodes.agent.chat import AgentChat
from headrace.nodes.knowledge_retrieval import KnowledgeRetrieval
from headrace.nodes.start import Start
from headrace.ports.services import Message, Turn
from tests.nodes import llm_world
from tests.nodes.llm_world import Conversation, Model

REGISTRY = registry([])
MODEL = {"provider": "p", "name": "m", "mode": "chat", "completion_params": {"temperature": 0.5}}
COMPLETES = {**MODEL, "mode": "completion"}
FORM = [{"text-input": {"label": "Tone", "variable": "tone", "required": True, "max_length": 20}}]
BASES = {"dataset_configs": {"datasets": {"datasets": [{"dataset": {"enabled": True, "id": "d1"}}]}}}
SAID = Conversation([Turn("before?", "before!")])


def app(mode: str = "chat", **settings: Any) -> str:
    config = {"model": MODEL, "prompt_type": "simple", **settings}
    return yaml.safe_dump({"app": {"name": "n", "mode": mode}, "kind": "app", "model_config": config}, sort_keys=False)


def loaded(mode: str = "chat", **settings: Any) -> Flow:
    return load(app(mode, **settings), REGISTRY)


def problems_of(mode: str = "chat", **settings: Any) -> list[Problem]:
    return inspect(app(mode, **settings), REGISTRY)[1]


def ids(flow: Flow) -> list[str]:
    """The nodes in the order in which a run comes to them."""
    way = [flow.graph.root]
    while edges := flow.graph.edges_from.get(way[-1]):
        way.append(edges[0].target)
    return way


async def run_app(
    flow: Flow,
    query: str | None = "why?",
    inputs: Mapping[str, Any] | None = None,
    contents: Sequence[str] = (),
    history: Conversation | None = SAID,
) -> llm_world.Ran:
    """What the model is asked when a user says this, with these passages found in the knowledge bases."""
    system: dict[str, Any] = {} if query is None else {"query": query}
    if flow.mode != "completion":
        system["conversation_id"] = "c"
    passages = [{"title": "t", "content": text, "metadata": {}} for text in contents]
    scopes = {"sys": system, "start": inputs or {}, "knowledge_retrieval": {"result": passages}}
    return await llm_world.run(flow.nodes["llm"], Model(), scopes, history=history)


def texts(ran: llm_world.Ran) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in ran.request.messages]


BEFORE = [("user", "before?"), ("assistant", "before!")]


# ------------------------------------------------------------------------------------------------------- the prompt


async def test_a_chat_is_prompt_then_conversation_then_question():
    flow = loaded(pre_prompt="Be {{tone}}, {{nobody}}.", user_input_form=FORM)
    assert ids(flow) == ["start", "llm", "answer"]
    ran = await run_app(flow, inputs={"tone": "kind"})
    assert texts(ran) == [("system", "Be kind, {nobody}."), *BEFORE, ("user", "why?")]
    assert (ran.request.model, ran.request.parameters) == ("m", {"temperature": 0.5})


async def test_a_chat_without_a_prompt_is_the_conversation():
    assert texts(await run_app(loaded(pre_prompt=None))) == [*BEFORE, ("user", "why?")]


async def test_a_completion_app_says_its_prompt_as_the_user():
    form = [{"paragraph": {"label": "Text", "variable": "query", "required": True}}]
    flow = loaded("completion", pre_prompt="Translate: {{query}}", user_input_form=form)
    assert texts(await run_app(flow, None, {"query": "hola"})) == [("user", "Translate: hola")]
    assert texts(await run_app(flow, "", {"query": "hola"})) == [("user", "Translate: hola")]


async def test_what_looks_like_a_reference_is_text():
    flow = loaded(pre_prompt="{{#1711.text#}} {{#sys.user_id#}} {{ tone }} {{#a b#}} {{姓名}}", user_input_form=FORM)
    system = texts(await run_app(flow))[0]
    assert system == ("system", "{#1711.text#} {#sys.user_id#} {{ tone }} {#a b#} {{姓名}}")


async def test_an_input_is_never_read_as_a_template():
    flow = loaded(pre_prompt="Be {{tone}}.", user_input_form=FORM)
    assert texts(await run_app(flow, inputs={"tone": "{{#sys.query#}}"}))[0] == ("system", "Be {{#sys.query#}}.")


async def test_an_advanced_prompt_keeps_its_messages():
    prompt = [
        {"role": "system", "text": "Be {{tone}}. {{#context#}}|{{#histories#}}|{{#query#}}"},
        {"role": "user", "text": "Hi"},
        {"role": "assistant", "text": "Hello"},
    ]
    flow = loaded(prompt_type="advanced", chat_prompt_config={"prompt": prompt}, user_input_form=FORM, **BASES)
    expected = [("system", "Be kind. fact||why?"), ("user", "Hi"), ("assistant", "Hello"), *BEFORE, ("user", "why?")]
    assert texts(await run_app(flow, inputs={"tone": "kind"}, contents=["fact"])) == expected


async def test_an_advanced_prompt_in_completion_mode_has_a_place_for_everything():
    settings = {
        "prompt": {"text": "{{#context#}}\n{{#histories#}}\nMe ({{tone}}): {{#query#}}\nYou:"},
        "conversation_histories_role": {"user_prefix": "Me", "assistant_prefix": "You"},
    }
    flow = loaded(
        model=COMPLETES, prompt_type="advanced", completion_prompt_config=settings, user_input_form=FORM, **BASES
    )
    ran = await run_app(flow, inputs={"tone": "kind"}, contents=["fact"])
    assert texts(ran) == [("user", "fact\nMe: before?\nYou: before!\nMe (kind): why?\nYou:")]
    assert ran.request.mode == "completion"


async def test_a_simple_prompt_in_completion_mode_is_one_text_that_ends_before_the_answer():
    ran = await run_app(loaded(model=COMPLETES, pre_prompt="Be brief."))
    [(_, text)] = texts(ran)
    assert text.startswith("Be brief.\n")
    assert "<histories>\nHuman: before?\nAssistant: before!\n</histories>" in text
    assert text.endswith("\n\nHuman: why?\n\nAssistant: ")
    assert ran.request.stop == ["\nHuman:", "</histories>"]
    assert ran.request.parameters == {"temperature": 0.5}


async def test_an_authors_own_stop_words_count():
    model = {**COMPLETES, "completion_params": {"stop": ["END"]}}
    assert (await run_app(loaded(model=model, pre_prompt="x"))).request.stop == ["END"]


async def test_a_completion_app_with_a_model_in_completion_mode():
    flow = loaded("completion", model=COMPLETES, pre_prompt="Continue {{tone}}", user_input_form=FORM)
    ran = await run_app(flow, None, {"tone": "kindly"})
    assert (texts(ran), ran.request.stop) == ([("user", "Continue kindly")], [])


@pytest.mark.parametrize(
    ("upload", "seen"),
    [
        ({"enabled": True, "image": {"enabled": True, "detail": "high"}}, "high"),
        ({"enabled": True}, "low"),
        ({"image": {"enabled": True}}, "low"),
        ({"enabled": False, "image": {"enabled": True}}, None),
        ({}, None),
        (None, None),
    ],
)
async def test_pictures_are_shown_where_they_may_be_uploaded(upload: Any, seen: str | None):
    node = loaded(file_upload=upload).nodes["llm"]
    scopes = {"sys": {"query": "what?", "files": [llm_world.PICTURE]}}
    last = (await llm_world.run(node, Model(), scopes)).request.messages[-1]
    assert last == (Message("user", "what?", (llm_world.PICTURE,), seen) if seen else Message("user", "what?"))


# -------------------------------------------------------------------------------------------------------- knowledge


async def test_what_knowledge_bases_hold_comes_before_the_prompt():
    flow = loaded(pre_prompt="Be {{tone}}.", user_input_form=FORM, **BASES)
    assert ids(flow) == ["start", "knowledge_retrieval", "llm", "answer"]
    role, text = texts(await run_app(flow, inputs={"tone": "kind"}, contents=["one", "{{#sys.query#}}"]))[0]
    assert role == "system"
    assert "<context>\none\n{{#sys.query#}}\n</context>" in text
    assert text.endswith("\n\nBe kind.")


def test_how_passages_are_chosen():
    settings = {
        "datasets": {
            "datasets": [
                {"dataset": {"enabled": True, "id": "d1"}},
                {"dataset": {"enabled": False, "id": "off"}},
                {"dataset": {"enabled": True, "id": "d2"}},
                {"dataset": {"enabled": True, "id": "d1"}},
                7,
            ]
        },
        "retrieval_model": "multiple",
        "top_k": 7,
        "score_threshold": 0.4,
        "score_threshold_enabled": True,
        "reranking_enable": True,
        "reranking_model": {"reranking_provider_name": "cohere", "reranking_model_name": "rerank-3"},
        "metadata_filtering_mode": "manual",
        "metadata_filtering_conditions": {
            "logical_operator": "or",
            "conditions": [{"name": "who", "comparison_operator": "is", "value": "{{tone}}"}],
        },
    }
    node = loaded(dataset_configs=settings, user_input_form=FORM).nodes["knowledge_retrieval"]
    assert isinstance(node, KnowledgeRetrieval)
    config = node.config
    assert (config.query_variable_selector, config.dataset_ids) == (("sys", "query"), ("d1", "d2"))
    chosen = config.multiple_retrieval_config
    assert (chosen.top_k, chosen.score_threshold) == (7, 0.4)
    assert chosen.settings()["reranking_model"] == {
        "reranking_provider_name": "cohere",
        "reranking_model_name": "rerank-3",
    }
    assert config.metadata_filtering_conditions.conditions[0].value == "{{#start.tone#}}"


def test_a_threshold_that_is_off_does_not_count():
    settings = {**BASES["dataset_configs"], "score_threshold": 0.4, "score_threshold_enabled": False}
    node = loaded(dataset_configs=settings).nodes["knowledge_retrieval"]
    assert isinstance(node, KnowledgeRetrieval)
    assert (node.config.multiple_retrieval_config.score_threshold, node.config.multiple_retrieval_config.top_k) == (
        None,
        4,
    )


def test_the_first_versions_have_knowledge_bases_among_the_tools():
    tools = [{"dataset": {"enabled": True, "id": "d9"}}, {"dataset": {"enabled": False, "id": "off"}}]
    agent = {"enabled": True, "strategy": "router", "tools": tools}
    node = loaded(agent_mode=agent).nodes["knowledge_retrieval"]
    assert isinstance(node, KnowledgeRetrieval)
    assert node.config.dataset_ids == ("d9",)


def test_a_completion_app_asks_with_the_input_that_is_named():
    node = loaded("completion", dataset_query_variable="tone", user_input_form=FORM, **BASES).nodes[
        "knowledge_retrieval"
    ]
    assert isinstance(node, KnowledgeRetrieval)
    assert node.config.query_variable_selector == ("start", "tone")


def test_a_completion_app_that_names_none_says_so():
    [problem] = problems_of("completion", pre_prompt="x", **BASES)
    assert problem.message.startswith("`dataset_query_variable` is missing")
    assert (problem.fatal, ids(loaded("completion", pre_prompt="x", **BASES))) == (False, ["start", "llm", "answer"])


# ---------------------------------------------------------------------------------------------- form and features


def test_the_form_becomes_the_start_node():
    form = [
        *FORM,
        {"select": {"label": "Size", "variable": "size", "options": ["s", "l"], "default": "s"}},
        {"number": {"label": "N", "variable": "n"}},
        {"file-list": {"label": "F", "variable": "f", "allowed_file_types": ["image"]}},
    ]
    start = loaded(user_input_form=form).nodes["start"]
    assert isinstance(start, Start)
    assert [(field.variable, field.type, field.required) for field in start.config.variables] == [
        ("tone", "text-input", True),
        ("size", "select", False),
        ("n", "number", False),
        ("f", "file-list", False),
    ]
    assert start.form()[1] == {"select": {**form[1]["select"], "type": "select"}}


def test_features_are_as_written_or_as_usual():
    flow = loaded(
        opening_statement="Hi {{tone}}",
        suggested_questions=["q"],
        speech_to_text={"enabled": True},
        text_to_speech=None,
    )
    assert flow.features["opening_statement"] == "Hi {{tone}}"
    assert flow.features["suggested_questions"] == ["q"]
    assert flow.features["speech_to_text"] == {"enabled": True}
    assert flow.features["text_to_speech"] == {"enabled": False}
    assert flow.features["retriever_resource"] == {"enabled": True}
    assert "file_upload" not in flow.features  # told as for any app that never said
    assert (flow.mode, flow.name) == ("chat", "n")


# ------------------------------------------------------------------------------------------------------- not run here


def test_moderation_is_named():
    [problem] = problems_of(sensitive_word_avoidance={"enabled": True, "type": "keywords"})
    assert problem.message == "messages are not checked for sensitive words here"
    assert (problem.field, problem.fatal) == ("sensitive_word_avoidance", False)


async def test_what_an_external_data_tool_would_find_is_asked_of_the_caller():
    form = [{"external_data_tool": {"variable": "weather", "type": "api", "config": {}, "label": "W"}}]
    tools = [
        {"enabled": True, "variable": "news", "type": "api", "config": {}},
        {"enabled": True, "variable": "weather", "type": "api", "config": {}},
        {"enabled": False, "variable": "off", "type": "api", "config": {}},
    ]
    settings = {"pre_prompt": "{{weather}} {{news}} {{off}}", "user_input_form": form, "external_data_tools": tools}
    assert [problem.message.split(": ")[1].split(" must")[0] for problem in problems_of(**settings)] == [
        "'weather'",
        "'news'",
    ]
    ran = await run_app(loaded(**settings), inputs={"weather": "rain", "news": None})
    assert texts(ran)[0] == ("system", "rain  {off}")


TOOL = {"enabled": True, "provider_id": "p", "provider_type": "builtin", "tool_name": "search", "tool_parameters": {}}
MANY = {"datasets": {"datasets": [{"dataset": {"enabled": True, "id": id_}} for id_ in "de"]}}


def agent_of(mode: str = "agent-chat", **settings: Any) -> AgentChat:
    flow = loaded(mode, **settings)
    assert ids(flow) == ["start", "llm", "answer"]
    node = flow.nodes["llm"]
    assert isinstance(node, AgentChat)
    return node


@pytest.mark.parametrize(
    ("mode", "agent", "strategy"),
    [
        ("agent-chat", {"enabled": True, "strategy": "react", "tools": [TOOL]}, "react"),
        ("agent-chat", {"enabled": True, "strategy": "cot", "tools": [TOOL]}, "react"),
        ("agent-chat", {"enabled": False, "strategy": "function_call", "tools": [TOOL]}, "function_call"),
        ("chat", {"enabled": True, "strategy": "function_call", "tools": [TOOL]}, "function_call"),
        ("agent-chat", {"enabled": True, "tools": [TOOL]}, "react"),
    ],
)
def test_an_app_with_tools_is_an_agent(mode: str, agent: dict[str, Any], strategy: str):
    settings = {"agent_mode": agent, "opening_statement": "Hi", "user_input_form": FORM}
    assert problems_of(mode, **settings) == []
    flow = loaded(mode, **settings)
    assert (flow.mode, flow.features["opening_statement"]) == (mode, "Hi")
    node = agent_of(mode, **settings)
    assert (node.config.strategy, node.config.max_iteration) == (strategy, 10)
    [tool] = node.config.tools
    assert (tool.type, tool.provider_id, tool.tool_name) == ("builtin", "p", "search")


def test_the_settings_of_an_agent():
    tool = {**TOOL, "tool_parameters": {"format": "%Y", "query": ""}}
    prompt = {"first_prompt": "{{instruction}} {{tools}} [{{tool_names}}]", "next_iteration": "x"}
    agent = {"enabled": True, "strategy": "react", "max_iteration": 7, "prompt": prompt, "tools": [tool]}
    config = agent_of(agent_mode=agent, pre_prompt="{{tone}} {{other}}", user_input_form=FORM).config
    assert config.max_iteration == 7
    assert config.react_prompt == "{instruction} {tools} [{names}]"
    assert config.instruction == "{{#start.tone#}} {other}"
    assert config.tools[0].settings == {"format": {"value": "%Y"}}


def test_knowledge_bases_are_tools_of_an_agent():
    node = agent_of(agent_mode={"enabled": True, "strategy": "function_call", "tools": []}, dataset_configs=MANY)
    assert [base.dataset_ids for base in node.config.knowledge] == [("d",), ("e",)]


@pytest.mark.parametrize(
    "agent",
    [
        None,
        {},
        {"enabled": True, "strategy": "react", "tools": []},
        {"enabled": True, "strategy": "function_call", "tools": [{**TOOL, "enabled": False}, 7, {}]},
        {"enabled": True, "strategy": "router", "tools": [TOOL]},
        {"enabled": True, "strategy": "function_call", "tools": [{"web_reader": {"enabled": True}}]},
    ],
)
def test_an_agent_without_tools_is_a_chat(agent: dict[str, Any] | None):
    assert problems_of("agent-chat", agent_mode=agent) == []
    assert ids(loaded("agent-chat", agent_mode=agent)) == ["start", "llm", "answer"]


def test_a_tool_that_nobody_switched_on_is_named():
    tool = {name: value for name, value in TOOL.items() if name != "enabled"}
    [problem] = problems_of("agent-chat", agent_mode={"enabled": True, "tools": [tool]})
    assert (problem.message, problem.fatal) == (
        "the tool 'search' is not enabled (`enabled: true`): it is ignored",
        False,
    )


# ---------------------------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize("config", [None, 7, []])
def test_no_settings(config: Any):
    text = yaml.safe_dump({"app": {"name": "n", "mode": "chat"}, "model_config": config})
    with pytest.raises(LoadError, match="there is no `model_config` section"):
        load(text, REGISTRY)


BAD = """\
app: {name: n, mode: chat}
model_config:
  model:
    name: m
  user_input_form:
  - text-input:
      label: Tone
      variable: tone
      max_length: many
  - magic:
      variable: x
  - 7
  external_data_tools: {}
  suggested_questions: []
  agent_mode: {enabled: true, tools: 5}
"""


def test_what_is_wrong_is_reported_with_its_line():
    assert [(problem.line, problem.node, problem.field, problem.fatal) for problem in inspect(BAD, REGISTRY)[1]] == [
        (3, "LLM", "model.provider", True),
        (9, "Start", "variables.0.max_length", True),
        (11, "Start", "variables.1.type", True),
        (12, None, "user_input_form.2", False),
        (15, None, "agent_mode.tools", False),
    ]


def test_a_missing_model_is_reported():
    text = yaml.safe_dump({"app": {"name": "n", "mode": "chat"}, "model_config": {}})
    assert [(problem.node, problem.field, problem.message) for problem in inspect(text, REGISTRY)[1]] == [
        ("LLM", "model", "is missing")
    ]


def test_a_chat_with_a_graph_has_that_graph():
    graph = {
        "nodes": [
            {"id": "begin", "data": {"type": "start", "title": "s", "variables": []}},
            {"id": "say", "data": {"type": "answer", "title": "a", "answer": "hi"}},
        ],
        "edges": [{"source": "begin", "target": "say"}],
    }
    text = yaml.safe_dump({"app": {"name": "n", "mode": "chat"}, "workflow": {"graph": graph}, "model_config": {}})
    assert ids(load(text, REGISTRY)) == ["begin", "say"]
