"""Several serving processes on one database: each does its own runs, and those of one that dies are taken up once."""

from __future__ import annotations

import json
import pathlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise

import pytest

from headrace.ids import new_id
from headrace.kernel.events import Record, RunQueued, RunResumed
from headrace.stores.sql import SqlStorage
from tests.server.gated import FINISHED, FLOW, Client, Event, Peer, read_until
from tests.server.process import Serve

RUNS = 20

CHAT = """
app: {{mode: advanced-chat, name: talks}}
kind: app
version: 0.5.0
workflow:
  features: {{}}
  environment_variables: []
  conversation_variables: [{{id: v1, name: said, value_type: 'array[string]', value: []}}]
  graph:
    nodes:
    - {{id: s, data: {{type: start, title: Start, variables: []}}}}
    - id: first
      data:
        {{type: http-request, title: First, method: post, url: "{url}/first/{{{{#sys.query#}}}}", headers: "",
          params: "", authorization: {{type: no-auth}}, body: {{type: none, data: []}}}}
    - id: a
      data:
        type: assigner
        title: Assign
        version: '2'
        items:
        - {{variable_selector: [conversation, said], input_type: variable, operation: append, value: [sys, query]}}
    - {{id: w, data: {{type: answer, title: Answer, answer: '{{{{#sys.dialogue_count#}}}} {{{{#first.body#}}}}'}}}}
    edges:
    - {{id: s-f, source: s, sourceHandle: source, target: first}}
    - {{id: f-a, source: first, sourceHandle: source, target: a}}
    - {{id: a-w, source: a, sourceHandle: source, target: w}}
"""


class World:
    """A data folder, whose processes run no more than `RUNS` runs at once."""

    def __init__(self, folder: pathlib.Path, peer: Peer, stack: ExitStack, database: str = "") -> None:
        self.folder = folder
        self.database = database or f"sqlite:///{folder}/data/headrace.db"
        self.peer = peer
        self.stack = stack
        self.flow = folder / "flow.yml"
        self.flow.write_text(FLOW.format(url=f"http://{peer.address}"))

    def serve(self, more: Mapping[str, str] | None = None) -> Serve:
        environ = {
            **(more or {}),
            "HEADRACE_EGRESS_ALLOW": self.peer.address,
            "HEADRACE_CONCURRENCY": str(RUNS),
            "HEADRACE_DATABASE_URL": self.database,
        }
        return self.stack.enter_context(Serve(self.folder, [self.flow], environ))

    def waiting_runs(self, serve: Serve) -> dict[str, str]:
        """Runs begun in a process, which wait for the gate: ids by name."""
        result: dict[str, str] = {}
        for name in (f"run{n}" for n in range(RUNS)):
            fields = {"inputs": {"q": name}, "user": "u", "response_mode": "streaming"}
            stream = self.stack.enter_context(Client(serve).stream("POST", "/v1/workflows/run", fields))
            events, _ = read_until(stream, ("node_started", "second"))
            result[name] = events[0]["workflow_run_id"]
        self.wait(RUNS)
        return result

    def wait(self, calls: int) -> None:
        """Until so many more calls wait for the gate."""
        for _ in range(calls):
            assert self.peer.waiting.acquire(timeout=60)

    @property
    def calls(self) -> Counter[str]:
        return Counter(path for path, _ in self.peer.calls)

    async def store(self) -> SqlStorage:
        """One of a process that does no runs."""
        return await SqlStorage.open(self.database)


@pytest.fixture
def world(tmp_path: pathlib.Path, peer: Peer) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, peer, stack)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_world(request: pytest.FixtureRequest, tmp_path: pathlib.Path, peer: Peer) -> Iterator[World]:
    """On either database."""
    database = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    with ExitStack() as stack:
        yield World(tmp_path, peer, stack, database)


def ended(serve: Serve, run: str) -> Event:
    with Client(serve).stream("GET", f"/v1/workflow/{run}/events?user=u") as stream:
        return read_until(stream, FINISHED)[0][-1]["data"]


async def test_each_does_its_own_runs(world: World) -> None:
    mine, other = world.serve(), world.serve()
    runs = world.waiting_runs(mine)
    # one that is nobody's, newer than the others: only the other process has room for it, and when it has come to it,
    # it has been through all that it may take up
    store, app = await world.store(), mine.apps["flow"]
    known = await store.runs.find_run(runs["run0"])
    assert known is not None
    queued = RunQueued(app["app_id"], app["workflow_id"], "task", "u", {"q": "late"}, {}, known.end_user)
    late = new_id()
    await store.journal.append([Record(late, 1, time.time(), queued)])
    world.wait(1)
    world.peer.gate.set()
    for name, run in runs.items():
        done = ended(mine, run)
        assert (done["status"], done["outputs"]["two"]) == ("succeeded", f"/second/{name}")
    assert ended(other, late)["status"] == "succeeded"
    assert set(world.calls.values()) == {1}
    assert len(world.calls) == 2 * (RUNS + 1)
    for run in runs.values():
        assert not any(isinstance(record.event, RunResumed) for record in await store.journal.read(run))
    await store.aclose()


async def test_the_runs_of_a_killed_one_are_taken_up_by_one_of_the_others(any_world: World) -> None:
    world = any_world
    killed, *others = [world.serve() for _ in range(3)]
    runs = world.waiting_runs(killed)
    killed.kill()
    world.wait(RUNS)
    world.peer.gate.set()
    for name, run in runs.items():
        for other in others:
            done = ended(other, run)
            assert (done["status"], done["outputs"]["two"]) == ("succeeded", f"/second/{name}")
    assert world.calls == {f"/{node}/{name}": 1 + (node == "second") for node in ("first", "second") for name in runs}
    store = await world.store()
    for run in runs.values():
        taken = [record.event for record in await store.journal.read(run) if isinstance(record.event, RunResumed)]
        assert taken == [RunResumed(recovered=True)]
    await store.aclose()


async def test_messages_of_one_conversation_sent_to_both_at_once_are_answered_in_order(world: World) -> None:
    world.flow.write_text(CHAT.format(url=f"http://{world.peer.address}"))
    both = [world.serve(), world.serve()]

    def say(n: int, conversation: str = "") -> Event:
        fields = {"inputs": {}, "query": f"q{n}", "user": "u", "conversation_id": conversation}
        with Client(both[n % 2]).stream("POST", "/v1/chat-messages", fields | {"response_mode": "blocking"}) as answer:
            body = answer.read()
            assert answer.status == 200, body
            return json.loads(body)

    conversation = say(0)["conversation_id"]
    with ThreadPoolExecutor(RUNS) as senders:
        body = [*senders.map(say, range(1, RUNS), [conversation] * (RUNS - 1))]
    store = await world.store()
    result, _ = await store.conversations.messages(conversation, limit=100)
    in_order = result[::-1]
    assert [item.number for item in in_order] == [*range(1, RUNS + 1)]
    assert {item["answer"] for item in body} == {item.answer for item in in_order[1:]}
    assert [item.answer for item in in_order] == [f"{item.number} /first/{item.query}" for item in in_order]
    assert [path for path, _ in world.peer.calls] == [f"/first/{item.query}" for item in in_order]
    runs = [await store.journal.read(item.id) for item in in_order]
    for before, after in pairwise(runs):
        assert before[-1].at <= after[1].at, "it began when the one before had ended"
    [said] = await store.conversations.conversation_variables(conversation)
    assert said.value == [item.query for item in in_order]
    await store.aclose()
