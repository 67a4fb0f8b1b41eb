"""A workflow that runs another one as a tool: what it gets back, what stops with what, and what a crash repeats."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace import dispatch
from headrace.adapters.tools import ToolRegistry
from headrace.api.dify.run_events import RunEvents
from headrace.apps.catalog import Apps, Release
from headrace.background import Slots
from headrace.brokers import LocalBus
from headrace.engine import EngineEnvironment
from headrace.errors import NodeError, StoreError
from headrace.kernel.events import (
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunId,
    RunQueued,
    StepEnded,
    StepStarted,
)
from headrace.node import Config, Context, Node, Pause, Registry, Result
from headrace.nodes.end import End
from headrace.nodes.human_input.node import HumanInput
from headrace.nodes.loop import Loop, LoopStart
from headrace.nodes.start import Start
from headrace.nodes.tool import ToolNode
from headrace.ports import RunFilter, Storage
from headrace.ports.services import ToolParameter, ToolReference
from headrace.runs import called_runs
from headrace.runs.called_runs import called_run, stop_called
from headrace.runs.service import RunService, Submission
from headrace.runs.workflow_tools import WorkflowTools
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from headrace.values import File
from tests.human_input.flows import REVIEW, human_input, workflow
from tests.resources import only
from tests.runs.service import GATED, SECRET, Gate, dispatch_of, working

IMAGE = File("image", "tool_file", "a.png", related_id="i", url="/files/tools/i.png")
NOTES = File("document", "tool_file", "n.txt", related_id="n", url="/files/tools/n.txt")


class Maker(Node[Config]):
    """Makes a value of every kind; fails on demand."""

    type = "maker"

    async def run(self, ctx: Context) -> Result:
        if ctx.variables.get(("s", "fail")):
            raise NodeError("it broke", "Boom")
        usage = {"total_tokens": 7, "prompt_tokens": 7, "completion_tokens": 0, "total_price": "0.5", "currency": "USD"}
        return Result({"answer": "yes", "numbers": [1, 2], "image": IMAGE, "notes": [NOTES]}, usage=usage)


class Pausing(Node[Config]):
    """Pauses its run."""

    type = "pausing"

    async def run(self, ctx: Context) -> Pause:
        return Pause({})


REGISTRY: Registry = {  # pyright: ignore[reportAssignmentType]
    "start": Start,
    "end": End,
    "gate": Gate,
    "tool": ToolNode,
    "maker": Maker,
    "pausing": Pausing,
    "human-input": HumanInput,
    "loop": Loop,
    "loop-start": LoopStart,
}


def app(name: str, *nodes: dict[str, Any], variables: Any = (), outputs: dict[str, list[str]] | None = None) -> str:
    """The file of a chain start -> nodes -> end."""
    ends = [{"variable": key, "value_selector": value} for key, value in (outputs or {}).items()]
    chain = [
        {"id": "s", "type": "start", "title": "Start", "variables": list(variables)},
        *nodes,
        {"id": "e", "type": "end", "title": "End", "outputs": ends},
    ]
    ids = [node["id"] for node in chain]
    graph = {
        "nodes": [{"id": node["id"], "data": node} for node in chain],
        "edges": [{"source": a, "target": b, "sourceHandle": "source"} for a, b in pairwise(ids)],
    }
    document = {"app": {"name": name, "mode": "workflow"}, "kind": "app", "workflow": {"graph": graph, "features": {}}}
    return yaml.safe_dump(document)


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {
        "id": "t",
        "type": "tool",
        "title": "Tool",
        "provider_type": "workflow",
        "provider_id": "7d0e3d3a-3d52-4a6c-9b1f-1d0c5c1f7a11",
        "provider_name": "whatever",
        "tool_name": name,
        "tool_parameters": parameters,
    }


FIELDS = [
    {"variable": "fail", "label": "Whether to fail", "type": "checkbox"},
    {"variable": "kind", "label": "Kind", "type": "select", "options": ["a", "b"], "required": True},
    {"variable": "picture", "label": "Picture", "type": "file", "allowed_file_upload_methods": ["local_file"]},
]
OUTPUTS = {"answer": ["m", "answer"], "numbers": ["m", "numbers"], "image": ["m", "image"], "notes": ["m", "notes"]}
MAKER = app("maker", {"id": "m", "type": "maker", "title": "Make"}, variables=FIELDS, outputs=OUTPUTS)
SEEN = {"text": ["t", "text"], "files": ["t", "files"], "json": ["t", "json"], "answer": ["t", "answer"]}
CALLER = app("caller", tool("maker", kind={"type": "constant", "value": "a"}), outputs=SEEN)
PAUSED = app("caller", tool("pausing"), outputs={"text": ["t", "text"]})
WAITER = app("waiter", tool("gated"), outputs={"text": ["t", "text"]})


def new_service(store: Storage, names: dict[str, str] | None = None) -> RunService:
    sources: dict[str, Any] = {}
    environment = EngineEnvironment(store.journal, LocalBus(), only(tools=ToolRegistry(sources)))
    service = RunService(Apps(store.catalog, REGISTRY, SECRET), environment, dispatch_of(store), store)
    sources["workflow"] = WorkflowTools(service, names or {}, "default")
    return service


async def serve(where: RunService, *contents: str, workspace: str = "default") -> list[Release]:
    return [await where.apps.publish(f"{workspace}/{at}.yml", text, workspace) for at, text in enumerate(contents)]


async def begin(where: RunService, release: Release) -> RunId:
    return (await where.submit(Submission(release, "ann", {}))).run


async def end_of(where: RunService, run: RunId) -> RunEnded:
    async with asyncio.timeout(60):
        async for record in where.follow(run):
            if isinstance(record.event, RunEnded):
                return record.event
    raise AssertionError("it did not end")


async def children(where: RunService, run: RunId) -> list[RunId]:
    called: list[RunId] = []
    for app in await where.apps.catalog.apps():
        _, runs = await where.runs.list_runs(RunFilter(app.id, source=f"run:{run}"))
        called += [child.run for child in runs]
    return called


async def gate_reached() -> None:
    async with asyncio.timeout(60):
        await Gate.begun.wait()


async def detail_of(where: RunService, run: RunId, release: Release) -> Any:
    """The end of the tool node in Dify's stream."""
    fold = RunEvents(run, release.flow)
    events = [event for record in await where.environment.journal.read(run) for event in fold.feed(record)]
    return next(event.data for event in events if event.event == "node_finished" and event.data["node_id"] == "t")


