"""Apps that plugins call back for: of a run, which is the caller of theirs, and of an endpoint, which has none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.file_storage import FileBlobStore
from headrace.adapters.files import FileStore
from headrace.api.auth import Api, ApiOptions
from headrace.api.dify.app_calls import AppCalls
from headrace.apps.catalog import Apps
from headrace.brokers import LocalBus
from headrace.dispatch import LocalDispatch
from headrace.engine import EngineEnvironment
from headrace.errors import HeadraceError, NotFound, RequestError
from headrace.kernel.events import RunEnded, RunQueued, StopRequested
from headrace.node import Registry
from headrace.nodes.answer import Answer
from headrace.nodes.end import End
from headrace.nodes.human_input.node import HumanInput
from headrace.nodes.start import Start
from headrace.ports.services import ToolContext
from headrace.runs.called_runs import called_run
from headrace.runs.forms import open_form, submit_form
from headrace.runs.service import RunService, Submission
from headrace.stores.memory import memory_storage
from headrace.values import Value
from tests.api.chats import chatflow
from tests.engine.worlds import NOTHING
from tests.human_input.flows import REVIEW
from tests.human_input.world import no_file
from tests.runs.service import ECHO, GATED, SECRET, Gate, working

REGISTRY: Registry = {  # pyright: ignore[reportAssignmentType]
    "start": Start,
    "end": End,
    "gate": Gate,
    "answer": Answer,
    "human-input": HumanInput,
}
REQUIRED = ECHO.replace("type: text-input}", "type: text-input, required: true}").replace("name: echo", "name: strict")


@dataclass(frozen=True)
class Caller:
    context: ToolContext
    on_usage: Callable[[Mapping[str, Value]], None] = lambda usage: None


ENDPOINT = Caller(ToolContext("", "", "", "key"))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[Api]:
    """The API of four apps, with a worker."""
    Gate.reset()
    store = memory_storage()
    environment = EngineEnvironment(store.journal, LocalBus(), NOTHING)
    where = RunService(Apps(store.catalog, REGISTRY, SECRET), environment, LocalDispatch(store.leases), store)
    for name, content in {"chat": chatflow(), "echo": ECHO, "gated": GATED, "strict": REQUIRED}.items():
        await where.apps.publish(name, content)
    files = FileStore(FileBlobStore(tmp_path), store.catalog, SECRET, None, "http://headrace.example")  # type: ignore[arg-type]
    async with working(where):
        yield Api(where.apps, where, files, ApiOptions())


@pytest.fixture
def calls(api: Api) -> AppCalls:
    return AppCalls(api, "default")


async def answers(calls: AppCalls, caller: Caller, **request: Value) -> list[Any]:
    async with asyncio.timeout(60):
        return [answer async for answer in calls.app(None, request, caller)]


async def calling(api: Api, key: str = "key") -> Caller:
    """A caller whose run waits at its gate."""
    (app,) = [app for app in await api.apps.catalog.apps("default") if app.name == "gated"]
    release = await api.apps.version(app, app.version)
    run = (await api.run_service.submit(Submission(release, "ann", {}))).run
    async with asyncio.timeout(60):
        await Gate.begun.wait()
    return Caller(ToolContext(run, app.id, "ann", key))


async def test_a_workflow(calls: AppCalls) -> None:
    (body,) = await answers(calls, ENDPOINT, app_id="echo", inputs={"q": "hi"}, response_mode="blocking")
    assert body["data"]["outputs"] == {"q": "hi"}
    events = await answers(calls, ENDPOINT, app_id="echo", inputs={"q": "hi"}, response_mode="streaming")
    assert (events[0]["event"], events[-1]["event"]) == ("workflow_started", "workflow_finished")
    assert events[-1]["data"]["outputs"] == {"q": "hi"}


async def test_a_chat_and_its_conversation(calls: AppCalls) -> None:
    (body,) = await answers(calls, ENDPOINT, app_id="chat", query="hi", inputs={}, response_mode="blocking")
    assert (body["event"], body["answer"]) == ("message", "You said: hi")
    events = await answers(
        calls, ENDPOINT, app_id="chat", query="more", conversation_id=body["conversation_id"], response_mode="streaming"
    )
    assert {event["conversation_id"] for event in events} == {body["conversation_id"]}
    assert "".join(event["answer"] for event in events if event["event"] == "message") == "You said: more"
    assert events[-1]["event"] == "message_end"


async def test_the_run_of_a_run(api: Api, calls: AppCalls) -> None:
    caller = await calling(api)
    for _ in range(2):  # a call that is repeated after a crash follows the run that it began
        (body,) = await answers(calls, caller, app_id="echo", inputs={"q": "hi"}, user="somebody else")
        assert body["workflow_run_id"] == called_run("key")
    queued = (await api.run_service.environment.journal.read(called_run("key")))[0].event
    assert isinstance(queued, RunQueued)
    assert (queued.source, queued.user) == (f"run:{caller.context.run}", "ann")


async def test_a_called_run_stops_with_its_caller(api: Api, calls: AppCalls) -> None:
    caller = await calling(api)
    task = asyncio.create_task(answers(calls, caller, app_id="gated"))
    async with asyncio.timeout(60):
        while Gate.entered < 2:
            Gate.begun.clear()
            await Gate.begun.wait()
    await api.run_service.stop(caller.context.run, "ann")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    journal = api.run_service.environment.journal
    async with asyncio.timeout(60):
        _ = [record async for record in api.run_service.follow(called_run("key"))]
    events = [record.event for record in await journal.read(called_run("key"))]
    assert any(isinstance(event, StopRequested) for event in events)
    assert isinstance(events[-1], RunEnded)


@pytest.mark.parametrize("mode", ["blocking", "streaming"])
async def test_a_called_run_that_waits_for_a_person_holds_nobody(api: Api, calls: AppCalls, mode: str) -> None:
    await api.apps.publish("review", REVIEW)
    service, caller = api.run_service, await calling(api)
    bodies = await answers(calls, caller, app_id="review", inputs={"q": "hi"}, response_mode=mode)
    assert bodies[-1]["data"]["status"] == "paused"
    (reason,) = bodies[-1]["data"]["reasons"]
    Gate.release.set()
    async with asyncio.timeout(60):  # the caller ends
        _ = [record async for record in service.follow(caller.context.run)]
    form = await open_form(service, reason["form_token"])
    assert form is not None
    await submit_form(service, form, "approve", {"comment": "fine"}, "ada", no_file)
    async with asyncio.timeout(60):
        *_, last = [record.event async for record in service.follow(called_run("key"), on_pause=True)]
    assert isinstance(last, RunEnded)
    assert (last.status, last.outputs["comment"]) == ("succeeded", "fine")


async def test_runs_call_each_other_five_times_at_most(api: Api, calls: AppCalls) -> None:
    run = (await calling(api)).context.run
    for depth in range(5):
        await answers(calls, Caller(ToolContext(run, "", "ann", f"key {depth}")), app_id="echo")
        run = called_run(f"key {depth}")
    with pytest.raises(HeadraceError, match="Max workflow call depth 5 reached"):
        await answers(calls, Caller(ToolContext(run, "", "ann", "one more")), app_id="echo")


async def test_a_message_cannot_wait_for_itself(api: Api, calls: AppCalls) -> None:
    (body,) = await answers(calls, ENDPOINT, app_id="chat", query="hi", response_mode="blocking", user="ann")
    message = Caller(ToolContext(body["message_id"], "", "ann", "key"))
    id_ = body["conversation_id"]
    for written in (id_, id_.upper(), f" {id_.replace('-', '')}"):
        with pytest.raises(HeadraceError, match="waits for the message"):
            await answers(calls, message, app_id="chat", query="hi", conversation_id=written)


async def test_an_app_that_was_removed_finds_no_others(calls: AppCalls) -> None:
    with pytest.raises(NotFound, match="app not found"):
        await answers(calls, Caller(ToolContext("", "removed", "ann", "key")), app_id="echo")


async def test_an_id_of_an_app_counts_more_than_a_name(api: Api, calls: AppCalls) -> None:
    (strict,) = [app for app in await api.apps.catalog.apps("default") if app.name == "strict"]
    await api.apps.publish("echo", ECHO.replace("name: echo", f"name: {strict.id}"))
    with pytest.raises(RequestError, match="q is required"):
        await answers(calls, ENDPOINT, app_id=strict.id)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"app_id": "nobody"}, "app not found"),
        ({}, "app not found"),
        ({"app_id": "chat"}, "missing query"),
        ({"app_id": "echo", "inputs": [1]}, "inputs"),
        ({"app_id": "strict"}, "q is required in input form"),
        ({"app_id": "chat", "query": "q", "conversation_id": "0197b2c4-0000-7000-8000-000000000000"}, "Not Exists"),
    ],
)
async def test_what_cannot_be_called(calls: AppCalls, request_: dict[str, Value], problem: str) -> None:
    with pytest.raises((HeadraceError, RequestError), match=problem):
        await answers(calls, ENDPOINT, **request_)


async def test_an_app_of_another_workspace_is_unknown(api: Api) -> None:
    with pytest.raises(NotFound, match="app not found"):
        await answers(AppCalls(api, "elsewhere"), ENDPOINT, app_id="echo")


async def test_the_form_of_an_app(calls: AppCalls) -> None:
    (body,) = [body async for body in calls.fetch(None, {"app_id": "echo"}, ENDPOINT)]
    assert body["user_input_form"] == [{"text-input": {"variable": "q", "label": "q", "type": "text-input"}}]
    assert body["opening_statement"] is None
