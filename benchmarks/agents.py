"""What a tool call and an agent's step add to the tool and the model: served, SQLite, one run at a time."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.service import Load, call, helper, load, serving
from benchmarks.table import Row, Target, ratio

GROUP = "Agents and tools: blocking, SQLite, one run at a time"
BARE = "a request to bare FastAPI"
SECONDS = 60.0  # for a job, at most
ROUNDS, CALLS = 10, 20  # beyond the first
MISSED = "what a step returns is stored before the next one begins, which the bare request does not do"


def measure(quick: bool) -> list[Row]:
    """Differences: between a run with a tool node and one without, and between agents with more rounds, or with more
    calls in a round. The tool tells the time, which takes it microseconds."""
    requests = 20 if quick else 50
    with helper("others.py") as port, load() as ask:
        environ = {"OPENAI_API_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        with serving("start_end.yml") as bare, serving("tool.yml") as tool:
            without, with_tool = _medians(ask, requests, *(call(server, {"query": "hello"}) for server in (bare, tool)))
        names = ("1-0-1-1", f"1-0-{1 + CALLS}-1", f"1-0-1-{1 + ROUNDS}")
        with (
            serving("agent.yml", environ, MODEL_NAME=names[0]) as one,
            serving("agent.yml", environ, MODEL_NAME=names[1]) as calls,
            serving("agent.yml", environ, MODEL_NAME=names[2]) as rounds,
        ):
            jobs = [call(server, {"query": "hello"}) for server in (one, calls, rounds)]
            base, more_calls, more_rounds = _medians(ask, requests, *jobs)
        with helper("bare_fastapi.py", "500") as bare_port:
            bare_job = {**_direct(bare_port), "path": "/run"}
            model, bare = _medians(ask, requests, _direct(port), bare_job)
    a_call = (more_calls - base) / CALLS
    a_round = (more_rounds - base) / ROUNDS
    return [
        ratio(GROUP, "a tool node", [(with_tool - without, bare)], "ms", BARE, Target(3.5), missed=MISSED),
        ratio(GROUP, "a tool call of an agent", [(a_call, bare)], "ms", BARE, Target(3.5), missed=MISSED),
        ratio(
            GROUP,
            "an agent's step, beside the model's own time and the call",
            [(a_round - a_call - model, bare)],
            "ms",
            BARE,
            Target(7),
            f"{a_round:.2f} ms for a round of one answer and one call",
            MISSED,
            beside={"the model itself": model},
        ),
    ]


def _medians(ask: Load, requests: int, *jobs: dict[str, Any]) -> list[float]:
    """The median of each job's best turn, in milliseconds: small differences do not survive a busy moment of the
    machine."""
    medians: list[list[float]] = [[] for _ in jobs]
    for _ in range(10):
        for job, of_job in zip(jobs, medians, strict=True):
            result = ask(
                **{"expect": '"status":"succeeded"', "seconds": SECONDS, **job}, connections=1, requests=requests
            )
            of_job.append(1000 * statistics.median(result["latencies"]))
    return [min(of_job) for of_job in medians]


def _direct(port: int) -> dict[str, Any]:
    body = '{"model": "1-0-1-1", "stream": true, "messages": [{"role": "user", "content": "hello"}]}'
    return {
        "port": port,
        "path": "/v1/chat/completions",
        "headers": {"Content-Type": "application/json"},
        "body": body,
        "expect": "",
    }