def queued_of(records: list[Record]) -> RunQueued:
    queued = records[0].event
    assert isinstance(queued, RunQueued)
    return queued


@pytest.fixture
def where() -> RunService:
    Gate.reset()
    return new_service(memory_storage())


# ------------------------------------------------------------------------------------------------------------ a call


async def test_the_outputs_of_the_run_are_those_of_the_tool(where: RunService):
    _, caller = await serve(where, MAKER, CALLER)
    async with working(where):
        end = await end_of(where, run := await begin(where, caller))
    assert end.status == "succeeded"
    value = {"answer": "yes", "numbers": [1, 2], "image": IMAGE.wire(), "notes": [NOTES.wire()]}
    assert end.outputs["json"] == [value]
    assert end.outputs["files"] == [IMAGE, NOTES]
    assert end.outputs["answer"] == "yes"
    assert end.outputs["text"].startswith("File: /files/tools/n.txt\n{")
    assert yaml.safe_load(end.outputs["text"].partition("\n")[2]) == value
    assert end.tokens == 7
    (child,) = await children(where, run)
    records = await where.environment.journal.read(child)
    assert (queued_of(records).user, queued_of(records).source) == ("ann", f"run:{run}")
    link = {"workflow_run_id": child, "app_id": queued_of(records).app, "status": "succeeded"}
    assert (await detail_of(where, run, caller))["process_data"]["logs"][0]["data"] == link


