"""A conversation's variables, as a client reads and changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.nodes.assigner import Assigner
from tests.api.chats import begin, chatflow, refused, say, saying
from tests.api.serving import REGISTRY, Client, Serving, serving

NOBODY = "5d0f5b0e-9a3c-4c0e-8a52-3f1c6a7e4b21"
VARIABLES = {
    "mood": ("string", "calm"),
    "count": ("number", 1),
    "open": ("boolean", True),
    "pair": ("object", {"a": 1}),
    "words": ("array[string]", ["x"]),
    "numbers": ("array[number]", []),
    "things": ("array[object]", []),
    "anything": ("array[any]", []),
    "nothing": ("string", None),
}


def declaring(secret: str = "") -> str:
    """A chat app's file with a variable of every type; what is `secret` is one."""
    file: Any = yaml.safe_load(chatflow())
    file["workflow"]["conversation_variables"] = [
        {"id": name, "name": name, "value_type": type_, "value": value, "description": f"the {name}"}
        for name, (type_, value) in VARIABLES.items()
    ]
    if secret:
        file["workflow"]["environment_variables"] = [{"id": "s", "name": "s", "value": secret, "value_type": "secret"}]
    return yaml.safe_dump(file)


@pytest.fixture
async def declared(server: Serving) -> Client:
    return await server.add("declaring.yml", declaring())


async def variables(app: Client, conversation: str, query: str = "") -> Any:
    status, body = await app.call("GET", f"/v1/conversations/{conversation}/variables?user=u1{query}")
    assert status == 200, body
    return body


async def test_variables_are_shown_as_text(declared: Client) -> None:
    conversation = await begin(declared)
    body = await variables(declared, conversation)
    assert (body["limit"], body["has_more"]) == (20, False)
    data = body["data"]
    assert list(data[0]) == ["id", "name", "value_type", "value", "description", "created_at", "updated_at"]
    assert {entry["name"]: (entry["value_type"], entry["value"]) for entry in data} == {
        "mood": ("string", "calm"),
        "count": ("number", "1"),
        "open": ("boolean", "True"),
        "pair": ("object", "{'a': 1}"),
        "words": ("array[string]", "['x']"),
        "numbers": ("array[number]", "[]"),
        "things": ("array[object]", "[]"),
        "anything": ("array[any]", "[]"),
        "nothing": ("string", None),
    }
    assert data[0]["description"] == "the mood"


async def test_variables_come_page_by_page(declared: Client) -> None:
    conversation = await begin(declared)
    result: list[str] = []
    last, more = "", True
    while more:
        page = await variables(declared, conversation, f"&limit=4&last_id={last}")
        result += [entry["name"] for entry in page["data"]]
        last, more = page["data"][-1]["id"], page["has_more"]
    assert result == list(VARIABLES)


async def test_variables_are_found_by_a_part_of_their_name(declared: Client) -> None:
    conversation = await begin(declared)

    async def search(name: str) -> list[str]:
        page = await variables(declared, conversation, f"&variable_name={name}")
        return [entry["name"] for entry in page["data"]]

    assert await search("THING") == ["things", "anything", "nothing"]
    assert await search("no-such.one_") == []


@pytest.mark.parametrize(
    "query", ["variable_name=", "variable_name=a;b", "variable_name=" + "a" * 256, f"last_id={NOBODY}", "last_id=x"]
)
async def test_variables_that_cannot_be_listed(declared: Client, query: str) -> None:
    conversation = await begin(declared)
    path = f"/v1/conversations/{conversation}/variables?user=u1&{query}"
    assert (await refused(declared, "GET", path))[:2] == (400, "invalid_param")


async def assign(app: Client, conversation: str, name: str, fields: dict[str, Any]) -> tuple[int, Any]:
    variable = (await variables(app, conversation, f"&variable_name={name}"))["data"][0]
    path = f"/v1/conversations/{conversation}/variables/{variable['id']}"
    return await app.call("PUT", path, json={"user": "u1", **fields})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mood", ""),
        ("mood", "漢"),
        ("count", 2),
        ("count", 2.5),
        ("open", False),
        ("pair", {}),
        ("pair", {"b": [None, {"c": 1}]}),
        ("words", []),
        ("words", ["a", "b"]),
        ("numbers", [1, 2.5]),
        ("things", [{}]),
        ("anything", [1, "a", None, {}]),
    ],
)
async def test_a_variable_takes_a_value_of_its_type(declared: Client, name: str, value: Any) -> None:
    conversation = await begin(declared)
    status, body = await assign(declared, conversation, name, {"value": value})
    assert (status, body["name"], body["value"]) == (200, name, str(value))
    assert body in (await variables(declared, conversation))["data"]


