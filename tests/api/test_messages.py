"""Messages of a conversation, what is suggested after them, and what end users think of them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
import yaml

from headrace.errors import NodeError
from headrace.kernel.graph import Traits
from headrace.node import Context, Result
from headrace.nodes.knowledge_retrieval import KnowledgeRetrieval
from headrace.ports.services import Usage
from tests.api.chats import chatflow, refused, say, saying
from tests.api.serving import REGISTRY, Client, Gate, Scripted, Serving, serving

NOBODY = str(uuid4())
NO_MESSAGE = (404, "not_found", "Message Not Exists.")


@pytest.fixture
async def app(server: Serving) -> Client:
    return await server.add("chat.yml", chatflow())


async def messages(app: Client, conversation: str, query: str = "") -> Any:
    status, body = await app.call("GET", f"/v1/messages?user=u1&conversation_id={conversation}{query}")
    assert status == 200, body
    return body


async def only_message(app: Client, conversation: str) -> Any:
    (entry,) = (await messages(app, conversation))["data"]
    return entry


# ------------------------------------------------------------------------------------------------------------- list


async def test_a_message_is_shown_with_its_answer(server: Serving) -> None:
    variable = {"label": "tone", "variable": "tone", "type": "text-input", "required": True}
    app = await server.add("chat.yml", chatflow(variables=[variable]))
    said = (await say(app, "hey", inputs={"tone": "kind", "nobody asked": 1}))[1]
    body = await messages(app, said["conversation_id"])
    assert (body["limit"], body["has_more"]) == (20, False)
    (entry,) = body["data"]
    assert list(entry) == [
        "id",
        "conversation_id",
        "parent_message_id",
        "inputs",
        "query",
        "answer",
        "feedback",
        "retriever_resources",
        "created_at",
        "agent_thoughts",
        "message_files",
        "message_tokens",
        "answer_tokens",
        "provider_response_latency",
        "total_price",
        "currency",
        "status",
        "error",
        "extra_contents",
        "total_tokens",
    ]
    assert entry | {"created_at": 0, "provider_response_latency": 0} == {
        "id": said["message_id"],
        "conversation_id": said["conversation_id"],
        "parent_message_id": "00000000-0000-0000-0000-000000000000",
        "inputs": {"tone": "kind"},
        "query": "hey",
        "answer": "You said: hey",
        "feedback": None,
        "retriever_resources": [],
        "created_at": 0,
        "agent_thoughts": [],
        "message_files": [],
        "message_tokens": 0,
        "answer_tokens": 0,
        "provider_response_latency": 0,
        "total_price": "0.0",
        "currency": "USD",
        "status": "normal",
        "error": None,
        "extra_contents": [],
        "total_tokens": 0,
    }
    assert 0 < entry["provider_response_latency"] < 60
    assert entry["created_at"] == said["created_at"]


async def test_messages_come_page_by_page(app: Client) -> None:
    conversation = (await say(app, "0"))[1]["conversation_id"]
    for number in range(1, 5):
        await say(app, str(number), conversation)
    page = await messages(app, conversation, "&limit=2")
    assert ([item["query"] for item in page["data"]], page["has_more"], page["limit"]) == (["3", "4"], True, 2)
    page = await messages(app, conversation, f"&limit=2&first_id={page['data'][0]['id']}")
    assert ([item["query"] for item in page["data"]], page["has_more"]) == (["1", "2"], True)
    page = await messages(app, conversation, f"&limit=2&first_id={page['data'][0]['id']}")
    assert ([item["query"] for item in page["data"]], page["has_more"]) == (["0"], False)
    page = await messages(app, conversation, f"&first_id={page['data'][0]['id']}")
    assert (page["data"], page["has_more"]) == ([], False)


async def test_no_conversation_has_no_messages(app: Client) -> None:
    assert await messages(app, "") == {"limit": 20, "has_more": False, "data": []}


async def test_messages_that_cannot_be_listed(server: Serving, app: Client) -> None:
    said, elsewhere = (await say(app))[1], (await say(app))[1]
    mine = said["conversation_id"]
    path = "/v1/messages?user=u1"
    no_conversation = (404, "not_found", "Conversation Not Exists.")
    no_first = (404, "not_found", "First Message Not Exists.")
    assert await refused(app, "GET", path) == (400, "invalid_param", "conversation_id: Field required")
    assert (await refused(app, "GET", f"{path}&conversation_id=nope"))[:2] == (400, "invalid_param")
    assert await refused(app, "GET", f"{path}&conversation_id={NOBODY}") == no_conversation
    assert await refused(app, "GET", f"/v1/messages?user=u2&conversation_id={mine}") == no_conversation
    assert await refused(app, "GET", f"/v1/messages?conversation_id={mine}") == no_conversation
    assert await refused(app, "GET", f"{path}&conversation_id={mine}&first_id={NOBODY}") == no_first
    other_first = f"{path}&conversation_id={mine}&first_id={elsewhere['message_id']}"
    assert await refused(app, "GET", other_first) == no_first
    assert (await refused(app, "GET", f"{path}&conversation_id={mine}&first_id=x"))[:2] == (400, "invalid_param")
    for limit in ("0", "101", "x", "-1"):
        assert (await refused(app, "GET", f"{path}&conversation_id={mine}&limit={limit}"))[:2] == (400, "invalid_param")
    other = await server.add("other.yml", chatflow(name="other"))
    assert await refused(other, "GET", f"{path}&conversation_id={mine}") == no_conversation


async def test_an_answer_under_way_is_shown_as_far_as_it_goes(server: Serving) -> None:
    gate = Scripted.scripts["slow"] = Gate(["Once ", "upon ", "a time"])
    app = await server.add("chat.yml", chatflow("So: {{#slow.text#}}.", ["slow"]))
    async with saying(app, "tell me") as stream:
        started = await stream.next()
        assert started is not None
        conversation = started.body["conversation_id"]
        await gate.reached.wait()
        assert (await only_message(app, conversation))["answer"] == "So: "
        gate.let(4)
        await stream.until("message_end")
    entry = await only_message(app, conversation)
    assert (entry["answer"], entry["status"]) == ("So: Once upon a time.", "normal")


async def test_a_stopped_answer_keeps_what_was_said(server: Serving) -> None:
    gate = Scripted.scripts["slow"] = Gate(["Once ", "upon ", "a time"])
    app = await server.add("chat.yml", chatflow("So: {{#slow.text#}}.", ["slow"]))
    async with saying(app, "tell me") as stream:
        gate.let(2)
        text = ""
        while "upon" not in text:
            event = await stream.next()
            assert event is not None
            text += event.body.get("answer", "")
        stop = f"/v1/chat-messages/{event.body['task_id']}/stop"
        assert (await app.call("POST", stop, json={"user": "u1"}))[0] == 200
        conversation = event.body["conversation_id"]
        await stream.rest()
    entry = await only_message(app, conversation)
    assert (entry["answer"], entry["status"], entry["error"]) == ("So: Once upon ", "normal", None)


@pytest.mark.parametrize("left", [False, True], ids=["stays", "leaves"])
async def test_what_was_said_before_the_stop_is_remembered(server: Serving, left: bool) -> None:
    gate = Gate(["Once ", "upon ", "a time"])

    async def slow(ctx: Context) -> Result:
        if ctx.variables.get(("sys", "query")) == "tell me":
            return await gate(ctx)
        conversation = str(ctx.variables.get(("sys", "conversation_id")))
        turns = await ctx.resources.history.turns(conversation, ctx.run, 9)
        return Result({"text": " / ".join(f"{turn.query}: {turn.answer}" for turn in turns)})

    Scripted.scripts["slow"] = slow
    app = await server.add("chat.yml", chatflow("So: {{#slow.text#}}.", ["slow"]))
    gate.let(2)
    async with saying(app, "tell me") as stream:
        text, event = "", None
        while "upon" not in text:
            event = await stream.next()
            assert event is not None
            text += event.body.get("answer", "")
        assert event is not None
        if left:
            stream.answer.close()
        stop = f"/v1/chat-messages/{event.body['task_id']}/stop"
        assert (await app.call("POST", stop, json={"user": "u1"}))[0] == 200
    _, body = await say(app, "go on", event.body["conversation_id"])
    assert body["answer"] == "So: tell me: So: Once upon ."


async def test_a_failed_answer_says_why(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("So: {{#boom.text#}}", ["boom"]))
    assert (await say(app, "hey"))[0] == 400
    _, listed = await app.call("GET", "/v1/conversations?user=u1")
    entry = await only_message(app, listed["data"][0]["id"])
    assert (entry["status"], entry["error"], entry["answer"]) == ("error", "Run failed: it went boom", "So: ")


async def test_what_is_shown_hides_secrets(server: Serving) -> None:
    file: Any = yaml.safe_load(chatflow("{{#env.token#}} {{#sys.query#}} {{#go.text#}}", ["go"]))
    secret = {"id": "t", "name": "token", "value": "hunter22", "value_type": "secret", "selector": ["env", "token"]}
    file["workflow"]["environment_variables"] = [secret]

    async def go(_: Context) -> Result:
        return Result({"text": "hunter22"})

    Scripted.scripts["go"] = go
    app = await server.add("chat.yml", yaml.safe_dump(file))
    conversation = (await say(app, "is it hunter22?"))[1]["conversation_id"]
    # a version without the secret is served by now: what the old one said is masked all the same
    await server.add("chat.yml", chatflow())
    body = await messages(app, conversation)
    assert "hunter22" not in str(body)
    assert body["data"][0]["query"] == "is it ********************?"

    await server.add("chat.yml", yaml.safe_dump(file))
    Scripted.scripts["go"] = boom
    await say(app, "again", conversation)
    entry = (await messages(app, conversation))["data"][1]
    assert (entry["status"], entry["error"]) == ("error", "Run failed: ******************** is wrong")
    assert entry["answer"] == "******************** again "


async def boom(_: Context) -> Result:
    raise NodeError("hunter22 is wrong")


async def test_files_of_question_and_answer(server: Serving) -> None:
    async def draw(ctx: Context) -> Result:
        drawn = await ctx.resources.files.save(b"png", filename="drawn.png", mime_type="image/png")
        return Result({"picture": drawn})

    Scripted.scripts["draw"] = draw
    uploads = {"enabled": True, "allowed_file_types": ["image"], "allowed_file_upload_methods": ["remote_url"]}
    app = await server.add("chat.yml", chatflow("{{#draw.picture#}}", ["draw"], features={"file_upload": uploads}))
    picture = {"type": "image", "transfer_method": "remote_url", "url": "https://example.com/a.png"}
    conversation = (await say(app, "draw it", files=[picture]))[1]["conversation_id"]
    mine, drawn = (await only_message(app, conversation))["message_files"]
    assert list(mine) == [
        "id",
        "filename",
        "type",
        "url",
        "mime_type",
        "size",
        "transfer_method",
        "belongs_to",
        "upload_file_id",
    ]
    assert (mine["belongs_to"], mine["transfer_method"], mine["upload_file_id"]) == ("user", "remote_url", None)
    assert mine["url"] == "https://example.com/a.png"
    assert (drawn["belongs_to"], drawn["transfer_method"]) == ("assistant", "tool_file")
    assert (drawn["filename"], drawn["mime_type"], drawn["size"]) == ("drawn.png", "image/png", 3)
    assert UUID(drawn["id"]) != UUID(drawn["upload_file_id"])
    async with app.session.get(drawn["url"]) as answer:
        assert await answer.read() == b"png"


async def test_what_an_answer_cost(tmp_path: Path) -> None:
    usage = Usage(6, 4, Decimal("0.001"), Decimal("0.002"), latency=0.5).wire()

    async def ask(_: Context) -> Result:
        return Result({"text": "Hello!"}, usage=usage)

    async def fail(_: Context) -> Result:
        raise NodeError("The model is away.", "InvokeServerUnavailableError")

    Scripted.scripts |= {"ask": ask, "again": ask, "fail": fail}
    async with serving(tmp_path) as server:
        app = await server.add("chat.yml", chatflow("Hello!", scripts=["ask", "again"]))
        entry = await only_message(app, (await say(app))[1]["conversation_id"])
        assert (entry["message_tokens"], entry["answer_tokens"], entry["total_tokens"]) == (12, 8, 20)
        assert (entry["total_price"], entry["currency"]) == ("0.0000280", "USD")
        failing = await server.add("failing.yml", chatflow(scripts=["ask", "fail"], name="failing"))
        async with saying(failing) as stream:
            conversation = (await stream.rest())[0].body["conversation_id"]
        entry = await only_message(failing, conversation)
        assert (entry["status"], entry["total_tokens"], entry["total_price"]) == ("error", 10, "0.0000140")


class Retrieval(Scripted):
    type: ClassVar[str] = "knowledge-retrieval"
    traits: ClassVar[Traits] = KnowledgeRetrieval.traits


async def retrieve(_: Context) -> Result:
    metadata = {"_source": "knowledge", "dataset_id": "d1", "dataset_name": "Books", "document_id": "p1", "score": 0.9}
    return Result({"result": [{"content": "To be", "title": "Hamlet", "metadata": metadata}]})


@pytest.mark.parametrize("citing", [True, False])
async def test_what_an_answer_cites(tmp_path: Path, citing: bool) -> None:
    Scripted.scripts["find"] = retrieve
    file: Any = yaml.safe_load(chatflow(scripts=["find"], features={"retriever_resource": {"enabled": citing}}))
    file["workflow"]["graph"]["nodes"][1]["data"]["type"] = "knowledge-retrieval"
    async with serving(tmp_path, registry={**REGISTRY, "knowledge-retrieval": Retrieval}) as server:
        app = await server.add("chat.yml", yaml.safe_dump(file))
        said = (await say(app))[1]
        sources = (await only_message(app, said["conversation_id"]))["retriever_resources"]
        assert len(sources) == citing
        for source in sources:
            assert UUID(source.pop("id"))
            assert {name: value for name, value in source.items() if value is not None} == {
                "message_id": said["message_id"],
                "position": 1,
                "dataset_id": "d1",
                "dataset_name": "Books",
                "document_id": "p1",
                "score": 0.9,
                "content": "To be",
            }


# -------------------------------------------------------------------------------------------------------- feedbacks


async def rate(app: Client, message: str, rating: Any, user: Any = "u1", **more: Any) -> tuple[int, Any]:
    fields = {"rating": rating, "user": user, **more}
    return await app.call("POST", f"/v1/messages/{message}/feedbacks", json=fields)


async def test_a_message_is_rated_and_rated_anew(server: Serving, app: Client) -> None:
    said = (await say(app))[1]
    assert await rate(app, said["message_id"], "like", content="fine") == (200, {"result": "success"})
    assert (await only_message(app, said["conversation_id"]))["feedback"] == {"rating": "like"}
    _, first = await app.call("GET", "/v1/app/feedbacks")
    assert (await rate(app, said["message_id"], "dislike"))[0] == 200
    _, body = await app.call("GET", "/v1/app/feedbacks")
    (entry,) = body["data"]
    assert list(entry) == [
        "id",
        "app_id",
        "conversation_id",
        "message_id",
        "rating",
        "content",
        "from_source",
        "from_end_user_id",
        "from_account_id",
        "created_at",
        "updated_at",
    ]
    assert (entry["rating"], entry["content"], entry["from_source"]) == ("dislike", None, "user")
    assert (entry["message_id"], entry["conversation_id"]) == (said["message_id"], said["conversation_id"])
    assert (entry["app_id"], entry["id"]) == (app.release.app.id, first["data"][0]["id"])
    _, who = await app.call("GET", f"/v1/end-users/{entry['from_end_user_id']}")
    assert who["session_id"] == "u1"
    assert entry["created_at"].endswith("Z")


async def test_a_rating_is_taken_back(app: Client) -> None:
    said = (await say(app))[1]
    await rate(app, said["message_id"], "like")
    assert (await rate(app, said["message_id"], None))[0] == 200
    assert (await only_message(app, said["conversation_id"]))["feedback"] is None
    assert (await app.call("GET", "/v1/app/feedbacks"))[1] == {"data": []}
    status, body = await rate(app, said["message_id"], None)
    assert (status, body["code"]) == (400, "invalid_param")
    assert body["message"] == "rating cannot be None when feedback not exists"


async def test_ratings_that_are_none(server: Serving, app: Client) -> None:
    message = (await say(app))[1]["message_id"]
    for rating in ("love", 1, ["like"], True):
        status, body = await rate(app, message, rating)
        assert (status, body["code"]) == (400, "invalid_param")
    assert (await rate(app, message, "like", content=5))[1]["code"] == "invalid_param"
    assert (await rate(app, message, "like", user=None))[1]["message"] == "Arg user must be provided."
    other = await server.add("other.yml", chatflow(name="other"))
    for caller, wanted, user in (
        (app, message, "u2"),
        (other, message, "u1"),
        (app, NOBODY, "u1"),
        (app, "nope", "u1"),
    ):
        status, body = await rate(caller, wanted, "like", user)
        assert (status, body["code"], body["message"]) == NO_MESSAGE
    assert (await app.call("GET", "/v1/app/feedbacks"))[1] == {"data": []}


async def test_completions_are_rated_too(server: Serving) -> None:
    app = await server.add("completion.yml", chatflow(mode="completion"))
    fields = {"inputs": {}, "query": "hey", "user": "u1"}
    message = (await app.call("POST", "/v1/completion-messages", json=fields))[1]["message_id"]
    assert (await rate(app, message, "like"))[0] == 200
    (entry,) = (await app.call("GET", "/v1/app/feedbacks"))[1]["data"]
    assert UUID(entry["conversation_id"])


async def test_feedbacks_come_page_by_page(app: Client) -> None:
    said = [(await say(app))[1]["message_id"] for _ in range(3)]
    for message in said:
        await rate(app, message, "like")
    pages = [(await app.call("GET", f"/v1/app/feedbacks?limit=2&page={page}"))[1]["data"] for page in (1, 2, 3)]
    assert [[item["message_id"] for item in page] for page in pages] == [[said[2], said[1]], [said[0]], []]
    for query in ("limit=102", "limit=0", "page=0", "page=x"):
        assert (await refused(app, "GET", f"/v1/app/feedbacks?{query}"))[:2] == (400, "invalid_param")
    assert (await app.call("GET", "/v1/app/feedbacks?limit=101"))[0] == 200


async def test_messages_are_listed_while_many_are_sent(app: Client) -> None:
    conversation = (await say(app, "first"))[1]["conversation_id"]
    sending = [say(app, str(number), conversation) for number in range(10)]
    listing = [messages(app, conversation, "&limit=100") for _ in range(5)]
    done = await asyncio.gather(*sending, *listing)
    for page in done[10:]:
        assert page["data"][0]["query"] == "first"
    assert len((await messages(app, conversation, "&limit=100"))["data"]) == 11
