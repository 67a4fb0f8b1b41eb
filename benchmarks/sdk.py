"""What the Python SDK adds to a call: beside bare httpx, against the same Headrace.

Calls: `run_workflow` and a poll, one after another, in turn with the same request by a bare httpx client. Streams: a
hundred at once in one AsyncClient, in turn with a hundred that bare httpx reads and parses: tokens a second of each.
Events: the processor time of parsing one, in turn with splitting its lines and parsing the JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
from headrace_client import AsyncClient, Client
from headrace_client.event_reader import WORKFLOW_ENDS, EventReader

from benchmarks.service import RunningServer, helper, serving
from benchmarks.table import Row, Target

GROUP = "Python SDK: one process, compared with bare httpx on the same server"
CALLS, ROUNDS = 200, 7
STREAMS, TOKENS, STREAM_ROUNDS = 100, 200, 6
EVENTS = 20_000
MOST = Target(1.3)
MOST_OF_AN_EVENT = Target(3.0)
_TOKEN = " token"


def _timed(call: Callable[[], Any]) -> float:
    """Milliseconds a call, of CALLS."""
    gc.collect()
    began = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - began) / CALLS * 1000


def _beside(ours: Callable[[], Any], bare: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """(ours, bare, ours by bare): medians of rounds in turn, so that noise meets both alike."""
    ours(), bare()
    pairs = [(_timed(ours), _timed(bare)) for _ in range(rounds)]
    ratio = statistics.median(first / second for first, second in pairs)
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs), ratio


def _calls(rounds: int) -> list[tuple[str, float, float, float]]:
    with serving("start_end.yml") as server:
        url = f"http://127.0.0.1:{server.port}"
        body = {"inputs": {"query": "hello"}, "user": "u"}
        with Client(server.key, url, user="u") as client, httpx.Client(headers=server.headers) as bare:
            run = client.create_workflow_run(server.app, {"query": "hello"}).workflow_run_id
            client.wait(run)

            def bare_run() -> Any:
                answer = bare.post(f"{url}/v1/workflows/run", json={**body, "response_mode": "blocking"})
                return answer.raise_for_status().json()["data"]["outputs"]

            def bare_poll() -> Any:
                return bare.get(f"{url}/api/workflow-runs/{run}").raise_for_status().json()["status"]

            return [
                ("a blocking run", *_beside(lambda: client.run_workflow({"query": "hello"}).outputs, bare_run, rounds)),
                ("a poll", *_beside(lambda: client.get_workflow_run_status(run).status, bare_poll, rounds)),
            ]


async def _streamed(server: RunningServer, rounds: int) -> tuple[float, float, float]:
    """(tokens a second through the SDK, through bare httpx, time of the one by the other), STREAMS at once: medians of
    rounds in turn, either first in half of them, so that neither noise nor order favours one."""
    url = f"http://127.0.0.1:{server.port}"
    inputs = {"query": "hello"}

    async def one(client: AsyncClient) -> int:
        count = 0
        async for event in client.stream_workflow(inputs):
            count += event.text.count(_TOKEN)
        return count

    async def bare_one(client: httpx.AsyncClient) -> int:
        body = {"inputs": inputs, "user": "u", "response_mode": "streaming"}
        count = 0
        async with client.stream("POST", f"{url}/v1/workflows/run", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data:") and (event := json.loads(line[5:]))["event"] == "text_chunk":
                    count += event["data"]["text"].count(_TOKEN)
        return count

    async def rate(work: Callable[[], Coroutine[Any, Any, int]]) -> float:
        gc.collect()
        began = time.perf_counter()
        counts = await asyncio.gather(*(work() for _ in range(STREAMS)))
        if set(counts) != {TOKENS}:
            raise RuntimeError(f"a stream had {min(counts)} of {TOKENS} tokens")
        return sum(counts) / (time.perf_counter() - began)

    limits = httpx.Limits(max_connections=None)
    async with (
        AsyncClient(server.key, url) as client,
        httpx.AsyncClient(headers=server.headers, limits=limits, timeout=60) as bare,
    ):
        await one(client), await bare_one(bare)
        pairs: list[tuple[float, float]] = []
        for number in range(rounds):
            if number % 2:
                theirs = await rate(lambda: bare_one(bare))
                pairs.append((await rate(lambda: one(client)), theirs))
            else:
                pairs.append((await rate(lambda: one(client)), await rate(lambda: bare_one(bare))))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs), ratio


def _streams(rounds: int) -> tuple[float, float, float]:
    with helper("others.py") as port:
        environ = {"OPENAI_API_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        with serving("model.yml", environ, MODEL_NAME=f"{TOKENS}-0") as server:
            return asyncio.run(_streamed(server, rounds))


def _events(rounds: int) -> tuple[float, float, float]:
    """Microseconds of processor time for an event (ours, bare), and ours by bare: the best of rounds in turn."""
    run = "2f5a1c9e-7d7c-4f0a-a7ab-1e3b3ac1b0d0"
    data = {"text": _TOKEN, "from_variable_selector": ["llm", "text"]}
    event = json.dumps({"event": "text_chunk", "workflow_run_id": run, "task_id": run, "data": data})
    chunks = [f"id: {number}\ndata: {event}\n\n".encode() for number in range(EVENTS)]

    def ours() -> int:
        reader = EventReader(WORKFLOW_ENDS)
        return sum(len(event.text) for chunk in chunks for event in reader.feed(chunk))

    def bare() -> int:
        count = 0
        for chunk in chunks:
            for line in chunk.decode().split("\n"):
                if line.startswith("data:"):
                    count += len(json.loads(line[5:])["data"]["text"])
        return count

    def timed(work: Callable[[], int]) -> float:
        gc.collect()
        began = time.process_time()
        if work() != EVENTS * len(_TOKEN):
            raise RuntimeError("an event is missing")
        return (time.process_time() - began) / EVENTS * 1e6

    pairs = [(timed(ours), timed(bare)) for _ in range(rounds)]
    best, best_bare = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
    return best, best_bare, best / best_bare


def measure(quick: bool) -> list[Row]:
    rows: list[Row] = []
    for what, ours, bare, ratio in _calls(3 if quick else ROUNDS):
        note = f"{ours:.2f} ms, and {bare:.2f} ms"
        rows.append(Row(GROUP, f"{what}, relative to httpx", ratio, "x", MOST, note=note))
    rate, bare_rate, ratio = _streams(2 if quick else STREAM_ROUNDS)
    note = f"{rate:,.0f} tokens/s, and {bare_rate:,.0f}; server, model and client on the same cores"
    rows.append(
        Row(GROUP, f"{STREAMS} streams at once in one AsyncClient, relative to httpx", ratio, "x", MOST, note=note)
    )
    ours, bare, ratio = _events(3 if quick else ROUNDS)
    note = f"{ours:.1f} us, and {bare:.1f} us of processor time"
    rows.append(
        Row(GROUP, "parsing an event, relative to splitting lines and json", ratio, "x", MOST_OF_AN_EVENT, note=note)
    )
    return rows
