"""The contract's `chat` and `rest`, against the recorded Dify."""

from __future__ import annotations

import asyncio
import io
import pathlib
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from headrace_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    Client,
    StreamInterruptedError,
    ValidationError,
)
from headrace_client.errors import UsageError

from tests.certificates import Authority
from tests.sdk_contract.dify_server import Dify, cases, events_of, key_of
from tests.sdk_contract.serving import Running
from tests.sdk_python.clients import Fault, Maker, collect
from tests.server.process import Serve

CHAT = key_of("33_chat_llm")
TURN = key_of("38_chat_convvar_turn2")
ANSWER = "Bot: Echo: how are you <end>"
CONVERSATION = "9488e02b-5121-49c4-ba24-5deb90cad738"


async def test_chat_blocking(make: Maker, dify: str, faulty_dify: Fault) -> None:
    message = await make(CHAT, dify).send_chat_message("how are you")
    assert message.answer == ANSWER
    assert message.message_id
    assert message["metadata"]["usage"]["total_tokens"] == 10
    faulty_dify.script()
    await make(TURN, faulty_dify.url).send_chat_message("two", conversation_id=CONVERSATION, auto_generate_name=False)
    assert faulty_dify.bodies()[0] == {
        "query": "two",
        "inputs": {},
        "user": "headrace-client",
        "conversation_id": CONVERSATION,
        "auto_generate_name": False,
        "response_mode": "blocking",
    }


async def test_chat_streaming(make: Maker, dify: str) -> None:
    async with make(CHAT, dify).stream_chat_message("how are you") as stream:
        events = await collect(stream)
    assert stream.text == "".join(event.text for event in events) == ANSWER
    assert (events[-2].event, events[-1].event) == ("workflow_finished", "message_end")
    assert stream.conversation_id == events[0].conversation_id
    assert stream.message_id == events[0].message_id
    assert stream.run.status == "succeeded"


async def test_chat_stop(make: Maker, faulty_dify: Fault) -> None:
    client = make(CHAT, faulty_dify.url)
    faulty_dify.script()
    assert (await client.stop_chat_message("t1")).result == "success"
    assert (await client.stop_completion("t2", user="u")).result == "success"
    assert faulty_dify.calls() == ["POST /v1/chat-messages/t1/stop", "POST /v1/completion-messages/t2/stop"]
    assert faulty_dify.bodies() == [{"user": "headrace-client"}, {"user": "u"}]


async def test_chat_completion(make: Maker, fault: Fault) -> None:
    client = make("app-x", fault.url)
    fault.script({"status": 200, "body": {"event": "message", "message_id": "m", "answer": "written"}})
    assert (await client.create_completion({"topic": "x"})).answer == "written"
    lines = 'data: {"event":"message","message_id":"m","answer":"wri"}\n\n'
    lines += 'data: {"event":"message_replace","message_id":"m","answer":"Wri"}\n\n'
    lines += 'data: {"event":"message","message_id":"m","answer":"tten"}\n\ndata: {"event":"message_end"}\n\n'
    fault.script({"status": 200, "headers": {"Content-Type": "text/event-stream"}, "body": lines})
    stream = client.stream_completion({"topic": "x"}, query="q")
    assert len(await collect(stream)) == 4
    assert stream.text == "Written"
    assert fault.bodies()[0]["query"] == "q"


async def test_chat_suggested(make: Maker, dify: str) -> None:
    assert (await make(CHAT, dify).get_suggested_questions("m1")).data == ["And then?", "Why?"]


async def test_chat_feedback(make: Maker, dify: str, faulty_dify: Fault) -> None:
    client, name = make(CHAT, faulty_dify.url), f"m-{uuid4()}"
    faulty_dify.script()
    assert (await client.send_feedback(name, "like", content="good")).result == "success"
    assert faulty_dify.bodies()[0] == {"rating": "like", "user": "headrace-client", "content": "good"}
    for number in range(4):
        await client.send_feedback(f"{name}-{number}", None)
    message_ids = [feedback.message_id async for feedback in client.list_feedbacks(limit=2)]
    assert message_ids[-5:] == [name, *(f"{name}-{number}" for number in range(4))]


async def test_chat_conversations_list_rename_delete(make: Maker, dify: str) -> None:
    client = make(TURN, dify)
    conversations = [conversation async for conversation in client.list_conversations(limit=1, sort_by="-updated_at")]
    assert CONVERSATION in {conversation.id for conversation in conversations}
    assert (await client.rename_conversation(CONVERSATION, "other")).name == "other"
    assert (await client.rename_conversation(CONVERSATION, auto_generate=True)).name == "made up"
    assert await client.delete_conversation(str(uuid4())) is None


