"""Callers of OpenAI's API who leave, and who send their request again: OpenAI's own Python client, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from headrace.api.openai import open_calls
from headrace.api.openai.parameters import CHAT, RESPONSES, Parameters
from headrace.ports import ListedRun, RunFilter
from tests.api.chats import chatflow
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow

MESSAGES: Any = [{"role": "user", "content": "hello"}]
KEEP = {"Headrace-Keep-Running": "true"}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine does not make a request come too late."""
    monkeypatch.setattr(open_calls, "RETRY_SECONDS", 60.0)


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("chat.yml", chatflow("{{#gate.text#}}", scripts=["gate"]))


@pytest.fixture
def gate(app: Client) -> Gate:
    created = Scripted.scripts["gate"] = Gate(["Hel", "lo"])
    return created


@asynccontextmanager
async def sdk(app: Client, **more: Any) -> AsyncGenerator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{app.url}/v1/openai", api_key=app.key, **more) as client:
        yield client


async def runs(server: Serving, app: Client) -> list[ListedRun]:
    return (await server.store.runs.list_runs(RunFilter(app.release.app.id)))[1]


async def ended(server: Serving, app: Client) -> list[str]:
    """How the app's runs have ended, once all have."""
    for _ in range(1500):
        result = [run.status for run in await runs(server, app)]
        if result and "running" not in result:
            return result
        await asyncio.sleep(0.01)
    raise AssertionError(f"runs go on: {result}")


# ------------------------------------------------------------------------------------------------------------- leave


async def test_closing_a_stream_stops_the_run(server: Serving, app: Client, gate: Gate) -> None:
    async with sdk(app) as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        gate.let(1)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        assert await ended(server, app) == ["stopped"]


async def test_a_blocking_call_that_is_given_up_stops_the_run(server: Serving, app: Client, gate: Gate) -> None:
    async with sdk(app, max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="chat", messages=MESSAGES, timeout=2)
    assert await ended(server, app) == ["stopped"]


async def test_a_caller_of_another_client_is_not_waited_for(server: Serving, app: Client, gate: Gate) -> None:
    body = {"model": "chat", "messages": MESSAGES}
    headers = {"Authorization": f"Bearer {app.key}"}
    asking = asyncio.ensure_future(
        app.session.post(f"{app.url}/v1/openai/chat/completions", json=body, headers=headers)
    )
    await gate.reached.wait()
    asking.cancel()
    assert await ended(server, app) == ["stopped"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_run_that_is_to_go_on_goes_on(server: Serving, app: Client, gate: Gate, streamed: bool) -> None:
    async with sdk(app, max_retries=0, default_headers=KEEP) as client:
        asking = client.chat.completions.create(model="chat", messages=MESSAGES, stream=streamed, timeout=2)
        if streamed:
            await (await asking).close()  # pyright: ignore
        else:
            with pytest.raises(openai.APITimeoutError):
                await asking
    await gate.reached.wait()
    gate.let(10)
    assert await ended(server, app) == ["succeeded"]


async def test_a_process_that_ends_stops_no_run(server: Serving, app: Client, gate: Gate) -> None:
    async with sdk(app) as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        await gate.reached.wait()
        server.run_service.draining = True
        await stream.close()
    gate.let(10)
    assert await ended(server, app) == ["succeeded"]


# ------------------------------------------------------------------------------------------------------------- again


@pytest.mark.usefixtures("patient")
async def test_a_client_that_times_out_and_tries_again_makes_one_run(server: Serving, app: Client, gate: Gate) -> None:
    async with sdk(app, max_retries=10) as client:
        asking = asyncio.create_task(client.chat.completions.create(model="chat", messages=MESSAGES, timeout=2))
        await gate.reached.wait()
        await asyncio.sleep(2.5)  # at least one attempt is given up by now, however slow the machine is
        gate.let(10)
        answer = await asking
    assert answer.choices[0].message.content == "Hello"
    assert [run.status for run in await runs(server, app)] == ["succeeded"]


async def test_all_attempts_in_vain_are_one_run_that_is_stopped(server: Serving, app: Client, gate: Gate) -> None:
    async with sdk(app, max_retries=2) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="chat", messages=MESSAGES, timeout=2)
    assert await ended(server, app) == ["stopped"]


