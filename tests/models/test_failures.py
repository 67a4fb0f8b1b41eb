"""Calls that fail: what is tried again, and what a failure says."""

import asyncio
import time
from email.utils import formatdate

import pytest

from headrace.adapters.models import ModelClient
from tests.models.server import GOOD, ModelServer, ReceivedRequest, ask, failure, good, hear, piece, sse, text_of

# ------------------------------------------------------------------------------------------------------------ retry


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
async def test_a_busy_provider_is_asked_again(server: ModelServer, client: ModelClient, status: int):
    server.answer(lambda request: request.refuse(status, {"error": {"message": "busy"}}), good)
    assert text_of(await hear(client, ask())) == "Hello"
    assert len(server.requests) == 2


@pytest.mark.parametrize("header", [{"Retry_After": "0.3"}, {"retry_after_ms": "300"}], ids=["seconds", "milliseconds"])
async def test_retry_after_is_honoured(server: ModelServer, client: ModelClient, header: dict[str, str]):
    server.answer(lambda request: request.refuse(429, {"error": {"message": "busy"}}, **header), good)
    since = time.perf_counter()
    await hear(client, ask())
    assert time.perf_counter() - since >= 0.3


async def test_a_retry_after_in_the_past_or_malformed_does_not_wait(server: ModelServer, client: ModelClient):
    server.answer(
        lambda request: request.refuse(429, {}, Retry_After=formatdate(0, usegmt=True)),
        lambda request: request.refuse(429, {}, Retry_After="soon"),
        good,
    )
    async with asyncio.timeout(60):
        assert text_of(await hear(client, ask())) == "Hello"


async def test_three_tries_at_most(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.refuse(503, {"error": {"message": "overloaded"}}))
    error = await failure(client)
    assert (str(error), error.kind) == ("overloaded", "InvokeServerUnavailableError")
    assert len(server.requests) == 3


async def test_a_used_up_quota_is_not_asked_again(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.refuse(429, {"error": {"message": "no money", "code": "insufficient_quota"}}))
    assert (await failure(client)).kind == "InvokeRateLimitError"
    assert len(server.requests) == 1


async def test_a_connection_lost_before_the_first_piece_is_made_again(server: ModelServer, client: ModelClient):
    async def hang_up(request: ReceivedRequest) -> None:
        request.writer.close()

    async def hang_up_after_the_head(request: ReceivedRequest) -> None:
        await request.head()
        request.writer.close()

    server.answer(hang_up, hang_up_after_the_head, good)
    assert text_of(await hear(client, ask())) == "Hello"


async def test_an_answer_that_breaks_off_fails_and_is_not_begun_again(server: ModelServer, client: ModelClient):
    async def break_off(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(piece("Hel")))
        request.writer.close()

    server.answer(break_off)
    error = await failure(client)
    assert error.kind == "InvokeConnectionError"
    assert "before the answer was complete" in str(error)
    assert len(server.requests) == 1


async def test_an_answer_that_ends_without_its_end_fails(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.stream(piece("Hel"), done=False))
    error = await failure(client)
    assert (str(error), error.kind) == ("openai broke off its answer.", "InvokeConnectionError")


async def test_an_answer_without_done_is_complete_with_its_finish_reason(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.stream(*GOOD, done=False))
    assert text_of(await hear(client, ask())) == "Hello"


async def test_a_connection_lost_after_the_finish_costs_only_the_usage(server: ModelServer, client: ModelClient):
    async def no_usage(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(piece("Hello")) + sse(piece(finish="stop")))
        request.writer.close()

    server.answer(no_usage)
    chunks = await hear(client, ask())
    assert text_of(chunks) == "Hello"
    assert chunks[-1].finish_reason == "stop"


async def test_nobody_listens(server: ModelServer):
    client = ModelClient({"OPENAI_API_COMPATIBLE_BASE_URL": "http://127.0.0.1:1"}, backoff=0.001)
    error = await failure(client, provider="openai_api_compatible")
    await client.aclose()
    assert error.kind == "InvokeConnectionError"
    assert "openai_api_compatible (127.0.0.1:1) could not be reached" in str(error)