async def test_chat_messages(make: Maker, dify: str) -> None:
    pages = make(TURN, dify).list_messages(CONVERSATION, limit=2)
    assert [[message.answer for message in page.data] async for page in pages.pages()] == [
        ["count=2", "count=3"],
        ["count=1"],
    ]
    assert len([message async for message in pages]) == 3


async def test_chat_variables(make: Maker, dify: str) -> None:
    client = make(TURN, dify)
    variables = [variable async for variable in client.list_conversation_variables(CONVERSATION)]
    assert [(variable.name, variable.value) for variable in variables] == [("count", "3")]
    changed = await client.update_conversation_variable(CONVERSATION, variables[0].id, 9)
    assert changed.value == "9"


async def test_chat_cut_ends_with_the_answer(make: Maker, faulty_dify: Fault) -> None:
    client = make(CHAT, faulty_dify.url)
    recorded = events_of("33_chat_llm")
    length = (cases()["33_chat_llm"] / "response.stream.txt").stat().st_size
    for cut in (*range(700, length - 2, 900), length - 20):
        faulty_dify.script({"pass": True, "cut": cut})
        stream = client.stream_chat_message("how are you")
        events = await collect(stream)
        real = [event for event in events if not event.synthesized]
        assert [event.event for event in real] == [recorded_event["event"] for recorded_event in recorded][: len(real)]
        assert events[-1].event == "message_end"
        assert events[-1].synthesized
        assert events[-1].answer == ANSWER
        assert [event.event for event in events].count("workflow_finished") == 1


async def test_chat_cut_of_a_failed_run(make: Maker, faulty_dify: Fault) -> None:
    faulty_dify.script({"pass": True, "cut": 3000})
    events = await collect(make(key_of("32_chat_fail"), faulty_dify.url).stream_chat_message("hi"))
    assert [event.event for event in events[-2:]] == ["workflow_finished", "error"]
    assert events[-1].message.startswith("Run failed:")


async def test_chat_cut_without_a_run(make: Maker, fault: Fault) -> None:
    """A chat without a workflow: its message is complete when it does not grow any more."""
    line = 'data: {"event":"message","conversation_id":"c","message_id":"m","task_id":"t","answer":"On"}\n\n'
    stream = {"status": 200, "headers": {"Content-Type": "text/event-stream"}, "body": line, "cut": len(line)}
    history = [
        {"status": 200, "body": {"data": [{"id": "m", "answer": answer}]}} for answer in ("One", "One two", "One two")
    ]
    fault.script(stream, {"status": 200, "body": {"data": []}}, *history)
    events = await collect(make("app-x", fault.url).stream_chat_message("hi"))
    assert events[-1].answer == "One two"
    assert make.time.delays == [1.0, 1.5, 2.25]
    completion = line.replace('"conversation_id":"c",', "")
    fault.script({**stream, "body": completion, "cut": len(completion)})
    with pytest.raises(StreamInterruptedError) as raised:
        await collect(make("app-x", fault.url).stream_completion({}))
    assert (raised.value.message_id, raised.value.text) == ("m", "On")


async def test_chat_audio(make: Maker, dify: str, tmp_path: pathlib.Path) -> None:
    client = make(CHAT, dify)
    (tmp_path / "said.mp3").write_bytes(b"ID3 sound")
    assert (await client.audio_to_text(tmp_path / "said.mp3")).text == "heard 9 bytes of said.mp3"
    assert (await client.audio_to_text(io.BytesIO(b"ID3"))).text == "heard 3 bytes of file.mp3"
    assert await client.text_to_audio("hello") == b"ID3hello"


# ----------------------------------------------------------------------------------------------------------------- rest


async def test_rest_human_input_form(make: Maker, dify: str) -> None:
    form = await make(CHAT, dify).get_human_input_form("token")
    assert form.user_actions[0]["id"] == "approve"
    assert form.inputs[0]["output_variable_name"] == "note"
    with pytest.raises(ValidationError) as raised:
        await make(CHAT, dify).get_human_input_form("gone")
    assert raised.value.status == 412


async def test_rest_human_input_submit(make: Maker, faulty_dify: Fault) -> None:
    client = make(CHAT, faulty_dify.url)
    faulty_dify.script()
    await client.submit_human_input_form("token", action="approve", inputs={"note": "yes"})
    assert faulty_dify.bodies() == [{"inputs": {"note": "yes"}, "action": "approve", "user": "headrace-client"}]
    with pytest.raises(ValidationError):
        await client.submit_human_input_form("token", action="other")


