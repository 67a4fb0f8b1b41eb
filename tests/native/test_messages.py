"""Chats asked over the asynchronous API: queued, polled, followed, stopped, retried, called back, and in batches."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from headrace.node import Context, Result
from headrace.webhooks.payload import message
from tests.api.chats import chatflow, say
from tests.api.serving import Client, Gate, Scripted, Serving, serving, workflow
from tests.native.asynchronous import EVENTS, Reply, ask, look, submit, submitted, until

_PLACE = "conversation_id"
COUNT = "{{#sys.dialogue_count#}}: {{#sys.query#}}"


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("chat.yml", chatflow(COUNT))


async def answered(app: Client, query: str, conversation: str | None = None, **more: Any) -> Any:
    """The run of a message, at its end."""
    run = await submitted(app, query=query, conversation_id=conversation, **more)
    return await look(app, run, wait=60)


# --------------------------------------------------------------------------------------------------- submit, look


async def test_a_message_is_queued_at_once_and_polled_until_it_is_answered(app: Client) -> None:
    reply = await submit(app, query="hey", response_mode="async")
    assert reply.status == 202
    first = reply.body
    assert set(first) == {"task_id", "workflow_run_id", "status", "created_at", "conversation_id", "message_id"}
    assert (first["status"], first["message_id"]) == ("queued", first["workflow_run_id"])
    body = await look(app, first["workflow_run_id"], wait=60)
    assert (body["status"], body["answer"], body["query"]) == ("succeeded", "1: hey", "hey")
    assert (body["message_id"], body["conversation_id"]) == (first["message_id"], first["conversation_id"])
    assert body["outputs"]["answer"] == "1: hey"
    again = await answered(app, "there", first["conversation_id"])
    assert (again["answer"], again["conversation_id"]) == ("2: there", first["conversation_id"])


async def test_the_body_of_the_integration_guide(server: Serving) -> None:
    field = {"variable": "field1", "label": "field1", "type": "text-input", "required": True}
    features = {"file_upload": {"enabled": True, "allowed_file_types": ["image"], "number_limits": 1}}
    app = await server.add("chat.yml", chatflow("{{#start.field1#}}", variables=[field], features=features))
    picture = {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/a.png"}
    body = {
        "inputs": {"field1": "value1"},
        "query": "What do you see?",
        "files": [picture],
        "response_mode": "streaming",
        "user": "user_id",
    }
    path = f"/workflows/{app.release.app.id}/run"
    reply = await ask(app, "POST", path, json=body, prefix="/api")
    assert (reply.status, reply.body["status"]) == (202, "queued")
    detail = await look(app, reply.body["workflow_run_id"], wait=60)
    assert (detail["status"], detail["answer"], detail["user"]) == ("succeeded", "value1", "user_id")
    _, messages = await app.call(
        "GET", f"/v1/messages?user=user_id&conversation_id={detail['conversation_id']}"
    )  # it is a message as any other
    (message,) = messages["data"]
    assert [item["url"] for item in message["message_files"]] == ["https://example.com/a.png"]
    reply = await ask(app, "POST", path, json=body | {"files": [picture] * 2})
    assert (reply.status, reply.body["code"]) == (400, "invalid_param")


async def test_conversations_are_those_of_the_other_api(app: Client) -> None:
    said = (await say(app, "hey"))[1]
    body = await answered(app, "there", said["conversation_id"])
    assert body["answer"] == "2: there"
    assert (await say(app, "again", said["conversation_id"]))[1]["answer"] == "3: again"


async def test_an_answer_grows_while_it_is_polled(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#gate.text#}}", scripts=["gate"]))
    gate = Scripted.scripts["gate"] = Gate(["Hel", "lo"])
    gate.let(1)
    run = await submitted(app, query="hey")
    for _ in range(6000):  # it is there as soon as the journal has it
        if (body := await look(app, run))["answer"]:
            break
        await asyncio.sleep(0.01)
    assert body["answer"] == "Hel"
    assert (body["status"], body["outputs"]) == ("running", None)
    gate.let(2)
    assert (await look(app, run, wait=60))["answer"] == "Hello"


async def test_a_completion_needs_no_conversation(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow(mode="completion"))
    reply = await submit(app, query="hey")
    assert (reply.status, reply.body["conversation_id"]) == (202, None)
    body = await look(app, reply.body["workflow_run_id"], wait=60)
    assert (body["status"], body["answer"], body["conversation_id"]) == ("succeeded", "You said: hey", None)


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({}, 400, "query: Field required"),
        ({"query": ""}, 400, "query is required"),
        ({"query": 7}, 400, "query: Input should be a valid string"),
        ({"query": "x", "conversation_id": "x"}, 400, f"{_PLACE}: Value error, {_PLACE} must be a valid UUID"),
        ({"query": "x", "conversation_id": str(uuid4())}, 404, "Conversation Not Exists."),
    ],
)
async def test_messages_that_make_no_sense(app: Client, more: Any, status: int, message: str) -> None:
    reply = await submit(app, **more)
    assert (reply.status, reply.body["message"]) == (status, message)
    assert (await ask(app, "GET", "/workflow-runs")).body["data"] == []


async def test_of_another_end_user_there_is_no_conversation(app: Client) -> None:
    mine = (await submit(app, query="hey")).body["conversation_id"]
    reply = await submit(app, query="hey", conversation_id=mine, user="u2")
    assert (reply.status, reply.body["code"]) == (404, "not_found")


async def test_a_version_of_a_chatflow_is_asked(server: Serving) -> None:
    old = await server.add("chat.yml", chatflow("old"))
    new = await server.add("chat.yml", chatflow("new"))
    body = {"inputs": {}, "query": "hey", "user": "u1"}
    reply = await ask(new, "POST", f"/workflows/{old.release.version.id}/run", json=body)
    assert (await look(new, reply.body["workflow_run_id"], wait=60))["answer"] == "old"


async def test_blocking_and_streaming_messages(app: Client) -> None:
    reply = await submit(app, query="hey", response_mode="blocking")
    assert (reply.status, reply.body["status"], reply.body["answer"]) == (200, "succeeded", "1: hey")
    url, headers = f"{app.url}/api/v1/workflows/{app.release.app.id}/run", {"Authorization": f"Bearer {app.key}"}
    body = {"inputs": {}, "query": "hey", "user": "u1", "response_mode": "streaming"}
    async with app.session.post(url, json=body, headers=headers | {"Accept": EVENTS}) as answer:
        names = [json.loads(line[6:])["event"] for line in (await answer.text()).splitlines() if line[:6] == "data: "]
    assert (names[0], names[-1]) == ("workflow_started", "message_end")
    assert "message" in names


# ------------------------------------------------------------------------------------------------ follow, list, nodes


async def test_a_message_is_followed_and_its_nodes_are_told(app: Client) -> None:
    body = await answered(app, "hey")
    async with app.stream(f"/api/v1/workflow-runs/{body['id']}/events") as stream:
        events = await stream.rest()
    assert "".join(event.body["answer"] for event in events if event.name == "message") == "1: hey"
    assert events[-1].name == "message_end"
    nodes = (await ask(app, "GET", f"/workflow-runs/{body['id']}/node-executions")).body["data"]
    assert [node["node_type"] for node in nodes] == ["start", "answer"]


async def test_messages_are_listed_with_their_conversations(app: Client) -> None:
    first = await answered(app, "hey")
    second = await answered(app, "there", first["conversation_id"])
    other = await answered(app, "elsewhere")
    lines = (await ask(app, "GET", "/workflow-runs")).body["data"]
    places = [(item["message_id"], item["conversation_id"]) for item in lines]
    body = [other, second, first]
    assert places == [(item["message_id"], item["conversation_id"]) for item in body]


async def test_secrets_are_masked(server: Serving) -> None:
    file = chatflow("{{#env.KEY#}}").replace(
        "environment_variables: []",
        "environment_variables: [{id: k, name: KEY, value: hunter2!, value_type: secret}]",
    )
    app = await server.add("chat.yml", file)
    body = await answered(app, "hunter2!")
    assert (body["query"], body["answer"]) == ("*" * 20, "*" * 20)


# ------------------------------------------------------------------------------------------------------- stop, retry


async def test_a_message_is_stopped_and_asked_anew(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#gate.text#}}", scripts=["gate"]))
    gate = Scripted.scripts["gate"] = Gate(["Hel", "lo"])
    gate.let(1)
    run = await submitted(app, query="hey")
    await until(app, run, "running")
    stopped = await ask(app, "POST", f"/workflow-runs/{run}/stop")
    assert stopped.body["status"] == "stopped"
    Scripted.scripts["gate"] = Gate(["Hello"])
    Scripted.scripts["gate"].let(2)
    old = await look(app, run)
    again = await ask(app, "POST", f"/workflow-runs/{run}/retry")
    assert (again.status, again.body["conversation_id"]) == (202, old["conversation_id"])
    body = await look(app, again.body["workflow_run_id"], wait=60)
    assert (body["status"], body["answer"], body["retry_of"]) == ("succeeded", "Hello", run)


async def test_messages_of_one_conversation_are_answered_one_after_the_other(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow(COUNT, scripts=["gate"]))
    gate = Scripted.scripts["gate"] = Gate([])
    first = (await submit(app, query="a")).body
    await gate.reached.wait()
    second = await submitted(app, query="b", conversation_id=first["conversation_id"])
    assert (await look(app, second))["status"] == "queued"
    gate.let(10)
    assert (await look(app, second, wait=60))["answer"] == "2: b"


async def test_a_callback_tells_the_answer(server: Serving, app: Client) -> None:
    run = await submitted(app, query="hey", callback_url="https://example.com/hook")
    body = await look(app, run, wait=60)
    (callback,) = await server.store.callbacks.callbacks_of(run)
    view = await server.run_service.get(run)
    assert view is not None
    data = json.loads(message(callback, view))["data"]
    assert (data["status"], data["answer"], data["message_id"]) == ("succeeded", "1: hey", run)
    assert data["conversation_id"] == body["conversation_id"]


# ------------------------------------------------------------------------------------------------------- idempotency


async def test_a_message_that_is_sent_again_is_asked_once(app: Client) -> None:
    first, second = await asyncio.gather(*(submit(app, query="hey", key="k") for _ in range(2)))
    assert first.body == second.body
    third = await submit(app, query="hey", key="k")
    assert (third.body, third.headers["Idempotency-Replayed"]) == (first.body, "true")
    assert len((await ask(app, "GET", "/workflow-runs")).body["data"]) == 1
    _, conversations = await app.call("GET", "/v1/conversations?user=u1")
    assert [item["id"] for item in conversations["data"]] == [first.body["conversation_id"]]
    assert (await submit(app, query="other", key="k")).status == 409


async def test_what_a_process_did_before_it_died_is_not_done_again(tmp_path: Path) -> None:
    """The run was submitted, and its answer never kept: whoever asks again finds it, and one conversation."""
    async with serving(tmp_path) as server:
        app = await server.add("chat.yml", chatflow(COUNT))
        complete = server.store.idempotency.complete

        async def lost(*_: Any) -> None:
            raise RuntimeError("the process died")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server.store.idempotency, "complete", lost)
            assert (await submit(app, query="hey", key="k")).status == 500
        assert server.store.idempotency.complete == complete
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("headrace.api.native.idempotency.ABANDONED_SECONDS", 0.0)
            reply = await submit(app, query="hey", key="k")
        assert reply.status == 202
        assert (await look(app, reply.body["workflow_run_id"], wait=60))["answer"] == "1: hey"
        _, conversations = await app.call("GET", "/v1/conversations?user=u1")
        assert len(conversations["data"]) == 1


# ----------------------------------------------------------------------------------------------------------- batches


async def batched(app: Client, lines: list[Any], query: str = "") -> tuple[Reply, list[Any]]:
    """(what a batch was answered, its results once it has ended)."""
    data = "\n".join(json.dumps(item) for item in lines).encode()
    headers = {"Content-Type": "application/jsonl"}
    begun = await ask(app, "POST", f"/workflows/{app.release.app.id}/batch{query}", data=data, headers=headers)
    assert begun.status == 202, begun.body
    path = f"{app.url}/api/v1/batches/{begun.body['batch_id']}"
    for _ in range(6000):
        if (await ask(app, "GET", f"/batches/{begun.body['batch_id']}")).body["ended_at"]:
            break
        await asyncio.sleep(0.02)
    async with app.session.get(f"{path}/results", headers={"Authorization": f"Bearer {app.key}"}) as answer:
        return begun, [json.loads(line) for line in (await answer.text()).splitlines()]


async def test_a_batch_of_messages(app: Client) -> None:
    mine = (await submit(app, query="hey", user="ann")).body["conversation_id"]
    lines = [
        {"inputs": {}, "query": "a"},
        {"inputs": {}, "query": "b", "conversation_id": mine},
        {"inputs": {}},
        {"inputs": {}, "query": "c", "conversation_id": str(uuid4())},
        {"inputs": {}, "query": "d", "conversation_id": mine},
        {"inputs": {}, "query": "e", "files": []},
    ]
    _, results = await batched(app, lines, "?user=ann")
    assert [result.get("answer") for result in results] == ["1: a", "2: b", None, None, "3: d", None]
    assert [result["status"] for result in results] == ["succeeded"] * 2 + ["failed"] * 2 + ["succeeded", "failed"]
    assert [results[2]["error"], results[3]["error"]] == ["query: Field required", "Conversation Not Exists."]
    assert results[5]["error"].startswith("files: unknown field")
    assert results[1]["conversation_id"] == results[4]["conversation_id"] == mine
    assert results[0]["conversation_id"] not in (mine, None)
    assert results[0]["message_id"] == results[0]["workflow_run_id"]


async def test_a_batch_of_a_workflow_takes_a_query_where_an_input_is_called_so(server: Serving) -> None:
    query = {"variable": "query", "label": "query", "type": "text-input", "required": True}
    app = await server.add("tiny.yml", workflow(variables=[query], outputs={"out": ("start", "query")}))
    _, results = await batched(app, [{"inputs": {}, "query": "a"}, {"inputs": {"query": "b"}}])
    assert [result["outputs"] for result in results] == [{"out": "a"}, {"out": "b"}]
    assert "answer" not in results[0]


async def test_an_annotation_answers_in_a_batch_too(app: Client) -> None:
    body = {"score_threshold": 0.9, "embedding_provider_name": "x", "embedding_model_name": "x"}
    await app.call("POST", "/v1/apps/annotation-reply/enable", json=body)
    await app.call("POST", "/v1/apps/annotations", json={"question": "who?", "answer": "me"})
    _, results = await batched(app, [{"inputs": {}, "query": "who?"}])
    assert results[0]["answer"] == "me"


async def test_what_a_chat_says_is_no_ones_but_the_chats(server: Serving, app: Client) -> None:
    async def says(ctx: Context) -> Result:
        return Result({"text": "hi"})

    Scripted.scripts["says"] = says
    other = await server.add("other.yml", chatflow(name="other", scripts=["says"]))
    theirs = await answered(other, "hey")
    assert (await ask(app, "GET", f"/workflow-runs/{theirs['id']}")).status == 404
    reply = await submit(app, query="x", conversation_id=theirs["conversation_id"])
    assert (reply.status, reply.body["message"]) == (404, "Conversation Not Exists.")