async def test_silence_is_not_waited_out(server: ModelServer):
    async def silent(request: ReceivedRequest) -> None:
        await request.head()
        await request.chunk(sse(piece("Hel")))
        await request.gone.wait()

    server.answer(silent)
    client = ModelClient({"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}, idle=0.1)
    error = await failure(client)
    await client.aclose()
    assert error.kind == "InvokeConnectionError"
    assert "sent nothing for 0.1 seconds" in str(error)


@pytest.mark.parametrize("whole", [False, True])
async def test_an_answer_that_drips_is_not_waited_out(server: ModelServer, whole: bool):
    async def dripping(request: ReceivedRequest) -> None:
        kind = b"application/json" if whole else b"text/event-stream"
        request.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(2000):
            request.writer.write(b"x")
            await request.writer.drain()
            await asyncio.sleep(0.01)

    server.answer(dripping)
    client = ModelClient({"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}, idle=0.3)
    since = asyncio.get_running_loop().time()
    error = await failure(client)
    await client.aclose()
    assert error.kind == "InvokeConnectionError"
    assert "sent its answer too slowly" in str(error)
    assert asyncio.get_running_loop().time() - since < 10, "it would have taken twenty seconds"


# ------------------------------------------------------------------------------------------------------------ errors


WRONG_URL = "openai answered {} at URL/v1/chat/completions: check its base URL."


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (400, {"error": {"message": "scripted model failure"}}, "InvokeBadRequestError", "scripted model failure"),
        (404, {"error": "no such model"}, "InvokeBadRequestError", "no such model"),
        (404, b"", "InvokeBadRequestError", WRONG_URL.format(404)),
        (405, {"detail": "Method Not Allowed"}, "InvokeBadRequestError", f"{WRONG_URL.format(405)} Method Not Allowed"),
        (422, {"detail": [{"msg": "too hot"}, {"msg": "too long"}]}, "InvokeBadRequestError", "too hot; too long"),
        (401, {"error": {"message": "bad key"}}, "InvokeAuthorizationError", "bad key"),
        (403, {"message": "not yours"}, "InvokeAuthorizationError", "not yours"),
        (400, [{"error": {"message": "as Gemini"}}], "InvokeBadRequestError", "as Gemini"),
        (413, b"<html>too large</html>", "InvokeBadRequestError", "openai answered 413 X."),
        (418, b"short and stout", "InvokeBadRequestError", "short and stout"),
        (400, b"", "InvokeBadRequestError", "openai answered 400 X."),
        (501, {"message": "cannot"}, "InvokeServerUnavailableError", "cannot"),
    ],
)
async def test_refusals(server: ModelServer, client: ModelClient, status: int, body: object, kind: str, text: str):
    server.answer(lambda request: request.refuse(status, body))
    error = await failure(client)
    assert (str(error), error.kind) == (text.replace("URL/", f"{server.url}/"), kind)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        ({"error": {"message": "bad", "code": 400}}, "InvokeBadRequestError", "bad"),
        ({"error": {"message": "bad", "type": "invalid_request_error"}}, "InvokeBadRequestError", "bad"),
        ({"error": {"message": "slow down", "code": "429"}}, "InvokeRateLimitError", "slow down"),
        ({"error": "broken"}, "InvokeServerUnavailableError", "broken"),
        ({"object": "error", "message": "vllm", "code": 400}, "InvokeBadRequestError", "vllm"),
        ({"base_resp": {"status_code": 1004, "status_msg": "no login"}}, "InvokeServerUnavailableError", "no login"),
        ({"choices": [], "error": {"message": "cut"}}, "InvokeServerUnavailableError", "cut"),
    ],
)
async def test_an_error_inside_the_stream(
    server: ModelServer, client: ModelClient, event: object, kind: str, text: str
):
    server.say(piece("Hel"), event)
    error = await failure(client)
    assert (str(error), error.kind) == (text, kind)


async def test_an_error_inside_the_stream_before_any_text_is_tried_again(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.stream({"error": {"message": "busy", "code": 503}}), good)
    assert text_of(await hear(client, ask())) == "Hello"


@pytest.mark.parametrize("event", [{"choices": 1}, {"choices": ["x"]}, {"choices": [{"delta": "x"}]}, {"choices": {}}])
async def test_events_of_no_known_shape_are_an_error_not_a_crash(
    server: ModelServer, client: ModelClient, event: object
):
    server.answer(lambda request: request.stream(piece("Hel"), event, done=False))
    assert (await failure(client)).kind == "InvokeConnectionError"


async def test_a_redirect_is_reported_not_followed(server: ModelServer, client: ModelClient):
    server.answer(lambda request: request.refuse(308, b"", Location="https://elsewhere.example/v1"))
    assert "redirects to https://elsewhere.example/v1" in str(await failure(client))


async def test_no_secret_leaves_through_an_error(server: ModelServer, client: ModelClient):
    server.answer(
        lambda request: request.refuse(401, {"error": {"message": f"bad key: {request.headers['authorization']}"}})
    )
    error = await failure(client)
    assert str(error) == "bad key: Bearer ***"
    assert error.__cause__ is None


async def test_name_and_password_in_a_base_url_are_secrets(server: ModelServer):
    server.answer(lambda request: request.refuse(400, {"error": {"message": "who is me and hunter2?"}}))
    client = ModelClient({"OPENAI_API_COMPATIBLE_BASE_URL": server.url.replace("//", "//me:hunter2@")}, backoff=0.001)
    error = await failure(client, provider="openai_api_compatible")
    await client.aclose()
    assert "hunter2" not in str(error)
    assert server.requests[0].headers["authorization"].startswith("Basic ")


async def test_what_a_provider_refuses_to_know_is_left_out(server: ModelServer):
    async def strict(request: ReceivedRequest) -> None:
        for name in ("stream_options", "response_format"):
            if name in request.body:
                return await request.refuse(422, {"error": {"message": f"extra field: {name}"}})
        await request.stream(*GOOD)

    server.answer(strict)
    client = ModelClient({"OPENAI_API_COMPATIBLE_BASE_URL": server.url})
    chunks = await hear(client, ask(provider="openai_api_compatible", schema={"type": "object"}))
    await client.aclose()
    assert text_of(chunks) == "Hello"
    assert len(server.requests) == 3
    assert "JSON schema" in server.requests[-1].body["messages"][0]["content"]


def test_a_model_that_nobody_chose_is_reported_as_such() -> None:
    message = ModelClient({}).missing("")
    assert message == "provider_not_initialize: no model is chosen: the model's `provider` is empty."