async def test_rest_human_input_files(make: Maker, faulty_dify: Fault) -> None:
    faulty_dify.script()
    inputs = {"note": "https://example.org/", "pictures": b"\x89PNG\r\n\x1a\n", "page": "https://example.org/a.pdf"}
    await make(CHAT, faulty_dify.url).submit_human_input_form("token", action="approve", inputs=inputs)
    form = "/v1/form/human_input/token"
    assert faulty_dify.calls() == [f"GET {form}", "POST /v1/files/upload", f"POST {form}"]
    sent = faulty_dify.bodies()[-1]["inputs"]
    uploaded = sent["pictures"][0].pop("upload_file_id")
    assert uploaded
    assert sent == {
        "note": "https://example.org/",
        "pictures": [{"type": "image", "transfer_method": "local_file"}],
        "page": {"type": "document", "transfer_method": "remote_url", "url": "https://example.org/a.pdf"},
    }


async def test_rest_health(make: Maker, headrace: Serve, fault: Fault) -> None:
    client = make(headrace.keys["hello"], headrace.url)
    assert (await client.get_health()).status == "ok"
    assert (await client.get_readiness()).healthy
    fault.script({"status": 503, "body": {"status": "not ready"}})
    unready = await make("app-x", fault.url).get_readiness()
    assert (unready.healthy, unready.status) == (False, "not ready")


async def test_rest_timeouts_a_call(make: Maker, fault: Fault) -> None:
    fault.script({"hang": 30})
    started_at = time.monotonic()
    with pytest.raises(APITimeoutError):
        await make("app-x", fault.url, real_time=True).get_info(timeout=0.1)
    assert time.monotonic() - started_at < 29
    fault.script({"hang": 30})
    with pytest.raises(APITimeoutError):
        await make("app-x", fault.url, max_retries=0).get_info(timeout=httpx.Timeout(5, read=0.05))


async def test_rest_proxy_and_custom_transport(make: Maker, fault: Fault) -> None:
    fault.script({"status": 200, "body": {"name": "through a proxy"}})
    client = make("app-x", "http://somewhere.invalid/v1", proxy=fault.url)
    assert (await client.get_info()).name == "through a proxy"
    assert fault.requests[0]["headers"]["host"] == "somewhere.invalid"
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"name": request.headers["x-team"]}))
    http: Any = httpx.Client(transport=answer) if make.kind == "sync" else httpx.AsyncClient(transport=answer)
    client = make("app-x", "http://somewhere.invalid", http_client=http, headers={"X-Team": "a"})
    assert (await client.get_info()).name == "a"
    await client.aclose()
    assert not http.is_closed, "the caller closes it"
    await http.aclose() if make.kind == "async" else http.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[str]:
    """A TLS server that requires a client certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.certificate)
    context.load_cert_chain(authority.issue("server").both)
    context.verify_mode = ssl.CERT_REQUIRED
    with Running(Dify().app(), context) as server:
        yield server.url


async def test_rest_tls(make: Maker, secure: str, authority: Authority) -> None:
    ca, client = authority.certificate, authority.issue("client")
    pair = (str(client.certificate), str(client.key))
    pairs: list[tuple[Any, Any]] = [(ca, pair), (str(ca), str(client.both))]
    pairs.append((ssl.create_default_context(cafile=ca), pair))
    for verify, cert in pairs:
        assert (await make(CHAT, secure, verify=verify, cert=cert).get_info()).mode == "advanced-chat"
    for verify, cert in ((True, pair), (ca, None)):
        with pytest.raises(APIConnectionError):
            await make(CHAT, secure, verify=verify, cert=cert, max_retries=0).get_info()
    unchecked = make(CHAT, secure, verify=False, cert=pair)
    assert (await unchecked.get_info()).mode == "advanced-chat"


async def test_rest_tls_options_are_checked(make: Maker, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="CA bundle"):
        make("app-x", "https://127.0.0.1", verify=tmp_path / "nothing.pem")
    with pytest.raises(UsageError):
        make("app-x", "https://127.0.0.1", cert=str(tmp_path / "nothing.pem"))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UsageError, match="certificate"):
        make("app-x", "https://127.0.0.1", verify=str(tmp_path / "ca.pem"))


def test_rest_one_client_for_many_threads(headrace: Serve) -> None:
    app = headrace.apps["hello"]
    with Client(app["key"], headrace.url) as client, ThreadPoolExecutor(16) as pool:
        runs = pool.map(
            lambda number: client.run_and_wait({"text": f"n{number}"}, workflow_id=app["app_id"]), range(64)
        )
        assert [run.outputs for run in runs] == [{"text": f"You said: n{number}"} for number in range(64)]


async def test_rest_hundred_streams_at_once(headrace: Serve) -> None:
    async with AsyncClient(headrace.keys["hello"], headrace.url) as client:

        async def one(number: int) -> str:
            stream = await client.stream_workflow({"text": f"n{number}"}).until_done()
            return stream.text

        results = await asyncio.gather(*(one(number) for number in range(100)))
    assert results == [f"You said: n{number}" for number in range(100)]