async def test_what_is_shown_of_the_node_names_the_tool_and_what_it_used(where: RunService):
    _, caller = await serve(where, MAKER, CALLER)
    async with working(where):
        await end_of(where, run := await begin(where, caller))
    node = await detail_of(where, run, caller)
    assert node["inputs"].values == {"kind": "a"}
    assert node["execution_metadata"] == {
        "tool_info": {
            "provider_type": "workflow",
            "provider_id": "7d0e3d3a-3d52-4a6c-9b1f-1d0c5c1f7a11",
            "plugin_unique_identifier": "",
        },
        "total_tokens": 7,
        "total_price": "0.5",
        "currency": "USD",
    }


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": {"type": "constant", "value": "a"}, "fail": {"type": "constant", "value": True}}, "it broke"),
        (
            {"kind": {"type": "constant", "value": "c"}},
            r"kind in input form must be one of the following: \['a', 'b'\]",
        ),
        ({}, "kind is required in input form"),
    ],
)
async def test_a_run_that_fails_fails_the_tool(where: RunService, parameters: dict[str, Any], message: str):
    _, caller = await serve(where, MAKER, app("caller", tool("maker", **parameters)))
    async with working(where):
        end = await end_of(where, await begin(where, caller))
    assert end.status == "failed"
    assert end.error is not None
    with pytest.raises(AssertionError, match=f"Failed to invoke tool whatever: {message}"):
        raise AssertionError(end.error)


async def test_files_of_a_workflow_are_inputs_whatever_people_may_upload(where: RunService):
    await serve(where, MAKER)
    tool: Any = await where.environment.resources.tools.find(ToolReference("workflow", "", "", "maker"))
    accepted = await tool._inputs({"kind": "a", "picture": IMAGE, "fail": None})
    assert accepted == {"kind": "a", "picture": IMAGE, "fail": None}
    with pytest.raises(NodeError, match="must be a file of the workflow"):
        await tool._inputs({"kind": "a", "picture": {"url": "http://x"}})


async def test_inputs_are_parameters(where: RunService):
    await serve(where, MAKER)
    tool = await where.environment.resources.tools.find(ToolReference("workflow", "", "", "maker"))
    assert tool.spec.name == "maker"
    assert tool.spec.parameters == (
        ToolParameter("fail", "boolean", label="Whether to fail", description="Whether to fail"),
        ToolParameter("kind", "select", required=True, options=("a", "b"), label="Kind", description="Kind"),
        ToolParameter("picture", "file", label="Picture", description="Picture"),
    )


async def test_runs_call_each_other_five_times_at_most(where: RunService):
    (loop,) = await serve(where, app("loop", tool("loop")))
    async with working(where):
        end = await end_of(where, run := await begin(where, loop))
    assert end.error is not None
    assert end.error.endswith("Max workflow call depth 5 reached.")
    depth = 0
    while runs := await children(where, run):
        (run,) = runs
        depth += 1
    assert depth == 5


# ------------------------------------------------------------------------------------------------------- which app


async def test_the_app_is_the_one_that_is_named_or_mapped():
    where = new_service(memory_storage(), {"summarize": "maker", "by_id": "gated"})
    maker, gated = await serve(where, MAKER, GATED)
    tools = where.environment.resources.tools
    for reference, app in [
        (ToolReference("workflow", "", "", "maker"), maker),
        (ToolReference("workflow", "", "", "summarize"), maker),
        (ToolReference("workflow", "", "maker", "other"), maker),
        (ToolReference("workflow", gated.app.id, "", "other"), gated),
        (ToolReference("workflow", "", "", "by_id"), gated),
    ]:
        assert tools.missing(reference) is None
        assert (await tools.find(reference)).spec.label == app.app.name
    unknown = ToolReference("workflow", "", "", "other")
    with pytest.raises(NodeError, match="The tool 'other' is a workflow: serve an app of that name") as raised:
        await tools.find(unknown)
    assert str(raised.value) == f"{tools.missing(unknown)} Workflows that are served: gated, maker."


async def test_an_app_that_another_process_serves_is_known(tmp_path: Path):
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    await serve(new_service(store), MAKER)
    here, reference = new_service(store), ToolReference("workflow", "", "", "maker")
    tools = here.environment.resources.tools
    assert tools.missing(reference) is not None
    await here.apps.learn_names()
    assert tools.missing(reference) is None
    assert (await tools.find(reference)).spec.label == "maker"
    await store.aclose()


async def test_an_app_finds_the_apps_of_its_own_workspace_only(where: RunService):
    await serve(where, MAKER)
    (stranger,) = await serve(where, CALLER, workspace="others")
    with pytest.raises(NodeError, match=r"serve an app of that name.* that are served: caller"):
        await where.environment.resources.tools.find(ToolReference("workflow", "", "", "maker", app=stranger.app.id))


