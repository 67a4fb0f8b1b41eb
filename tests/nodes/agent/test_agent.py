"""The agent node with a scripted model over HTTP: what the model is asked, and what comes of its answers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from headrace.adapters.models import ModelClient
from headrace.engine import Driver
from headrace.kernel.events import Delta, RunEnded, StepEnded
from headrace.kernel.response import ResponseStream
from headrace.nodes.agent.node import Agent
from headrace.ports.services import STRATEGY, ToolReference
from headrace.values import File
from tests.engine.test_crash import Killed, Mortal
from tests.models import test_anthropic as claude
from tests.models.server import ModelServer
from tests.nodes.agent.world import (
    ToolShelf,
    action,
    agent_file,
    agent_world,
    by_round,
    calls,
    constant,
    drive,
    loaded,
    question,
    react_by_round,
    says,
    tool,
)

WEATHER = tool("weather")
ROME = ("weather", {"city": "Rome"})


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


# ---------------------------------------------------------------------------------------------------- function calling


async def test_a_tool_is_called_and_its_answer_goes_back(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME, text="Let me look."), says("It is ", "20 C.")))
    ran = await drive(loaded(agent_file(WEATHER)), client)
    assert ran.outputs["text"] == "Let me look.\nIt is 20 C."
    assert ran.outputs["usage"]["total_tokens"] == 42
    assert ran.result.usage == ran.outputs["usage"]
    assert ran.outputs["files"] == []
    [(parameters, context)] = ran.shelf.calls
    assert parameters == {"city": "Rome", "unit": "C"}
    assert context.key == "run/agent/0/round[1]/call[0]"
    first, second = (request.body for request in server.requests)
    assert roles(first) == ["system", "user"]
    assert [message["content"] for message in first["messages"]] == ["Be brief.", "Weather in Rome?"]
    assert first["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "The weather of a city.",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "description": "Where"}},
                    "required": ["city"],
                },
            },
        }
    ]
    assert roles(second) == ["system", "user", "assistant", "tool"]
    assert second["messages"][2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    assert second["messages"][3] == {"role": "tool", "content": "Rome: 20 C", "tool_call_id": "call_0"}


async def test_the_signed_reasoning_of_claude_goes_back_with_the_result(server: ModelServer):
    thought = {"type": "thinking", "thinking": "Rome.", "signature": "c2ln"}
    call = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    first = [
        claude.start(),
        *claude.block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Rome."},
            {"type": "signature_delta", "signature": "c2ln"},
        ),
        *claude.block(1, call, {"type": "input_json_delta", "partial_json": '{"city": "Rome"}'}),
        *claude.end("tool_use"),
    ]
    server.answer(lambda request: claude.send(request, *first), lambda request: claude.send(request, *claude.HELLO))
    client = ModelClient({"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "k"})
    model = {"provider": "langgenius/anthropic/anthropic", "model": "claude-sonnet-4-5", "mode": "chat"}
    parameters = constant({**model, "completion_params": {"thinking": True}})
    await drive(loaded(agent_file(WEATHER, model=parameters)), client)
    await client.aclose()
    turns = server.requests[1].body["messages"]
    assert turns[1] == {"role": "assistant", "content": [thought, {**call, "input": {"city": "Rome"}}]}
    assert turns[2]["content"] == [{"type": "tool_result", "tool_use_id": "t1", "content": "Rome: 20 C"}]


async def test_parallel_calls_are_made_in_order(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME, ("weather", {"city": "Oslo"}), ROME), says("Done.")))
    ran = await drive(loaded(agent_file(WEATHER)), client)
    assert [parameters["city"] for parameters, _ in ran.shelf.calls] == ["Rome", "Oslo", "Rome"]
    answers = [(message["tool_call_id"], message["content"]) for message in server.requests[1].body["messages"][3:]]
    assert answers == [("call_0", "Rome: 20 C"), ("call_1", "Oslo: 20 C"), ("call_2", "Rome: 20 C")]


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (("weather", '{"city": "Ro'), "tool parameters validation error: the arguments are not valid JSON"),
        (("weather", "[1]"), "tool parameters validation error: the arguments are not a JSON object"),
        (("nothing", {}), "there is not a tool named nothing"),
        (("weather", r'{"city": "\ud83d\ude00\ud83d"}'), "\N{GRINNING FACE}\N{REPLACEMENT CHARACTER}: 20 C"),
        (("broken", {}), "tool invoke error: the server is away"),
        (("defective", {}), "tool invoke error: IndexError: list index out of range"),
        (("mixed", {}), 'ab\ntool response: {"n": 1}.\nThe result is at this link: https://example.com/x.'),
        (("weather", ""), ": 20 C"),
    ],
)
async def test_whatever_a_call_leads_to_goes_back_to_the_model(
    server: ModelServer, client: ModelClient, call: tuple[str, object], answer: str
):
    server.answer(by_round(calls(call), says("Sorry.")))
    ran = await drive(loaded(agent_file(WEATHER, tool("broken"), tool("defective"), tool("mixed"))), client)
    assert server.requests[1].body["messages"][3]["content"].startswith(answer)
    assert ran.outputs["text"] == "\nSorry."


async def test_calls_in_the_last_round_are_not_made(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME, text="Again.")))
    ran = await drive(loaded(agent_file(WEATHER, maximum_iterations=constant(3))), client)
    assert len(server.requests) == 3
    assert len(ran.shelf.calls) == 2
    assert ran.outputs["text"] == "Again.\nAgain.\nAgain.\n"
    *_, thought, call, _ = ran.outputs["json"]
    assert (call["label"], call["parent_id"]) == ("CALL weather", thought["parent_id"])
    assert "limit is reached" in call["data"]["output"]["tool_response"]
    last = next(entry for entry in ran.outputs["json"] if entry.get("label") == "ROUND 3")
    assert last["data"]["output"]["tool_responses"] == [call["data"]["output"]]


async def test_tools_of_the_same_name_are_told_apart(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(("b_weather", {"city": "Rome"})), says("Done.")))
    ran = await drive(loaded(agent_file(WEATHER, tool("weather", provider_name="b"))), client)
    functions = [offer["function"] for offer in server.requests[0].body["tools"]]
    assert [function["name"] for function in functions] == ["weather", "b_weather"]
    assert functions[1]["description"] == "The weather of a city. By b."
    assert len(ran.shelf.calls) == 1


async def test_settings_and_parameters_filled_by_hand(server: ModelServer, client: ModelClient):
    by_hand = {
        "settings": {"unit": {"value": {"type": "constant", "value": "{{#sys.unit#}}"}}},
        "parameters": {"city": {"auto": 0, "value": {"type": "variable", "value": ["sys", "place"]}}},
        "extra": {"description": "Where I am."},
    }
    server.answer(by_round(calls(("weather", {"city": "ignored"})), says("Done.")))
    flow = loaded(agent_file(tool("weather", **by_hand)))
    ran = await drive(flow, client, question(unit="F", place="Oslo"))
    assert ran.shelf.calls[0][0] == {"city": "Oslo", "unit": "F"}
    function = server.requests[0].body["tools"][0]["function"]
    assert function["parameters"]["properties"] == {}
    assert function["description"] == "Where I am."


@pytest.mark.parametrize("unit", [{"value": "F"}, "F", {"value": {"type": "mixed", "value": "F"}}])
async def test_every_shape_of_a_setting(server: ModelServer, client: ModelClient, unit: object):
    server.answer(by_round(calls(ROME), says("Done.")))
    ran = await drive(loaded(agent_file(tool("weather", settings={"unit": unit}))), client)
    assert ran.shelf.calls[0][0]["unit"] == "F"


async def test_tools_that_are_off_are_not_offered(server: ModelServer, client: ModelClient):
    server.answer(by_round(says("Hi.")))
    off = tool("broken", enabled=False)
    ran = await drive(loaded(agent_file(off, WEATHER, tool("draw"), allowed_tools=constant(["weather"]))), client)
    assert [offer["function"]["name"] for offer in server.requests[0].body["tools"]] == ["weather"]
    assert ran.outputs["text"] == "Hi."


async def test_images_are_shown_in_the_first_round_only(server: ModelServer, client: ModelClient):
    image = File("image", "remote_url", "a.png", ".png", "image/png", remote_url="http://f/a.png")
    server.answer(by_round(calls(ROME), says("Done.")))
    files = {"type": "variable", "value": ["sys", "files"]}
    flow = loaded(agent_file(WEATHER, files=files))
    await drive(flow, client, question(files=[image, File("document", "remote_url", remote_url="http://f/b.pdf")]))
    first, second = (request.body["messages"][1]["content"] for request in server.requests)
    assert [part["type"] for part in first] == ["image_url", "text"]
    assert first[0]["image_url"]["detail"] == "low"
    assert second == "[image]\nWeather in Rome?"


async def test_context_comes_with_the_instruction(server: ModelServer, client: ModelClient):
    server.answer(by_round(says("Hi.")))
    context = {"type": "variable", "value": ["sys", "found"]}
    await drive(
        loaded(agent_file(context=context)), client, question(found=[{"content": "Rome is warm.", "title": "R"}])
    )
    system = server.requests[0].body["messages"][0]["content"]
    assert system.startswith("Be brief.")
    assert "Rome is warm." in system


async def test_the_log_has_every_step(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME), says("Warm.")))
    ran = await drive(loaded(agent_file(tool("weather", settings={"unit": {"value": "F"}}))), client)
    entries = ran.outputs["json"][:-1]
    assert ran.outputs["json"][-1] == {"data": []}
    assert [entry["label"] for entry in entries] == ["ROUND 1", "m Thought", "CALL weather", "ROUND 2", "m Thought"]
    round1, thought, call, *_ = entries
    assert thought["parent_id"] == call["parent_id"] == round1["id"]
    assert round1["parent_id"] is None
    assert {entry["status"] for entry in entries} == {"success"}
    assert {entry["node_id"] for entry in entries} == {"agent"}
    response = {
        "tool_call_id": "call_0",
        "tool_call_name": "weather",
        "tool_call_input": {"city": "Rome", "unit": "F"},
        "tool_response": "Rome: 20 F",
    }
    assert call["data"] == {"output": response}
    assert round1["data"] == {"output": {"llm_response": "", "tool_responses": [response]}}
    assert thought["data"] == {
        "output": "",
        "tool_name": "weather",
        "tool_input": [{"name": "weather", "args": {"city": "Rome"}}],
    }
    assert thought["metadata"]["total_tokens"] == 15
    assert thought["metadata"]["provider"] == "langgenius/openai/openai"
    assert call["metadata"]["provider"] == "a"
    assert call["metadata"]["elapsed_time"] == call["metadata"]["finished_at"] - call["metadata"]["started_at"]


# --------------------------------------------------------------------------------------------------------------- ReAct


async def test_react(server: ModelServer, client: ModelClient):
    server.answer(react_by_round(action("weather", {"city": "Rome"}), "Thought: I know.\nFinalAnswer: It is 20 C."))
    ran = await drive(loaded(agent_file(WEATHER, strategy="ReAct")), client)
    assert ran.outputs["text"] == "It is 20 C."
    assert ran.shelf.calls[0][0]["city"] == "Rome"
    first, second = (request.body for request in server.requests)
    assert "tools" not in first
    assert first["stop"] == ["Observation"]
    system = first["messages"][0]["content"]
    assert "Be brief." in system
    assert '"name": "weather"' in system
    assert '{"action": "TOOL_NAME", "action_input": {"PARAMETER": "VALUE"}}' in system
    assert roles(second) == ["system", "user", "assistant", "user"]
    assert second["messages"][2]["content"] == (
        'Thought: I look.\n\nAction: {"action": "weather", "action_input": {"city": "Rome"}}\n\n'
        "Observation: Rome: 20 C\n\n"
    )
    assert second["messages"][3]["content"] == "continue"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Just so.", "Just so."),
        (action("Final Answer", "It is so."), "It is so."),
        (action("final answer", {"a": 1}), '{"a": 1}'),
        ("<think>Hm. FinalAnswer: no</think>FinalAnswer: yes", "yes"),
        ("<think>Hm. <think>And</think> FinalAnswer: no</think>FinalAnswer: yes", "yes"),
    ],
)
async def test_ways_to_end_react(server: ModelServer, client: ModelClient, answer: str, text: str):
    server.answer(react_by_round(answer))
    assert (await drive(loaded(agent_file(WEATHER, strategy="ReAct")), client)).outputs["text"] == text


@pytest.mark.parametrize(
    ("value", "observation"),
    [("Rome", "Rome: 20 C"), ('{"city": "Oslo"}', "Oslo: 20 C"), (5, "tool parameters validation error")],
)
async def test_inputs_of_react_actions(server: ModelServer, client: ModelClient, value: object, observation: str):
    server.answer(react_by_round(action("weather", value), "FinalAnswer: x"))
    await drive(loaded(agent_file(WEATHER, strategy="ReAct")), client)
    assert f"Observation: {observation}" in server.requests[1].body["messages"][2]["content"]


async def test_an_instruction_of_react_may_have_braces(server: ModelServer, client: ModelClient):
    server.answer(react_by_round("FinalAnswer: x"))
    file = agent_file(WEATHER, strategy="ReAct", instruction=constant("List {tools} and {names}."))
    await drive(loaded(file), client)
    prompt = server.requests[0].body["messages"][0]["content"]
    assert "List {tools} and {names}." in prompt
    assert '[{"name": "weather",' in prompt


# ------------------------------------------------------------------------------------------------------------- failures


async def test_a_strategy_that_is_not_here_names_its_plugin(client: ModelClient):
    data = {"agent_strategy_provider_name": "svcvit/agent/agent", "plugin_unique_identifier": "svcvit/agent:0.1@ab"}
    flow = loaded(agent_file(strategy="TOD", data=data))
    assert cast("Agent", flow.nodes["agent"]).config.plugin_strategy == ToolReference(
        STRATEGY, "svcvit/agent/agent", "svcvit/agent/agent", "TOD", "svcvit/agent:0.1@ab"
    )
    assert [*flow.nodes["agent"].missing_requirements(agent_world(client).resources)] == ["there is no tool TOD"]
    ran = await drive(flow, client)
    assert ran.failure.error == "Failed to get agent strategy: there is no tool TOD"


async def test_a_missing_tool_fails_the_node_and_is_named_before(server: ModelServer, client: ModelClient):
    flow = loaded(agent_file(tool("nowhere")))
    assert "there is no tool nowhere" in [*flow.nodes["agent"].missing_requirements(agent_world(client).resources)]
    ran = await drive(flow, client)
    assert (ran.failure.error, ran.failure.kind) == ("there is no tool nowhere", "ToolNotFoundError")
    assert ran.failure.inputs["query"] == "Weather in Rome?"
    assert server.requests == []


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"model": constant(None)}, "The agent has no model: choose one."),
        ({"maximum_iterations": constant("many")}, "maximum_iterations is 'many', which is not a number."),
        ({"tools": constant("x")}, "The tools of an agent are a list."),
        ({"mcp_server": constant("http://[")}, "mcp_server is not a valid URL."),
    ],
)
async def test_what_is_wrong_is_said(client: ModelClient, parameters: dict[str, Any], error: str):
    assert (await drive(loaded(agent_file(**parameters)), client)).failure.error == error


# -------------------------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("strategy", ["function_calling", "ReAct"])
async def test_a_kill_between_any_two_steps_repeats_one_call_at_most(
    server: ModelServer, client: ModelClient, strategy: str
):
    if strategy == "ReAct":
        server.answer(
            react_by_round(action("weather", "Rome"), action("weather", "Oslo"), "FinalAnswer: Both are warm.")
        )
        text, rounds, tools = "Both are warm.", 3, 2
    else:
        server.answer(by_round(calls(ROME, ROME, text="First."), calls(ROME, text="More."), says("Both ", "are warm.")))
        text, rounds, tools = "First.\nMore.\nBoth are warm.", 3, 3
    flow = loaded(agent_file(WEATHER, strategy=strategy))
    for survives in range(100):
        shelf, mortal = ToolShelf(), Mortal(survives + 1)
        server.requests.clear()
        where = agent_world(client, shelf, mortal)
        await mortal.append([question()])
        died = False
        try:
            await Driver("run", flow, where).drive()
        except Killed:
            died = True
        mortal.left = -1
        await Driver("run", flow, where).drive()
        records = await mortal.read("run")
        ended = records[-1].event
        assert isinstance(ended, RunEnded)
        assert ended.outputs["answer"] == text, "the text of a step that has ended is not said again"
        repeated = len(server.requests) - rounds + len(shelf.calls) - tools
        assert repeated <= 1
        steps = [record.event.name for record in records if isinstance(record.event, StepEnded)]
        assert len(steps) == len(set(steps)) == 2 * rounds + tools
        response = ResponseStream(flow.graph)
        assert "".join(piece for record in records for piece, *_ in response.apply(record)) == text
        if not died:
            assert repeated == 0
            return
    raise AssertionError("the run never ended")


async def test_text_is_streamed_while_the_model_writes(server: ModelServer, client: ModelClient):
    server.answer(by_round(calls(ROME, text="Let me look."), says("It is ", "20 C.")))
    ran = await drive(loaded(agent_file(WEATHER)), client)
    text = "".join(record.event.text for record in ran.records if isinstance(record.event, Delta))
    assert text == "Let me look.\nIt is 20 C."
