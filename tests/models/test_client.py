"""A model's answer over HTTP: what is told, what is tried again, what a failure says."""

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import cast

import pytest

from headrace.adapters.models import ModelClient
from headrace.kernel.graph import NodeSpec
from headrace.kernel.variables import Variables
from headrace.node import Context
from headrace.nodes.llm import LLM
from headrace.ports.services import MOST_TOKENS, ChatChunk, Limits, Message, Resources
from tests.models.server import GOOD, ModelServer, ReceivedRequest, ask, failure, good, hear, piece, sse, text_of, usage


async def test_text_comes_piece_by_piece_and_usage_last(server: ModelServer, client: ModelClient):
    server.answer(good)
    *received, last = await hear(client, ask())
    assert [chunk.text for chunk in received] == ["Hel", "lo"]
    assert last.finish_reason == "stop"
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (5, 2)
    assert last.usage.latency >= (last.usage.time_to_first_token or 0) > 0
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer sk-very-secret"
    assert request.body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hello"}],
    }


async def test_an_answer_cut_at_every_byte(server: ModelServer, client: ModelClient):
    async def bytewise(request: ReceivedRequest) -> None:
        await request.head()
        for byte in b"".join(map(sse, (piece("你好"), piece(finish="stop"), usage(1, 1)))) + b"data: [DONE]\n\n":
            await request.chunk(bytes([byte]))
        await request.chunk(b"")

    server.answer(bytewise)
    assert text_of(await hear(client, ask())) == "你好"


async def test_the_first_piece_is_reported_before_the_answer_is_over(server: ModelServer, client: ModelClient):
    arrived = asyncio.Event()

    async def slow(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(piece("one")))
        await arrived.wait()
        await request.chunk(sse(piece(finish="stop")) + b"data: [DONE]\n\n")
        await request.chunk(b"")

    server.answer(slow)
    chunks = client.chat(ask())
    assert (await anext(chunks)).text == "one"
    arrived.set()
    assert [chunk.finish_reason async for chunk in chunks] == ["stop"]


async def test_one_connection_serves_calls_that_follow_each_other(server: ModelServer, client: ModelClient):
    server.answer(good)
    for _ in range(3):
        await hear(client, ask())
    assert server.connections == 1


@pytest.mark.parametrize(
    ("events", "chunks"),
    [
        ([piece(reasoning_content="hm"), piece("yes")], [ChatChunk(reasoning="hm"), ChatChunk("yes")]),
        ([piece(reasoning="hm"), piece("yes")], [ChatChunk(reasoning="hm"), ChatChunk("yes")]),
        (
            [piece(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]), piece("yes")],
            [ChatChunk(reasoning="hm"), ChatChunk("yes")],
        ),
        ([piece(content=[{"type": "text", "text": "yes"}])], [ChatChunk("yes")]),
        ([piece(refusal="I will not.")], [ChatChunk("I will not.")]),
        ([{"choices": [{"text": "old", "index": 0}]}], [ChatChunk("old")]),
        ([piece("a"), {"choices": [{"index": 1, "delta": {"content": "other"}}]}], [ChatChunk("a")]),
    ],
)
async def test_shapes_of_an_answer(server: ModelServer, client: ModelClient, events: list, chunks: list[ChatChunk]):
    server.say(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}, *events, piece(finish="stop")
    )
    assert (await hear(client, ask()))[:-1] == chunks


async def test_a_provider_that_does_not_stream(server: ModelServer, client: ModelClient):
    whole = {"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}], "usage": usage(3, 1)["usage"]}
    server.answer(lambda request: request.refuse(200, whole))
    chunks = await hear(client, ask())
    assert text_of(chunks) == "all"
    assert chunks[-1].usage
    assert chunks[-1].usage.prompt_tokens == 3


async def test_a_stream_that_is_called_json(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.refuse(200, b"".join(map(sse, GOOD)) + b"data: [DONE]\n\n"))
    assert text_of(await hear(client, ask())) == "Hello"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"choices": []}'])
async def test_an_answer_that_is_none(server: ModelServer, client: ModelClient, body: bytes):
    server.answer(lambda request: request.refuse(200, body))
    assert (await failure(client)).kind == "InvokeConnectionError"


async def test_tokens_are_estimated_where_the_provider_does_not_count(server: ModelServer, client: ModelClient):
    server.say(piece("你好 world!"), piece(finish="stop"))
    last = (await hear(client, ask("abcdefgh")))[-1]
    assert last.usage
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (2, 4)


@pytest.mark.parametrize(
    ("received", "counted"),
    [
        ("99999999999999999999", MOST_TOKENS),
        ("9223372036854775808", MOST_TOKENS),
        ("1e30", MOST_TOKENS),
        ("7.9", 7),
        ("-5", None),
        ("-1e30", None),
        ("true", None),
        ('"12"', None),
        ("null", None),
        ("[3]", None),
    ],
)
async def test_what_a_provider_counts_is_believed_as_far_as_it_can_be(
    server: ModelServer, client: ModelClient, received: str, counted: int | None
):
    async def answer(request: ReceivedRequest) -> None:
        counts = '"prompt_tokens": ' + received + ', "completion_tokens": ' + received
        body = '{"choices": [{"message": {"content": "abcdefgh"}, "finish_reason": "stop"}], "usage": {' + counts + "}}"
        await request.refuse(200, body.encode())

    server.answer(answer)
    usage = (await hear(client, ask("abcdefgh")))[-1].usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens) == ((2, 2) if counted is None else (counted, counted))
    assert usage.wire()["total_tokens"] == usage.prompt_tokens + usage.completion_tokens < 2**53