@pytest.mark.parametrize("inside", [False, True])
async def test_an_app_that_waits_for_people_is_not_a_tool(where: RunService, inside: bool):
    nested = {
        "round": {"type": "loop", "title": "Loop", "loop_count": 1, "start_node_id": "first"},
        "first": {"type": "loop-start", "title": "", "parent": "round"},
        "ask": human_input(parent="round"),
    }
    review = workflow(nested, ["s>round", "first>ask", "round>e"]) if inside else REVIEW
    asking = app("caller", tool("review"), outputs={"text": ["t", "text"]})
    _, waiting, caller = await serve(where, MAKER, review, asking)
    async with working(where):
        end = await end_of(where, await begin(where, caller))
    assert end.status == "failed"
    assert end.error is not None
    assert "The app 'review' cannot be a tool: it has human-input nodes." in end.error
    assert await where.runs.list_runs(RunFilter(waiting.app.id)) == (0, [])
    assert list(await WorkflowTools(where, {}, "default").specs()) == ["maker", "caller"]


async def test_a_run_that_pauses_fails_the_tool_and_is_stopped(where: RunService):
    _, caller = await serve(where, app("pausing", {"id": "m", "type": "pausing", "title": "Pause"}), PAUSED)
    async with working(where):
        run = await begin(where, caller)
        end = await end_of(where, run)
        assert end.error is not None
        (child,) = await children(where, run)
        assert f"The run {child} has paused, and a tool cannot wait for it." in end.error
        assert (await end_of(where, child)).status == "stopped"


async def test_a_chat_is_no_tool(where: RunService):
    await serve(where, MAKER.replace("mode: workflow", "mode: advanced-chat"))
    with pytest.raises(NodeError, match="The app 'maker' cannot be a tool: it is of mode 'advanced-chat'"):
        await where.environment.resources.tools.find(ToolReference("workflow", "", "", "maker"))


# -------------------------------------------------------------------------------------------------- stops and crashes


async def test_a_run_stops_those_that_it_called(where: RunService):
    _, waiter = await serve(where, GATED, WAITER)
    async with working(where):
        run = await begin(where, waiter)
        await gate_reached()
        (child,) = await children(where, run)
        await where.stop(run, "ann")
        assert (await end_of(where, run)).status == "stopped"
        assert (await end_of(where, child)).status == "stopped"


class Outage:
    """Lets the next attempts to stop a run fail."""

    def __init__(self, service: RunService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self._stop = service.stop
        monkeypatch.setattr(service, "stop", self.stop)

    async def stop(self, run: RunId, by: str) -> None:
        if self.left:
            self.left -= 1
            raise StoreError("the database is locked")
        await self._stop(run, by)


async def test_a_run_stops_those_that_it_called_after_an_outage(where: RunService, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(called_runs, "_PAUSES", (0.001, 0.001))
    outage = Outage(where, monkeypatch)
    _, waiter = await serve(where, GATED, WAITER)
    async with working(where):
        run = await begin(where, waiter)
        await gate_reached()
        (child,) = await children(where, run)
        driver = where.driving[run]
        outage.left = 3
        driver.stop("ann")
        assert (await end_of(where, run)).status == "stopped"
        assert (await end_of(where, child)).status == "stopped"
    assert outage.left == 0


async def test_a_stopped_run_fails_its_caller(where: RunService):
    _, waiter = await serve(where, GATED, WAITER)
    async with working(where):
        run = await begin(where, waiter)
        await gate_reached()
        (child,) = await children(where, run)
        await where.stop(child, "somebody")
        end = await end_of(where, run)
    assert (end.status, end.error) == ("failed", f"Failed to invoke tool whatever: The run {child} was stopped.")


async def test_a_process_that_ends_leaves_both_runs_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dispatch, "RECONCILE_SECONDS", 0.02)
    Gate.reset()
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    first = new_service(store)
    _, waiter = await serve(first, GATED, WAITER)
    async with working(first):
        run = await begin(first, waiter)
        await gate_reached()
    (child,) = await children(first, run)
    Gate.reset()
    second = new_service(store)
    async with working(second):
        await gate_reached()
        Gate.release.set()
        end = await end_of(second, run)
        assert (await end_of(second, child)).status == "succeeded"
    assert end.status == "succeeded"
    assert "through the gate" in end.outputs["text"]
    assert "hunter2!" not in end.outputs["text"]
    assert await children(second, run) == [child]
    await store.aclose()


@pytest.mark.parametrize("failures", [0, 2])
async def test_a_run_that_is_stopped_after_its_process_died_stops_what_it_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
):
    monkeypatch.setattr(dispatch, "RECONCILE_SECONDS", 0.02)
    monkeypatch.setattr(dispatch, "FIRST_PAUSE", 0.01)
    Gate.reset()
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    first = new_service(store)
    _, waiter = await serve(first, GATED, WAITER)
    async with working(first):
        run = await begin(first, waiter)
        await gate_reached()
    (child,) = await children(first, run)
    second = new_service(store)
    await second.stop(run, "ann")
    outage = Outage(second, monkeypatch)
    outage.left = failures
    async with working(second):
        assert (await end_of(second, run)).status == "stopped"
        assert (await end_of(second, child)).status == "stopped"
    assert outage.left == 0
    await store.aclose()


