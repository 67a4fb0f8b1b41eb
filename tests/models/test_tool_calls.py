"""Tools: how a model is told of them, and the calls that it streams."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.adapters.models import ModelClient
from headrace.adapters.models import tool_calls as gathering
from headrace.adapters.models.providers import provider_of
from headrace.adapters.models.request import build
from headrace.errors import NodeError
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Context, Result
from headrace.nodes.parameter_extractor import ParameterExtractor
from headrace.ports.services import FunctionTool, Limits, Message, ToolCall
from tests.models.server import ModelServer, ReceivedRequest, ask, failure, hear, piece, sse, text_of, usage
from tests.resources import only

WEATHER = FunctionTool("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


def part(index: int | None = None, *, name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    """A piece of a call."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return ({} if index is None else {"index": index}) | {"type": "function", "function": function} | more


def stream(*parts: Any) -> list[dict[str, Any]]:
    """An answer of these pieces, one an event."""
    return [*(piece(tool_calls=[item]) for item in parts), piece(finish="tool_calls"), usage(5, 2)]


async def calls_of(client: ModelClient) -> list[tuple[str, str, str]]:
    chunks = await hear(client, ask(tools=[WEATHER]))
    assert all(not chunk.tool_calls for chunk in chunks[:-1])
    return [(call.id, call.name, call.arguments) for call in chunks[-1].tool_calls]


# ------------------------------------------------------------------------------------------------------ what is sent


async def test_tools_calls_and_results_in_the_protocol(server: ModelServer, client: ModelClient):
    server.say(piece("ok"), piece(finish="stop"))
    messages = [
        Message("user", "Rain in Lyon?"),
        Message("assistant", "", tool_calls=[ToolCall("c1", "weather", '{"city": "Lyon"}')]),
        Message("tool", "", tool_call="c1"),
        Message("assistant", ""),
    ]
    await hear(client, ask(messages=messages, tools=[WEATHER]))
    body = server.requests[0].body
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells the weather.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    ]
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lyon"}'}}
    assert body["messages"] == [
        {"role": "user", "content": "Rain in Lyon?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "", "tool_call_id": "c1"},
    ]


async def test_without_tools_nothing_is_said_of_them():
    assert "tools" not in await build(ask(), provider_of("openai"), None)


async def test_a_completion_model_takes_no_tools(server: ModelServer, client: ModelClient):
    error = await failure(client, tools=[WEATHER], mode="completion")
    assert (error.kind, server.requests) == ("InvokeBadRequestError", [])


# ------------------------------------------------------------------------------------------------- what is streamed


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        pytest.param(
            [
                part(0, id="a", name="weather", arguments=""),
                part(0, arguments='{"city":'),
                part(0, arguments=' "Lyon"}'),
            ],
            [("a", "weather", '{"city": "Lyon"}')],
            id="as OpenAI",
        ),
        pytest.param(
            [
                part(0, id="a", name="weather", arguments='{"city":'),
                part(1, id="b", name="time", arguments="{"),
                part(0, arguments='"Lyon"}'),
                part(1, arguments="}"),
            ],
            [("a", "weather", '{"city":"Lyon"}'), ("b", "time", "{}")],
            id="two at once",
        ),
        pytest.param(
            [
                part(0, id="a", name="weather", arguments='{"city": "Lyon"}'),
                part(0, id="b", name="weather", arguments='{"city": "Nice"}'),
            ],
            [("a", "weather", '{"city": "Lyon"}'), ("b", "weather", '{"city": "Nice"}')],
            id="every index is 0",
        ),
        pytest.param(
            [
                part(id="a", name="weather", arguments='{"city": '),
                part(arguments='"Lyon"}'),
                part(id="b", name="time"),
            ],
            [("a", "weather", '{"city": "Lyon"}'), ("b", "time", "")],
            id="no index",
        ),
        pytest.param(
            [
                part(name="weather", arguments='{"city": "Lyon"}'),
                part(name="weather", arguments='{"city": "Nice"}'),
                part(name="time"),
                part(name="place"),
            ],
            [
                ("call_0", "weather", '{"city": "Lyon"}'),
                ("call_1", "weather", '{"city": "Nice"}'),
                ("call_2", "time", ""),
                ("call_3", "place", ""),
            ],
            id="neither index nor id",
        ),
        pytest.param(
            [part(0, id="", name="weather", arguments='{"city":'), part(0, id=None, name="", arguments='"Lyon"}')],
            [("call_0", "weather", '{"city":"Lyon"}')],
            id="no id",
        ),
        pytest.param(
            [
                part(0, id="x1", name="weather", arguments='{"city":'),
                part(0, id="x2", arguments='"Lyon"'),
                part(0, id="x3", arguments="}"),
            ],
            [("x1", "weather", '{"city":"Lyon"}')],
            id="a new id with every piece",
        ),
        pytest.param(
            [
                part(0, id="a", name="weather", arguments='{"city":'),
                part(0, id="a", name="weather", arguments='"Lyon"}'),
            ],
            [("a", "weather", '{"city":"Lyon"}')],
            id="the name with every piece",
        ),
        pytest.param(
            [part(0, id="a", name="wea"), part(0, name="ther", arguments="{}")],
            [("a", "weather", "{}")],
            id="the name in pieces",
        ),
        pytest.param(
            [part(0, id="a", name="weather", arguments={"city": "Zürich"})],
            [("a", "weather", '{"city": "Zürich"}')],
            id="arguments as an object",
        ),
        pytest.param(
            [part(0, id="a", name="weather", arguments='{"city": "Ly')],
            [("a", "weather", '{"city": "Ly')],
            id="broken arguments are told as they are",
        ),
        pytest.param([part(0), part(1, id="b"), None, part(2, arguments="")], [], id="nothing in them"),
        pytest.param([{"index": 0}, {"index": 0, "id": "a", "function": None}], [], id="no function"),
    ],
)
async def test_calls_are_put_together(server: ModelServer, client: ModelClient, parts: Any, calls: Any):
    server.say(*stream(*parts))
    assert await calls_of(client) == calls


