"""Compares what a server answers with what a real Dify was recorded to answer.

After identifiers, times and durations are masked:
  status    of the HTTP answer
  blocking  every recorded key, with its value (more keys are fine)
  events    the recorded events in their order, text aside; in a case of parallel branches, the same events in any order
            that keeps each node's own
  text      the streamed text, each selector's whole, in order of first appearance
What is deliberately not compared stands in MASKED and IGNORED.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MASKED = {  # present, but its value is free
    "created_at",
    "updated_at",
    "finished_at",
    "elapsed_time",
    "latency",
    "time_to_first_token",
    "time_to_generate",
    "sys.timestamp",
    "task_id",
    "workflow_run_id",
    "id",
    "conversation_id",
    "message_id",
    "created_by",
    "iteration_duration_map",
    "loop_duration_map",
    "related_id",
    "url",
    "remote_url",
    "tenant_id",
    "user-agent",
    "user_id",
    "filename",
    "process_data",
    "timestamp",
    "from_variable_selector",
    "prompt_unit_price",
    "prompt_price",
    "prompt_price_unit",
    "completion_unit_price",
    "completion_price",
    "completion_price_unit",
    "total_price",
    "currency",
    "headers",
    "execution_metadata",
}
IGNORED = {
    "index",
    "predecessor_node_id",
    "inputs_truncated",
    "outputs_truncated",
    "process_data_truncated",
    "extras",
    "agent_strategy",
}
TEXT = {"text_chunk", "message"}
UNORDERED = re.compile(r"parallel|two_ends|abort|dual|par_")
VOLATILE_TEXT = re.compile(
    r"https?://127|\"(method|headers|date)\":|\b1[78]\d{8}\b"
)  # streamed text that holds an address or a time
ERROR_TEXT = re.compile(
    r"Traceback|Error|Unknown error|refused|error"
)  # wording of a failure is free, its presence is not


def mask(value, key=""):
    if key in MASKED:
        return "*"
    if isinstance(value, dict):
        return {k: mask(v, k) for k, v in value.items() if k not in IGNORED}
    if isinstance(value, list):
        return [mask(v) for v in value]
    if isinstance(value, str):
        if key in {"error", "error_message", "message", "err", "error_type", "type"} and ERROR_TEXT.search(value):
            return "<error>"
        if key == "usage" or value.startswith('{\n  "prompt_tokens"'):
            return "<usage>"
        return UUID.sub("<id>", value)
    return value


def differs(want, got, path=""):
    """The first place where a recorded value is not met, or None."""
    if want == "*":
        return None
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return f"{path}: want an object, got {got!r}"
        for key, value in want.items():
            if key not in got:
                return f"{path}.{key}: missing"
            if difference := differs(value, got[key], f"{path}.{key}"):
                return difference
        return None
    if isinstance(want, list):
        if not isinstance(got, list) or len(want) != len(got):
            return f"{path}: want {want!r}, got {got!r}"
        return next(
            (d for i, (w, g) in enumerate(zip(want, got, strict=True)) if (d := differs(w, g, f"{path}[{i}]"))), None
        )
    return None if want == got and type(want) is type(got) else f"{path}: want {want!r}, got {got!r}"


def events(text):
    return [json.loads(frame[5:]) for frame in re.split(r"\r?\n\r?\n", text) if frame.startswith("data:")]


def events_and_text(stream):
    """(events without text, the text of each selector in order of first appearance)"""
    others, texts = [], {}
    for event in stream:
        if event["event"] in TEXT:
            data = event.get("data", event)
            name = json.dumps(data.get("from_variable_selector"))
            texts[name] = texts.get(name, "") + (data.get("text") or data.get("answer") or "")
        elif event["event"] != "ping":
            others.append(mask(event))
    return others, [
        (k, "<free>" if ERROR_TEXT.search(v) or VOLATILE_TEXT.search(v) else mask(v)) for k, v in texts.items() if v
    ]


def names(events: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(event["event"], (event.get("data") or {}).get("node_id")) for event in events]


def of(events: list[dict[str, Any]], node: str | None) -> list[dict[str, Any]]:
    return [event for event in events if (event.get("data") or {}).get("node_id") == node]


def compare_streams(case, want, got):
    (want_events, want_text), (got_events, got_text) = events_and_text(want), events_and_text(got)
    got_events = [e for e in got_events if e["event"] in {w["event"] for w in want_events} or e["event"] == "error"]
    if UNORDERED.search(case):
        for node in {n for _, n in names(want_events)}:
            w, g = of(want_events, node), of(got_events, node)
            if sorted(e["event"] for e in w) != sorted(e["event"] for e in g):
                return f"events of {node}: want {[e['event'] for e in w]}, got {[e['event'] for e in g]}"
            for event in w:  # rounds of a parallel iteration may come in any order
                differences = [differs(event, other, f"events of {node}") for other in g]
                if None not in differences:
                    return differences[w.index(event)]
                g.pop(differences.index(None))
        return None if sorted(want_text) == sorted(got_text) else f"text: want {want_text}, got {got_text}"
    if names(want_events) != names(got_events):
        at = next(
            (i for i, (w, g) in enumerate(zip(names(want_events), names(got_events), strict=False)) if w != g),
            min(len(want_events), len(got_events)),
        )
        return f"event {at}: want {names(want_events)[at : at + 3]}, got {names(got_events)[at : at + 3]}"
    return differs(want_events, got_events, "events") or (
        None if want_text == got_text else f"text: want {want_text}, got {got_text}"
    )


def post(url, key, body):
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def recorded_status(headers, mode):
    status_line = re.search(rf"## {mode}\s+HTTP/1.1 (\d+)", headers)
    return int(status_line[1]) if status_line else 200


def replay(case, url, key):
    request = json.loads((case / "request.json").read_text())
    headers = (case / "headers.txt").read_text() if (case / "headers.txt").exists() else ""
    for mode in ("blocking", "streaming"):
        name = "response.blocking.json" if mode == "blocking" else "response.stream.txt"
        if not (case / name).exists():
            continue
        recorded = (case / name).read_text()
        body = {**request["body"], "response_mode": mode}
        body.pop("conversation_id", None)
        status, answer = post(url + request["path"], key, body)
        if status != recorded_status(headers, mode):
            return f"{mode}: want HTTP {recorded_status(headers, mode)}, got {status}: {answer[:150]}"
        if mode == "blocking":
            difference = differs(mask(json.loads(recorded)), mask(json.loads(answer)))
        else:
            difference = compare_streams(case.name, events(recorded), events(answer))
        if difference:
            return f"{mode}: {difference[:300]}"
    return None
