"""A hundred models streaming through one process, and the delay of the first token compared with the model's own."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.service import call, helper, load, serving
from benchmarks.table import Row, Target

GROUP = "Streams: start -> llm -> end, over server-sent events"
STREAMS = 100
SECONDS = 90.0


def measure(quick: bool) -> list[Row]:
    rounds, tokens, firsts = (2, 200, 40) if quick else (5, 400, 100)
    with helper("others.py") as port, load() as ask:
        environ = {"OPENAI_API_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{port}/v1"}
        direct_rate, rate = [], []
        with serving("model.yml", environ, MODEL_NAME=f"{tokens}-0") as served:
            ours = _through_headrace(call(served, {"query": "hello"}, "streaming"))
            direct = _direct(port, f"{tokens}-0")
            ask(**ours, connections=20, requests=40)
            for _ in range(rounds):
                direct_rate.append(_rate(ask(**direct, connections=STREAMS, requests=STREAMS), tokens))
                rate.append(_rate(ask(**ours, connections=STREAMS, requests=STREAMS), tokens))
        first_direct, first = [], []
        with serving("model.yml", environ, MODEL_NAME="5-2") as served:
            ours = _through_headrace(call(served, {"query": "hello"}, "streaming"))
            direct = _direct(port, "5-2")
            ask(**ours, connections=1, requests=50)
            for _ in range(rounds):
                first_direct += ask(**direct, connections=1, requests=firsts)["firsts"]
                first += ask(**ours, connections=1, requests=firsts)["firsts"]
    first_ms, direct_ms = 1000 * statistics.median(first), 1000 * statistics.median(first_direct)
    return [
        Row(
            GROUP,
            f"{STREAMS} streams at once",
            statistics.median(rate),
            "tokens/s",
            Target(15_000, more=True),
            {"the model itself": statistics.median(direct_rate)},
            "model, Headrace and clients on the same cores",
        ),
        Row(
            GROUP,
            "first token, additional delay to the model's own",
            first_ms - direct_ms,
            "ms",
            Target(3),
            {"the model itself": direct_ms},
            f"{first_ms:.2f} ms from request to first token, one stream at a time",
        ),
    ]


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