async def test_prices(server: ModelServer):
    server.answer(good)
    client = ModelClient(
        {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}, prices={"mine": {"input": 1000, "output": 2000}}
    )
    known = (await hear(client, ask(model="gpt-4o-2024-08-06")))[-1].usage
    own = (await hear(client, ask(model="mine")))[-1].usage
    unknown = (await hear(client, ask(model="whatever")))[-1].usage
    await client.aclose()
    assert known
    assert own
    assert unknown
    assert (known.prompt_unit_price, known.completion_unit_price) == (Decimal("0.0025"), Decimal("0.01"))
    assert own.wire()["total_price"] == "0.0090000"
    assert Decimal(unknown.wire()["total_price"]) == 0


# ----------------------------------------------------------------------------------------------------- cancellation


async def test_cancelling_the_reader_closes_the_connection(server: ModelServer, client: ModelClient):
    begun = asyncio.Event()

    async def endless(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(piece("Hel")))
        begun.set()
        await asyncio.Event().wait()

    server.answer(endless)
    task = asyncio.create_task(hear(client, ask()))
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        await server.requests[0].gone.wait()
    assert task.cancelled()


async def test_cancelling_an_llm_node_closes_the_connection(server: ModelServer, client: ModelClient):
    async def endless(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(piece("Hel")))
        await asyncio.Event().wait()

    server.answer(endless)
    started = asyncio.Event()
    prompt = [{"role": "user", "text": "hi"}]
    config = LLM.Config.model_validate({"model": {"provider": "openai", "name": "m"}, "prompt_template": prompt})
    ctx = Context(
        run="r",
        app="a",
        user="me",
        spec=NodeSpec("llm", "llm"),
        variables=Variables({}),
        inputs={},
        resources=cast("Resources", SimpleNamespace(models=client)),
        limits=Limits(),
        emit=lambda name, text: started.set(),
        key="k",
        new_id=str,
    )
    task = asyncio.create_task(LLM(config).run(ctx))
    async with asyncio.timeout(60):
        await started.wait()
        task.cancel()
        await server.requests[0].gone.wait()
        await asyncio.wait([task])
    assert task.cancelled()


async def test_closing_the_answer_closes_the_connection(server: ModelServer, client: ModelClient):
    async def endless(request: ReceivedRequest) -> None:
        await request.head()
        while True:
            await request.chunk(sse(piece("x")))
            await asyncio.sleep(0.01)

    server.answer(endless)
    chunks = client.chat(ask())
    await anext(chunks)
    await chunks.aclose()
    async with asyncio.timeout(60):
        await server.requests[0].gone.wait()


async def test_cancelling_while_waiting_for_the_first_byte(server: ModelServer, client: ModelClient):
    begun = asyncio.Event()

    async def never(request: ReceivedRequest) -> None:
        begun.set()
        await asyncio.Event().wait()

    server.answer(never)
    task = asyncio.create_task(hear(client, ask()))
    async with asyncio.timeout(60):
        await begun.wait()
        task.cancel()
        await server.requests[0].gone.wait()


async def test_prompts_that_utf8_cannot_hold(server: ModelServer, client: ModelClient):
    server.answer(good)
    await hear(client, ask("half a pair: \ud83d, and a big number", parameters={"seed": 2**70}))
    assert server.requests[0].body["messages"][0]["content"].startswith("half a pair: \ud83d")
    assert server.requests[0].body["seed"] == 2**70


async def test_a_hundred_answers_at_once(server: ModelServer, client: ModelClient):
    async def echo(request: ReceivedRequest) -> None:
        await request.stream(piece(request.body["messages"][0]["content"]), piece(finish="stop"))

    server.answer(echo)
    answers = await asyncio.gather(*(hear(client, ask(str(number))) for number in range(100)))
    assert [text_of(answer) for answer in answers] == [str(number) for number in range(100)]


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(server: ModelServer):
    server.answer(good)
    client = ModelClient({"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k", "HTTP_PROXY": "http://127.0.0.1:1"})
    assert text_of(await hear(client, ask())) == "Hello"
    await client.aclose()


async def test_a_proxy_of_the_environment(server: ModelServer):
    server.answer(good)
    environ = {"OPENAI_BASE_URL": "http://model.example", "OPENAI_API_KEY": "k", "http_proxy": server.url}
    client = ModelClient(environ)
    assert text_of(await hear(client, ask())) == "Hello"
    await client.aclose()
    assert server.requests[0].path == "http://model.example/v1/chat/completions"


async def test_completion_mode(server: ModelServer, client: ModelClient):
    server.say({"choices": [{"text": "42", "index": 0, "finish_reason": "stop"}]})
    assert text_of(await hear(client, ask(mode="completion", messages=[Message("user", "6 times 7 is")]))) == "42"
    assert server.requests[0].path == "/v1/completions"
    assert server.requests[0].body["prompt"] == "6 times 7 is"


async def test_an_emoji_in_two_chunks_is_one(server: ModelServer, client: ModelClient):
    server.say(
        piece("party \ud83c"), piece("\udf89 time"), piece(reasoning_content="\ud83c"), piece("!", finish="stop")
    )
    chunks = await hear(client, ask())
    assert text_of(chunks) == "party 🎉 time!"
    assert "".join(chunk.reasoning for chunk in chunks) == "\ufffd"


async def test_a_half_that_nothing_follows_and_a_number_that_json_lacks(server: ModelServer, client: ModelClient):
    event = {**piece("end \ud83c", finish="stop"), "logprobs": [float("nan"), float("inf")]}
    server.say(event)
    assert text_of(await hear(client, ask())) == "end \ufffd"
