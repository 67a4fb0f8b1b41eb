"""What Dify's official description of its Service API tells of, held against what Headrace says and answers.

`facts.json` is that description without its sentences (`extract.py`). Of each operation that there is here, right
requests get an answer as described, wrong ones an error, and every event of a stream is as described. Where it is not
so, `differs.py` says why.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, seed, settings

from docs.compatibility import done_events
from tests.native.calling import Answer
from tests.official import differs
from tests.official.described import ALL, FACTS, Described, SchemaCheck
from tests.official.making import Request, right, wrong
from tests.official.ours import HERE, ours, resolved
from tests.official.world import App, World, events_of, world

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = 12
BY_NAME = {operation.name: operation for operation in ALL}
ALWAYS = {
    400: {"invalid_param", "bad_request"},
    401: {"unauthorized"},
    413: {"request_entity_too_large"},
    415: {"unsupported_media_type"},
}
CHAT = BY_NAME[differs.CHAT]
FOLLOWED = BY_NAME[differs.EVENTS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with world(tmp_path_factory.mktemp("official")) as official_world:
        yield official_world


def apps_for(operation: Described) -> tuple[str, ...]:
    """The apps that an operation is for."""
    match operation.path.split("/")[1]:
        case "workflows" if operation.path != "/workflows/run/{workflow_run_id}":
            return ("workflow",)
        case "workflows" | "workflow":
            return ("workflow", "advanced-chat")
        case "completion-messages":
            return ("completion",)
        case "form":
            return ("people",)
        case "chat-messages" | "messages":
            return ("advanced-chat", "chat")
        case "info" | "parameters" | "meta" | "site":
            return ("workflow", "advanced-chat", "chat", "completion")
        case _:
            return ("advanced-chat",)


# ------------------------------------------------------------------------------------------------------ what it says


def as_documented(operation: Described) -> set[str]:
    """What our own description of an operation lacks, or asks for beyond the official one."""
    received = ours(operation)
    assert received is not None
    taken = {
        (parameter["in"], parameter["name"]): parameter["required"] for parameter in received.get("parameters", ())
    }
    problems: set[str] = set()
    for parameter in operation.parameters:
        required = taken.pop((parameter["in"], parameter["name"]), None)
        if required is None:
            problems.add(f"parameter {parameter['name']}: unknown")
        elif required and not parameter["required"]:
            problems.add(f"parameter {parameter['name']}: required")
    problems |= {f"parameter {name}: required" for (_, name), required in taken.items() if required}
    if operation.body is not None:
        schema = resolved(received["requestBody"]["content"][operation.body[0]]["schema"])
        fields, required = operation.fields()
        example = received["requestBody"]["content"][operation.body[0]].get("example", {})
        known = schema.get("properties", example)
        problems |= {f"field {name}: unknown" for name in fields.keys() - known.keys()}
        problems |= {f"field {name}: required" for name in set(schema.get("required", ())) - required}
    statuses = {int(status) for status in received["responses"]}
    return problems | {f"status {status}" for status in statuses - operation.answers.keys() - ALWAYS.keys()}


# --------------------------------------------------------------------------------------------------- what it answers


def made(operation: Described, app: App, url: str) -> list[Request]:
    requests: list[Request] = []

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(right(operation, app, url))
    def collect(new_request: Request) -> None:
        requests.append(new_request)

    collect()
    return requests


async def send(there: World, app: App, request: Request) -> Answer:
    operation = request.operation
    if operation.method == "DELETE" or operation.path.startswith("/form/"):
        request = request.at(await there.renew(app, operation.path))
    target, body, headers = request.wire()
    return await app.call(operation.method, target, body=body, headers=headers)


async def as_answered(there: World, operation: Described) -> set[str]:
    """Where the answers to right and to wrong requests are not as described."""
    check = SchemaCheck()
    for name in apps_for(operation):
        app, good = there.apps[name], 0
        requests = made(operation, app, there.url)
        for request in requests:
            answer = await send(there, app, request)
            if answer.status == operation.good:
                good += 1
                hold(check, operation, answer, app.mode)
            elif (problem := unlike(operation, answer)) is not None:
                check.problems.add(f"right: {problem}")
        assert good, f"nothing that is right was taken from {name}"
        for request in wrong(operation, requests[0]):
            if (problem := unlike(operation, await send(there, app, request))) is not None:
                check.problems.add(f"wrong {request.wrong}: {problem}")
    return check.all()


def hold(check: SchemaCheck, operation: Described, answer: Answer, mode: str) -> None:
    """Holds a good answer against its description."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    described = operation.answers[operation.good]
    if kind == "text/event-stream":
        # whoever follows a chatflow is told what is told to whoever asked it
        known = CHAT if operation == FOLLOWED and mode == "advanced-chat" else operation
        for event in events_of(answer.body):
            check.event(known.events(), event)
    elif kind in described:
        if kind == "application/json":
            check.value(described[kind], answer.json)
    elif not any(media.get("format") == "binary" for media in described.values()) and (described or answer.body):
        check.problems.add(f"answer: {kind}")