async def test_the_same_question_of_two_callers_is_two_runs(server: Serving, app: Client, gate: Gate) -> None:
    gate.let(10)
    async with sdk(app) as client:
        asking = (client.chat.completions.create(model="chat", messages=MESSAGES) for _ in range(2))
        one, other = await asyncio.gather(*asking)
        third = await client.chat.completions.create(model="chat", messages=MESSAGES)
    assert len({one.id, other.id, third.id}) == 3


async def test_a_key_is_one_run(server: Serving, app: Client, gate: Gate) -> None:
    gate.let(10)
    async with sdk(app, default_headers={"Idempotency-Key": "k"}) as client:
        asking = (client.chat.completions.create(model="chat", messages=MESSAGES) for _ in range(3))
        answers = await asyncio.gather(*asking)
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES)
        other: Any = [{"role": "user", "content": "another"}]
        another = await client.chat.completions.create(model="chat", messages=other)
    assert len({item.id for item in [*answers, stream]}) == 1
    assert another.id != answers[0].id
    assert {item.choices[0].message.content for item in answers} == {"Hello"}
    assert len({item.model_extra["conversation_id"] for item in answers if item.model_extra}) == 1
    _, conversations = await app.call("GET", "/v1/conversations?user=DEFAULT-USER")
    assert len(conversations["data"]) == 2


async def test_a_key_whose_run_was_stopped_begins_another(server: Serving, app: Client, gate: Gate) -> None:
    async with sdk(app, max_retries=0, default_headers={"Idempotency-Key": "k"}) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="chat", messages=MESSAGES, timeout=2)
        assert await ended(server, app) == ["stopped"]
        Scripted.scripts["gate"] = Gate(["Hello"])
        Scripted.scripts["gate"].let(10)
        answer = await client.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"


async def test_another_key_of_the_app_does_not_join(server: Serving, app: Client, gate: Gate) -> None:
    """Whoever counts an attempt gets no run but those of the same key and the same request."""
    gate.let(10)
    body = {"model": "chat", "messages": MESSAGES}
    headers = {"Authorization": f"Bearer {app.key}", "x-stainless-retry-count": "1"}
    url = f"{app.url}/v1/openai/chat/completions"
    async with app.session.post(url, json=body, headers=headers) as answer:
        first = (await answer.json())["id"]
    async with app.session.post(url, json=body, headers=headers) as answer:
        assert (await answer.json())["id"] != first, "what was answered is not answered again"


# ------------------------------------------------------------------------------------------------------ errors, alias


ASK = "/v1/openai/chat/completions"
JSON, STRANGER = {"Content-Type": "application/json"}, {"Authorization": "Bearer x"}


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"),
    [
        ("GET", "/v1/openai", {}, 404, "not_found"),
        ("GET", "/v1/openai/responses", {}, 405, "method_not_allowed"),
        ("DELETE", "/v1/openai/responses/resp_x", {}, 405, "method_not_allowed"),
        ("GET", "/v1/openai/responses/resp_x", {}, 404, "not_found"),
        ("GET", "/v1/openai/responses/resp_x/input_items", {}, 404, "not_found"),
        ("POST", "/v1/openai/completions", {"json": {}}, 404, "not_found"),
        ("GET", "/v1/openai/responsesx", {}, 404, "not_found"),
        ("POST", "/v1/openai/v1/embeddings", {"json": {}}, 404, "not_found"),
        ("GET", "/v1/openai/vector_stores/vs_1/files/file_1/content", {}, 404, "not_found"),
        ("PATCH", "/v1/openai/threads/../assistants/%2e%2e/\N{OCTOPUS}", {"data": b"\xff"}, 404, "not_found"),
        ("PUT", "/v1/openai/v1/responses", {"json": {}}, 405, "method_not_allowed"),
        ("GET", ASK, {}, 405, "method_not_allowed"),
        ("DELETE", "/v1/openai/models/x", {}, 405, "method_not_allowed"),
        ("POST", ASK, {"headers": STRANGER, "json": {}}, 401, "unauthorized"),
        ("POST", ASK, {"headers": JSON, "data": b"{"}, 400, "bad_request"),
        ("POST", ASK, {"data": b"{}"}, 415, "unsupported_media_type"),
        ("POST", ASK, {"json": {"x": "x" * 2000}}, 413, "request_entity_too_large"),
    ],
)
async def test_every_error_is_in_openais_shape(
    tmp_path: Path, method: str, path: str, more: Any, status: int, code: str
) -> None:
    async with serving(tmp_path, max_body=1000) as server:
        app = await server.add("chat.yml", chatflow())
        headers = {"Authorization": f"Bearer {app.key}", **more.get("headers", {})}
        async with app.session.request(method, app.url + path, **more | {"headers": headers}) as answer:
            error = await answer.json()
    assert answer.status == status
    assert error.keys() == {"error"}
    assert error["error"].keys() == {"message", "type", "param", "code"}
    assert error["error"]["code"] == code


