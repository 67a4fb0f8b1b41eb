"""A hundred models streaming through one process, and the delay of the first token compared with the model's own."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.service import RunningServer, call, helper, load, serving
from benchmarks.table import Row, Target, ratio

GROUP = "Streams: start -> llm -> end, over server-sent events"
STREAMS = 100
SECONDS = 90.0
MODEL, PROXY = "the model itself", "a bare proxy"
FIRST_BEFORE = 2.4  # times the delay of the proxy, before the start of a run was made shorter
MISSED_RATE = "each token is parsed, folded into the run's response stream and encoded again"
MISSED_FIRST = "the model is called only once the node's start is durable"


def measure(quick: bool) -> list[Row]:
    rounds, tokens, firsts = (3, 100, 40) if quick else (7, 400, 100)
    with helper("others.py") as port, helper("bare_proxy.py", str(port)) as proxy, load() as ask:
        environ = {"OPENAI_API_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        with serving("model.yml", environ, MODEL_NAME=f"{tokens}-0") as server:
            jobs = _jobs(server, port, proxy, f"{tokens}-0")
            ask(**jobs["Headrace"], connections=20, requests=40)
            rates = [
                {name: _rate(ask(**job, connections=STREAMS, requests=STREAMS), tokens) for name, job in jobs.items()}
                for _ in range(rounds)
            ]
        with serving("model.yml", environ, MODEL_NAME="5-2") as server:
            jobs = _jobs(server, port, proxy, "5-2")
            for job in jobs.values():
                ask(**job, connections=1, requests=50)
            first_ms = [
                {
                    name: 1000 * statistics.median(ask(**job, connections=1, requests=firsts)["firsts"])
                    for name, job in jobs.items()
                }
                for _ in range(rounds)
            ]
    later = [{name: ms - turn[MODEL] for name, ms in turn.items()} for turn in first_ms]
    model_ms = statistics.median(turn[MODEL] for turn in first_ms)
    return [
        ratio(
            GROUP,
            f"{STREAMS} streams at once",
            [(turn["Headrace"], turn[MODEL]) for turn in rates],
            "tokens/s",
            MODEL,
            Target(0.5, more=True),
            "model, Headrace and clients on the same cores",
            MISSED_RATE,
            {PROXY: statistics.median(turn[PROXY] for turn in rates)},
        ),
        ratio(
            GROUP,
            "first token, later than the model's own",
            [(turn["Headrace"], turn[PROXY]) for turn in later],
            "ms",
            PROXY,
            Target(FIRST_BEFORE / 3),
            "one stream at a time",
            MISSED_FIRST,
            {MODEL: f"{model_ms:.2f} from the request"},
        ),
    ]


def _jobs(server: RunningServer, port: int, proxy: int, model: str) -> dict[str, dict[str, Any]]:
    """The same stream through Headrace, from the model, and through a proxy that passes on what it reads."""
    direct = _direct(port, model)
    through_headrace = _through_headrace(call(server, {"query": "hello"}, "streaming"))
    return {"Headrace": through_headrace, MODEL: direct, PROXY: {**direct, "port": proxy}}


def _through_headrace(job: dict[str, Any]) -> dict[str, Any]:
    """A job for Headrace: every run must succeed, and only tokens that are streamed count."""
    return {
        **job,
        "seconds": SECONDS,
        "first": '"event":"text_chunk"',
        "expect": '"event":"workflow_finished"',
        "count": {"event": '"event":"text_chunk"', "text": " token"},
    }


def _direct(port: int, model: str) -> dict[str, Any]:
    body = f'{{"model": "{model}", "stream": true, "messages": [{{"role": "user", "content": "hello"}}]}}'
    return {
        "port": port,
        "path": "/v1/chat/completions",
        "headers": {"Content-Type": "application/json"},
        "body": body,
        "seconds": SECONDS,
        "first": " token",
        "expect": "[DONE]",
        "count": {"event": '"content":', "text": " token"},
    }


def _rate(result: dict[str, Any], tokens: int) -> float:
    if result["counted"] != STREAMS * tokens:
        raise RuntimeError(f"{result['counted']} tokens came of {STREAMS * tokens}")
    return result["counted"] / result["elapsed"]