async def test_calls_come_with_why_it_ended_and_what_it_took(server: ModelServer, client: ModelClient):
    server.say(*[piece("Let me look."), *stream(part(0, id="a", name="weather", arguments="{}"))])
    chunks = await hear(client, ask(tools=[WEATHER]))
    assert text_of(chunks) == "Let me look."
    assert (chunks[-1].finish_reason, chunks[-1].tool_calls) == ("tool_calls", (ToolCall("a", "weather", "{}"),))
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (5, 2)


async def test_several_calls_in_one_event(server: ModelServer, client: ModelClient):
    both = [part(0, id="a", name="weather", arguments="{}"), part(1, id="b", name="time", arguments="{}")]
    server.say(piece(tool_calls=both, finish="tool_calls"))
    assert await calls_of(client) == [("a", "weather", "{}"), ("b", "time", "{}")]


async def test_the_call_of_the_protocol_before_tools(server: ModelServer, client: ModelClient):
    server.say(
        piece(function_call={"name": "weather", "arguments": '{"city":'}),
        piece(function_call={"arguments": '"Lyon"}'}),
        piece(finish="function_call"),
    )
    assert await calls_of(client) == [("call_0", "weather", '{"city":"Lyon"}')]


async def test_an_answer_that_does_not_stream(server: ModelServer, client: ModelClient):
    same = part(id="a", name="weather", arguments="{}")
    message = {"role": "assistant", "content": None, "tool_calls": [same, same | {"id": "b"}, part(name="weather")]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}

    async def whole(request: ReceivedRequest) -> None:
        await request.refuse(200, {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    server.answer(whole)
    assert await calls_of(client) == [("a", "weather", "{}"), ("b", "weather", "{}"), ("call_2", "weather", "")]


async def test_tokens_of_calls_are_estimated_too(server: ModelServer, client: ModelClient):
    server.say(*stream(part(0, id="a", name="weather", arguments="x" * 393))[:-1])
    used, bare = (await hear(client, ask(tools=[WEATHER])))[-1].usage, (await hear(client, ask()))[-1].usage
    assert used is not None
    assert bare is not None
    assert used.completion_tokens == 100
    assert used.prompt_tokens > bare.prompt_tokens


# ------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    "broken",
    [
        {"tool_calls": "weather"},
        {"tool_calls": ["weather"]},
        {"tool_calls": [{"index": 0, "function": "weather"}]},
        {"tool_calls": [{"index": 0, "function": {"name": 7}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": 7}}]},
        {"function_call": 7},
    ],
)
@pytest.mark.parametrize("finish", [None, "tool_calls"])
async def test_what_is_no_call_is_the_provider_s_failure(
    server: ModelServer, client: ModelClient, broken: dict[str, Any], finish: str | None
):
    server.say(piece(**broken, finish=finish), piece(finish="tool_calls"))
    error = await failure(client, tools=[WEATHER])
    assert error.kind == "InvokeConnectionError"
    assert "not part of a chat response" in str(error)


@pytest.mark.parametrize("empty", [{"tool_calls": []}, {"tool_calls": None}, {"function_call": None}])
async def test_no_calls(server: ModelServer, client: ModelClient, empty: dict[str, Any]):
    server.say(piece("Hi", **empty), piece(finish="stop"))
    chunks = await hear(client, ask(tools=[WEATHER]))
    assert (text_of(chunks), chunks[-1].tool_calls) == ("Hi", ())


WILD = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "a", "weather", "{", "}", '{"a": 1}'])
PART = st.dictionaries(
    st.sampled_from(["index", "id", "type", "function"]),
    WILD | st.dictionaries(st.sampled_from(["name", "arguments"]), WILD | st.just({"a": 1})),
)


@given(st.lists(st.lists(WILD | PART, max_size=3) | WILD, max_size=8), st.booleans())
def test_whatever_comes_is_a_call_or_refused(deltas: list[Any], whole: bool):
    gathered = gathering.Calls()
    with suppress(TypeError):
        for delta in deltas:
            gathered.add({"tool_calls": delta}, whole=whole)
    calls = gathered.calls()
    assert all(call.id and (call.name or call.arguments) for call in calls)


async def test_a_call_that_is_cut_off_is_asked_for_again(server: ModelServer, client: ModelClient):
    async def cut(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(piece(tool_calls=[part(0, id="a", name="weather", arguments='{"city": "Ly')])))
        request.writer.close()

    async def good(request: ReceivedRequest) -> None:
        await request.stream(*stream(part(0, id="b", name="weather", arguments="{}")))

    server.answer(cut, good)
    assert await calls_of(client) == [("b", "weather", "{}")]
    server.answer(cut)
    assert (await failure(client, tools=[WEATHER])).kind == "InvokeConnectionError"


async def test_a_call_without_end_is_cut_off(server: ModelServer, client: ModelClient, monkeypatch: Any):
    monkeypatch.setattr(gathering, "MAX_SIZE", 1000)
    server.say(*stream(*[part(0, arguments="")] * 100))
    assert "more than 1000 characters" in str(await failure(client, tools=[WEATHER]))


# --------------------------------------------------------------------------------------------------- used by a node


async def extracted(client: ModelClient) -> Result:
    parameters = [{"name": "city", "type": "string", "description": "Where", "required": True}]
    config = {"model": {"provider": "openai", "name": "m"}, "query": ["start", "q"], "parameters": parameters}
    ctx = Context(
        run="r",
        app="a",
        user="me",
        spec=NodeSpec("n", "parameter-extractor"),
        variables=Variables({"start": {"q": "Rain in Lyon?"}}),
        inputs={},
        resources=only(models=client),
        limits=Limits(),
        emit=lambda name, text: None,
        key="k",
        new_id=lambda: "id",
    )
    result = await ParameterExtractor(ParameterExtractor.Config.model_validate(config)).run(ctx)
    assert isinstance(result, Result)
    return result


async def test_parameters_are_extracted_by_a_call(server: ModelServer, client: ModelClient):
    server.say(*stream(part(0, id="a", name="extract_parameters", arguments='{"city": "Lyon"}')))
    result = await extracted(client)
    assert (result.outputs["city"], result.outputs["__is_success"]) == ("Lyon", 1)
    body = server.requests[0].body
    assert body["tools"][0]["function"]["parameters"]["required"] == ["city"]
    assert {message["role"] for message in body["messages"]} == {"system", "user", "assistant", "tool"}
    calls = [call["id"] for message in body["messages"] for call in message.get("tool_calls", ())]
    assert calls == [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]


async def test_parameters_are_extracted_from_a_model_that_knows_no_tools(server: ModelServer, client: ModelClient):
    async def unable(request: ReceivedRequest) -> None:
        if "tools" in request.body:
            await request.refuse(400, {"error": {"message": "gemma:2b does not support tools"}})
        else:
            await request.stream(piece('{"city": "Lyon"}'), piece(finish="stop"))

    server.answer(unable)
    result = await extracted(client)
    assert (result.outputs["city"], result.process["function"]) == ("Lyon", {})


async def test_the_demo_model_calls_the_tool_once():
    client = ModelClient({}, demo=True, demo_delay=0)
    chunks = await hear(client, ask(tools=[WEATHER]))
    [call] = chunks[-1].tool_calls
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "demo city"})
    answered = [Message("user", "Rain?"), Message("assistant", "", tool_calls=[call]), Message("tool", "yes")]
    chunks = await hear(client, ask(messages=answered, tools=[WEATHER]))
    assert (chunks[-1].tool_calls, "Demo model" in text_of(chunks)) == ((), True)
    assert (await extracted(client)).outputs["city"] == "demo city"


async def test_refusals_of_other_kinds_are_not_taken_for_that(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.refuse(400, {"error": {"message": "the prompt is too long"}}))
    with pytest.raises(NodeError) as raised:
        await extracted(client)
    assert (str(raised.value), len(server.requests)) == ("the prompt is too long", 1)
    assert raised.value.outputs["__reason"] == "Failed to invoke model"


async def test_what_a_provider_adds_to_a_call_is_sent_back(server: ModelServer, client: ModelClient):
    signature = {"google": {"thought_signature": "c2ln"}}
    server.say(*stream(part(0, id="c1", name="weather", arguments="{}", extra_content=signature), part(0)))
    calls = (await hear(client, ask(tools=[WEATHER])))[-1].tool_calls
    await hear(client, ask(messages=[Message("user", "x"), Message("assistant", "", tool_calls=calls)]))
    assert server.requests[1].body["messages"][1]["tool_calls"][0]["extra_content"] == signature