def unlike(operation: Described, answer: Answer) -> str | None:
    """What is wrong with the refusal of a request; None if nothing is."""
    if answer.status < 400:
        return str(answer.status)
    received = answer.json
    assert received.keys() == {"code", "message", "status"}, received
    assert received["status"] == answer.status
    assert received["message"]
    codes = {*operation.answers.get(answer.status, {}).get("codes", ()), *ALWAYS.get(answer.status, ())}
    return None if received["code"] in codes else f"{answer.status} {received['code']}"


@pytest.mark.parametrize("operation", HERE, ids=lambda operation: operation.name)
async def test_it_is_as_described(there: World, operation: Described):
    differences = as_documented(operation) | await as_answered(there, operation)
    known = differs.of(operation.name)
    assert differences == known, {"not known": differences - known, "known, and not so any more": known - differences}


async def test_there_is_something_to_hold():
    assert len(HERE) > 30
    assert {name for difference in differs.DIFFERENCES for name in difference.operations} <= {
        operation.name for operation in HERE
    }


# ----------------------------------------------------------------------------------------------------------- streams


PATHS = {
    "workflow": "/workflows/run",
    "advanced-chat": "/chat-messages",
    "chat": "/chat-messages",
    "agent-chat": "/chat-messages",
    "completion": "/completion-messages",
    "failing": "/chat-messages",
    "people": "/workflows/run",
}
# tests/api and tests/human_input: they take a model that draws, one that thinks, one that calls tools, and an answer
ELSEWHERE = {
    "agent_log",
    "agent_thought",
    "message_file",
    "reasoning_chunk",
    "human_input_form_filled",
    "human_input_form_timeout",
}


async def test_every_event_that_the_page_tells_of_comes_as_described(there: World):
    seen: set[str] = set()
    for app, path in PATHS.items():
        check = SchemaCheck()
        body = {"inputs": {}, "query": "hello", "user": "u1", "response_mode": "streaming"}
        answer = await there.apps[app].call("POST", f"/v1{path}", json=body)
        for event in events_of(answer.body):
            check.event(BY_NAME[f"POST {path}"].events(), event)
        assert check.problems <= differs.of(f"POST {path}")
        seen |= check.seen_events
    assert seen | ELSEWHERE == done_events()


# -------------------------------------------------------------------------------------------------------- recordings


def recordings(difference: differs.Difference) -> Iterable[tuple[bool, Any]]:
    """(whether it is an event, value) of each value in a recording."""
    folder = Path(__file__).parent / difference.recorded
    if folder.suffix == ".json":
        yield False, json.loads(folder.read_text("utf-8"))
    if (exchange := folder / "response.txt").exists():
        yield False, json.loads(exchange.read_text("utf-8").partition("\n\n")[2])
    if (blocking := folder / "response.blocking.json").exists():
        yield False, json.loads(blocking.read_text("utf-8"))
    if (stream := folder / "response.stream.txt").exists():
        yield from ((True, event) for event in events_of(stream.read_bytes()))


@pytest.mark.parametrize(
    "difference", differs.recorded(), ids=lambda difference: f"{difference.operations[0]} {difference.what}"
)
async def test_dify_itself_differs(difference: differs.Difference):
    check, operation = SchemaCheck(), BY_NAME[difference.operations[0]]
    for is_event, value in recordings(difference):
        if is_event:
            check.event(operation.events(), value)
        else:
            check.value(operation.answers[operation.good]["application/json"], value)
    assert difference.what in check.all()


# -------------------------------------------------------------------------------------------------------- the checks


async def test_a_wrong_value_would_be_found():
    described = BY_NAME["GET /info"].answers[200]["application/json"]
    check = SchemaCheck()
    check.value(described, {"name": 1, "tags": "none"})
    assert check.all() >= {"answer name: type", "answer tags: type", "never told: answer mode"}


async def test_an_integer_with_a_fraction_would_be_found():
    described = BY_NAME[differs.RUN].answers[200]["application/json"]
    check = SchemaCheck()
    check.value(described, {"data": {"created_at": 1700000000.0, "total_steps": 1.5, "total_tokens": True}})
    assert check.problems >= {f"answer data.{name}: type" for name in ("created_at", "total_steps", "total_tokens")}


async def test_a_wrong_event_would_be_found():
    check = SchemaCheck()
    check.event(CHAT.events(), {"event": "message", "answer": 7, "message_id": "x"})
    check.event(CHAT.events(), {"event": "surprise"})
    assert check.problems == {"message answer: type", "message message_id: format", "event surprise: unknown"}


async def test_the_facts_hold_no_sentences():
    def texts(value: Any) -> Iterable[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
            yield from (text for item in value.values() for text in texts(item))
        elif isinstance(value, list):
            yield from (text for item in value for text in texts(item))

    assert {text for text in texts(FACTS) if len(text.split()) > 2} == set()


async def test_a_wrong_refusal_would_be_found():
    body = json.dumps({"code": "teapot", "message": "no", "status": 418}).encode()
    assert unlike(CHAT, Answer(418, {}, body)) == "418 teapot"
