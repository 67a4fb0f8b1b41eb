"""Runs of every kind of caller, and what must be true of them whatever has failed meanwhile."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, TypeVar

from headrace.kernel.events import NodeStarted, Record, RunEnded, RunResumed
from headrace.stores.sql import SqlStorage
from tests.server.gated import FINISHED, FLOW, Client, Event, Peer, events_and_nodes
from tests.server.process import Serve
from tests.server.test_one_database import Hook

T = TypeVar("T")

_SECONDS = 300.0  # after which a client gives up
_BROKEN = (OSError, http.client.HTTPException)  # of a process that is killed or not there
_ENDED = ("succeeded", "failed", "stopped", "partial-succeeded")

_TALK = """
    - id: talk
      data:
        type: llm
        title: Talk
        model: {{provider: openai, name: demo, mode: chat, completion_params: {{}}}}
        prompt_template: [{{id: p, role: user, text: "Say {{{{#s.q#}}}} in a few words."}}]
        context: {{enabled: false, variable_selector: []}}
        vision: {{enabled: false}}
"""
FLOW_WITH_TEXT = (
    FLOW.replace("    - id: e\n", _TALK.lstrip("\n") + "    - id: e\n")
    .replace("    edges:\n", "        - {{variable: text, value_selector: [talk, text]}}\n    edges:\n")
    .replace("source: second, sourceHandle: source, target: e", "source: second, sourceHandle: source, target: talk")
    + "    - {{id: d, source: talk, sourceHandle: source, target: e}}\n"
)
"""The steps of gated runs, and a model that streams text."""


class Stream:
    """A client that reads the stream of its run to the end. Where it breaks, it resumes at the other process."""

    def __init__(self, name: str, apis: list[Serve], closed: threading.Event) -> None:
        self.events: list[Event] = []
        self.ids: list[str] = []
        self.resumed = 0
        self._name = name
        self._apis = cycle(apis)
        self._closed = closed

    @property
    def run(self) -> str:
        return self.events[0]["workflow_run_id"]

    def read(self) -> Event:
        fields = {"inputs": {"q": self._name}, "user": "u", "response_mode": "streaming"}
        request: tuple[Any, ...] = ("POST", "/v1/workflows/run", fields)
        headers: dict[str, str] = {}
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until and not self._closed.is_set():
            try:
                with Client(next(self._apis)).stream(*request, **headers) as response:
                    if response.status != 503:
                        self._add(response)
            except _BROKEN:
                assert self.ids, "no fault comes before the runs have started"
            if self.events and events_and_nodes(self.events)[-1] == FINISHED:
                return self.events[-1]["data"]
            time.sleep(0.1)
            if not self.ids:
                continue  # it was refused: the process has not reached the database again since the round before
            self.resumed += 1
            request, headers = ("GET", f"/v1/workflow/{self.run}/events?user=u"), {"Last-Event-ID": self.ids[-1]}
        raise AssertionError(f"{self._name} did not end: {events_and_nodes(self.events)}")

    def _add(self, response: http.client.HTTPResponse) -> None:
        """Adds whole events only: one that is cut off has no empty line after it."""
        assert response.status == 200, response.read()
        fields: dict[str, str] = {}
        for raw in response:
            if line := raw.decode().rstrip("\r\n"):
                name, _, value = line.partition(":")
                fields[name] = value.strip()
                continue
            if "data" in fields:
                event = json.loads(fields["data"])
                if "id" not in fields:
                    assert (event["event"], event["status"]) == ("error", 503), event
                    return  # the stream cannot be read at present
                self.events.append(event)
                self.ids.append(fields["id"])
                if events_and_nodes(self.events)[-1] == FINISHED:
                    return
            fields = {}


@dataclass
class Load:
    """`runs` runs, a third of them streams; the others have callbacks, and are polled or waited for. Once it is closed,
    no client goes on."""

    runs: int
    apis: list[Serve]
    peer: Peer
    hook: Hook
    names: Iterator[str]
    streams: dict[str, Stream] = field(default_factory=dict)
    submitted: dict[str, str] = field(default_factory=dict)  # ids by name
    results: list[asyncio.Task[tuple[str, Event]]] = field(default_factory=list)
    repeated: int = 0  # callbacks that arrived more than once, under the same id
    closed: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """After a failure, the process would wait for its threads until each client gives up."""
        self.closed.set()

    async def start(self) -> None:
        """Begins them all, and returns when each of them waits for the gate."""
        self.peer.gate.clear()
        self.peer.waiting = threading.Semaphore(0)  # runs of a round before that were driven again have counted twice
        for index, name in enumerate(next(self.names) for _ in range(self.runs)):
            order = self.apis if index % 2 else self.apis[::-1]
            if index % 3:
                self.submitted[name] = run = await asyncio.to_thread(self._submit, name, order[0])
                query = "?wait=30" if index % 3 == 1 else ""
                work = asyncio.to_thread(self._poll, run, order, query)
            else:
                self.streams[name] = stream = Stream(name, order, self.closed)
                work = asyncio.to_thread(stream.read)
            self.results.append(_started(self._named(name, work)))
        waiting = _started(asyncio.to_thread(self._wait_for_all))
        await asyncio.wait([waiting, *self.results], return_when=asyncio.FIRST_COMPLETED)
        for work in self.results:
            assert not work.done(), work.result()
        await waiting

    def _wait_for_all(self) -> None:
        until = time.monotonic() + _SECONDS
        for number in range(self.runs):
            while not self.peer.waiting.acquire(timeout=1):
                assert not self.closed.is_set()
                assert time.monotonic() < until, f"{number} of {self.runs} runs wait for the gate"

    @staticmethod
    async def _named(name: str, work: Awaitable[Event]) -> tuple[str, Event]:
        return name, await work

    def _submit(self, name: str, at: Serve) -> str:
        path = f"/api/v1/workflows/{at.apps['flow']['app_id']}/run"
        body = {"inputs": {"q": name}, "user": "u", "callback_url": f"http://{self.hook.address}/hook"}
        until = time.monotonic() + _SECONDS
        while True:
            # with the same key, since what was refused may have been written
            with Client(at).stream("POST", path, body, **{"Idempotency-Key": name}) as response:
                result = json.loads(response.read())
            if response.status == 202:
                return result["workflow_run_id"]
            # the process has not reached the database again since the round before
            assert response.status == 503, result
            assert time.monotonic() < until, result
            time.sleep(0.1)

    def _poll(self, run: str, apis: list[Serve], query: str) -> Event:
        until = time.monotonic() + _SECONDS
        for at in cycle(apis):
            try:
                with Client(at).stream("GET", f"/api/v1/workflow-runs/{run}{query}") as response:
                    body = json.loads(response.read())
                    assert response.status in (200, 503), body
                    if body.get("status") in _ENDED:
                        return body
            except _BROKEN:
                pass
            assert not self.closed.is_set()
            assert time.monotonic() < until, f"{run} did not end"
            time.sleep(1)  # polls of hundreds of runs must leave the processors to those that continue them
        raise AssertionError

    async def check(self, url: str) -> dict[str, list[Record]]:
        """Waits for all ends, and checks them. The records of each run."""
        ended = dict(await asyncio.gather(*self.results))
        store = await SqlStorage.open(url)
        try:
            ids = self.submitted | {name: stream.run for name, stream in self.streams.items()}
            records = {ids[name]: await store.journal.read(ids[name]) for name in ended}
        finally:
            await store.aclose()
        for name, result in ended.items():
            items = records[ids[name]]
            assert result["status"] == "succeeded", (name, result)
            outputs = result["outputs"]
            assert (outputs["one"], outputs["two"]) == (f"/first/{name}", f"/second/{name}")
            assert name in outputs["text"]
            assert [record.seq for record in items] == [*range(1, len(items) + 1)], "its journal is gapless"
            assert [r.event.outputs for r in items if isinstance(r.event, RunEnded)] == [outputs], "it has ended once"
        for name, stream in self.streams.items():
            self._check_stream(stream, records[stream.run], ended[name]["outputs"])
        self._check_calls(ended)
        await asyncio.to_thread(self._check_callbacks)
        return records

    def _check_stream(self, stream: Stream, records: list[Record], outputs: Event) -> None:
        assert len(stream.ids) == len(set(stream.ids)), "nothing was repeated"
        events = [event for event in events_and_nodes(stream.events) if event[0] in ("node_finished", *FINISHED)]
        expected = [("node_finished", node) for node in ("s", "first", "second", "talk", "e")]
        assert events == [*expected, FINISHED], "nothing is missing"
        history = [record.event for record in records]
        talk = next(
            index for index, event in enumerate(history) if isinstance(event, NodeStarted) and event.path == "talk"
        )
        if not any(isinstance(event, RunResumed) for event in history[talk:]):  # else the text began anew
            chunks = [event["data"]["text"] for event in stream.events if event["event"] == "text_chunk"]
            assert "".join(chunks) == "\n".join(outputs.values())

    def _check_calls(self, names: dict[str, Event]) -> None:
        firsts = Counter(path for path, _ in self.peer.calls if path.startswith("/first"))
        keys = Counter(path for path, _ in set(self.peer.calls) if path.startswith("/second"))
        for name in names:
            assert firsts[f"/first/{name}"] == 1, "what had ended was not repeated"
            assert keys[f"/second/{name}"] == 1, "a call made again brings the same key"

    def _check_callbacks(self) -> None:
        """Each was sent under one id, and only once if its answer arrived."""
        until = time.monotonic() + _SECONDS
        for run in self.submitted.values():
            path = f"/api/v1/workflow-runs/{run}/callbacks"
            while [item["status"] for item in Client(self.apis[0]).get(path).get("data", [])] != ["delivered"]:
                assert time.monotonic() < until, f"the callback of {run} was not delivered"
                time.sleep(0.1)
        posts = Counter((json.loads(body)["data"]["id"], id_) for id_, _, _, body in self.hook.posts)
        mine = {key: count for key, count in posts.items() if key[0] in self.submitted.values()}
        assert len(mine) == len(self.submitted)
        self.repeated = sum(mine.values()) - len(mine)


def _started(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task whose error is not reported again where nobody awaits it, because another one has failed before."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