@pytest.mark.parametrize(
    ("name", "value", "expected", "got"),
    [
        ("mood", 1, "string", "integer"),
        ("mood", None, "string", "none"),
        ("count", "1", "number", "string"),
        ("count", True, "number", "boolean"),
        ("open", 1, "boolean", "integer"),
        ("pair", [], "object", "array[any]"),
        ("words", "x", "array[string]", "string"),
        ("words", ["x", 1.5], "array[string]", "array[any]"),
        ("numbers", ["x"], "array[number]", "array[string]"),
        ("things", {"a": 1}, "array[object]", "object"),
    ],
)
async def test_a_variable_refuses_a_value_of_another_type(
    declared: Client, name: str, value: Any, expected: str, got: str
) -> None:
    conversation = await begin(declared)
    before = await variables(declared, conversation)
    status, body = await assign(declared, conversation, name, {"value": value})
    message = f"Type mismatch: variable '{name}' expects {expected}, but got {got} type"
    assert (status, body["code"], body["message"]) == (400, "bad_request", message)
    assert await variables(declared, conversation) == before


async def test_the_next_message_reads_the_new_value(server: Serving) -> None:
    app = await server.add("chat.yml", chatflow("{{#conversation.mood#}}", conversation={"mood": "calm"}))
    conversation = await begin(app)
    await assign(app, conversation, "mood", {"value": "wild"})
    assert (await say(app, "how?", conversation))[1]["answer"] == "wild"
    assert (await say(app, "how?"))[1]["answer"] == "calm"


async def test_a_value_is_to_be_given(declared: Client) -> None:
    status, body = await assign(declared, await begin(declared), "mood", {})
    assert (status, body["code"], body["message"]) == (400, "invalid_param", "value: Field required")


async def test_a_variable_of_another_conversation(declared: Client) -> None:
    mine, other = await begin(declared), await begin(declared)
    theirs = (await variables(declared, other))["data"][0]["id"]
    for variable in (theirs, NOBODY, "nope"):
        path = f"/v1/conversations/{mine}/variables/{variable}"
        error = await refused(declared, "PUT", path, json={"user": "u1", "value": "x"})
        assert error == (404, "not_found", "Conversation Variable Not Exists.")


async def test_secrets_stay_secret(server: Serving) -> None:
    app = await server.add("secret.yml", declaring("calm"))
    conversation = await begin(app, "stay calm")
    _, body = await app.call("GET", "/v1/conversations?user=u1")
    assert body["data"][0]["name"] == "stay ********************"
    assert (await variables(app, conversation))["data"][0]["value"] == "********************"


async def test_a_secret_in_a_variable_is_not_told_in_an_answer(tmp_path: Path) -> None:
    file = yaml.safe_load(chatflow("It is {{#conversation.kept#}}.", conversation={"kept": "nothing"}))
    secret = {"id": "t", "name": "token", "value": "hunter22", "value_type": "secret", "selector": ["env", "token"]}
    file["workflow"]["environment_variables"] = [secret]
    graph = file["workflow"]["graph"]
    item = {"variable_selector": ["conversation", "kept"], "input_type": "variable", "operation": "over-write"}
    assigner = {"type": "assigner", "title": "Keep", "version": "2", "items": [item | {"value": ["env", "token"]}]}
    graph["nodes"].append({"id": "keep", "data": assigner})
    way = (("start", "keep"), ("keep", "answer"))
    graph["edges"] = [{"source": a, "target": b, "sourceHandle": "source"} for a, b in way]
    async with serving(tmp_path, registry={**REGISTRY, "assigner": Assigner}) as server:
        app = await server.add("kept.yml", yaml.safe_dump(file))
        status, first = await say(app)
        assert status == 200, first
        stars = f"It is {'*' * 20}."
        assert first["answer"] == stars
        async with saying(app, conversation_id=first["conversation_id"]) as stream:
            events = await stream.rest()
        assert "".join(event.body["answer"] for event in events if event.name == "message") == stars
        assert "hunter22" not in stream.raw.decode()