@pytest.mark.parametrize("started", [True, False])
async def test_a_run_whose_caller_has_ended_is_stopped_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: bool
):
    monkeypatch.setattr(dispatch, "RECONCILE_SECONDS", 0.02)
    Gate.reset()
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    first = new_service(store)
    gated, waiter = await serve(first, GATED, WAITER)
    async with working(first):
        run = await begin(first, waiter)
        await gate_reached()
    (child,) = await children(first, run)
    records = await store.journal.read(run)
    await store.journal.append([Record(run, len(records) + 1, 0.0, RunEnded("stopped"))])  # and then it was killed
    if not started:
        child = (await first.submit(Submission(gated, "ann", {}, source=f"run:{run}"))).run
    second = new_service(store)
    async with working(second):
        end = await end_of(second, child)
    assert (end.status, Gate.entered) == ("stopped", 1)
    await store.aclose()


async def test_what_the_tools_of_an_agent_called_is_stopped_too(where: RunService, monkeypatch: pytest.MonkeyPatch):
    stopped: list[RunId] = []

    async def stop(run: RunId, by: str) -> None:
        stopped.append(run)

    monkeypatch.setattr(where, "stop", stop)
    events = [
        NodeStarted("over"),
        NodeSucceeded("over", {}),
        NodeStarted("agent"),
        NodeRetried("agent", 1, "no", "No"),
        StepStarted("agent", "round[1]", "ROUND 1"),
        StepStarted("agent", "round[1]/call[0]", "CALL a"),
        StepEnded("agent", "round[1]/call[0]", None),
        StepStarted("agent", "round[1]/call[1]", "CALL b"),
    ]
    await stop_called(where, [Record("run", number, 0.0, event) for number, event in enumerate(events, 1)])
    assert called_run("run/agent/1/round[1]/call[1]") in stopped
    assert called_run("run/agent/1/round[1]/call[0]") not in stopped
    assert called_run("run/over/0") not in stopped


async def test_a_draining_process_lets_a_run_call_another(where: RunService):
    _, caller = await serve(where, MAKER, CALLER)
    run = await begin(where, caller)
    where.draining = True
    async with working(where):
        assert (await end_of(where, run)).status == "succeeded"


async def test_runs_that_wait_for_others_do_not_keep_them_from_starting(where: RunService):
    _, caller = await serve(where, MAKER, CALLER)
    runs = [await begin(where, caller) for _ in range(3)]
    async with working(where, concurrency=1):
        for run in runs:
            assert (await end_of(where, run)).status == "succeeded"


async def test_a_slot_that_was_lent_is_given_back_once():
    slots = Slots(1)
    await slots.acquire()
    with slots.lend():
        await slots.acquire()  # the run that the first one waits for
    slots.release()
    third = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    assert not third.done()
    slots.release()
    await third


async def test_a_retried_call_is_another_run(where: RunService):
    again = {**tool("maker", kind={"type": "constant", "value": "a"}, fail={"type": "constant", "value": True})}
    again |= {"retry_config": {"retry_enabled": True, "max_retries": 1, "retry_interval": 1}}
    _, caller = await serve(where, MAKER, app("caller", again))
    async with working(where):
        run = await begin(where, caller)
        assert (await end_of(where, run)).status == "failed"
    assert len(await children(where, run)) == 2