async def test_what_breaks_is_in_openais_shape(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    app = await server.add("tiny.yml", workflow())

    async def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(server.run_service.apps, "end_user", broken)
    async with sdk(app, max_retries=0) as client:
        with pytest.raises(openai.InternalServerError) as wrong:
            await client.chat.completions.create(model=app.release.app.id, messages=MESSAGES)
    assert wrong.value.code == "internal_server_error"


async def test_too_many_callers_are_told_in_openais_shape(tmp_path: Path) -> None:
    async with serving(tmp_path, max_active=1) as server:
        app = await server.add("chat.yml", chatflow("{{#gate.text#}}", scripts=["gate"]))
        Scripted.scripts["gate"] = Gate([])
        async with sdk(app, max_retries=0) as client:
            stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model="chat", messages=MESSAGES)
            await stream.close()
    assert refused.value.code == "too_many_requests"


async def test_a_base_url_that_ends_with_a_version(server: Serving, app: Client, gate: Gate) -> None:
    gate.let(10)
    async with sdk(app) as client:
        there = client.with_options(base_url=f"{app.url}/v1/openai/v1")
        (model,) = (await there.models.list()).data
        assert (await there.models.retrieve("chat")).id == model.id
        answer = await there.chat.completions.create(model="chat", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"


# --------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("declared", "parameters"),
    [
        (completion_create_params.CompletionCreateParamsBase, CHAT),
        (response_create_params.ResponseCreateParamsBase, RESPONSES),
    ],
)
def test_every_parameter_of_the_client_stands_on_the_page_once(declared: type, parameters: Parameters):
    wanted = {*declared.__annotations__, "stream"}
    sets = [set(parameters.honoured) - {"inputs", "conversation_id"}, set(parameters.ignored), set(parameters.refused)]
    assert set.union(*sets) == wanted
    assert sum(map(len, sets)) == len(wanted)


TRIED: Mapping[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "logprobs": True,
    "modalities": ["text", "audio"],
    "n": 2,
    "tool_choice": "required",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_logprobs": 2,
    "web_search_options": {"search_context_size": "low"},
}


@pytest.mark.parametrize("name", sorted(CHAT.refused))
async def test_what_is_refused_is_refused_by_name(app: Client, name: str) -> None:
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="chat", messages=MESSAGES, extra_body={name: TRIED[name]})
    assert (refused.value.param, refused.value.code) == (name, "unsupported_parameter")


async def test_what_is_ignored_changes_nothing(app: Client, gate: Gate) -> None:
    gate.let(10)
    async with sdk(app) as client:
        answer = await client.chat.completions.create(
            model="chat", messages=MESSAGES, extra_body={name: {"any": ["thing"]} for name in CHAT.ignored}
        )
    assert answer.choices[0].message.content == "Hello"
