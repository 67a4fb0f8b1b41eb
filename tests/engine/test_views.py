"""All views of a run give the same facts of the same records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

from headrace.api.dify.chat_responses import AnswerText, BlockingMessage
from headrace.api.dify.run_responses import BlockingResponse, workflow_log, workflow_run
from headrace.api.dify.runs import events_for
from headrace.api.native.node_executions import executions
from headrace.api.native.run_watch import RunStatus
from headrace.batches.progress import BatchProgress, run_of
from headrace.conversations.messages import MESSAGES
from headrace.kernel.events import (
    NodeFailed,
    NodeRetried,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunQueued,
    RunStarted,
)
from headrace.kernel.graph import is_top_level, node_of
from headrace.kernel.retry import fork
from headrace.kernel.summary import RunSummary
from headrace.node import Flow
from headrace.ports import Batch, BatchLine
from headrace.runs.reader import RunView
from headrace.stores.projection import RunRow, callback_of, exchange_after, exchange_of
from headrace.telemetry.run_tracker import RunTracker
from headrace.telemetry.spans import Spans
from headrace.webhooks.payload import message
from tests.engine.chats import chats, driven

BATCH = str(UUID(int=5))
RUN, RETRY = run_of(BATCH, 0), run_of(BATCH, 1)
MODES = ("advanced-chat", "chat", "workflow")


def request(run: str, flow: Flow) -> Record:
    system = {"query": "hey", "user_id": "u1"} | ({} if flow.mode in MESSAGES else {"timestamp": 7})
    queued = RunQueued("app", "v1", "task", "u1", {"a": 1}, system, callback="http://x", conversation="c")
    return Record(run, 1, 0.0, queued)


def facts(flow: Flow, records: Sequence[Record]) -> dict[str, Any]:
    """What is true of a run that has ended, counted from its records by hand."""
    end = records[-1].event
    assert isinstance(end, RunEnded)
    since = next((record.at for record in records if isinstance(record.event, RunStarted)), records[0].at)
    events = [record.event for record in records]
    containers = {event.path for event in events if isinstance(event, RoundStarted)}
    paid = [event.usage for event in events if isinstance(event, NodeSucceeded) and event.path not in containers]
    usages = [usage for usage in paid if usage and usage["prompt_tokens"]] if paid else []
    starts = {event.path for event in events if isinstance(event, NodeStarted)}
    top = [event for event in events if isinstance(event, NodeStarted | NodeRetried) and is_top_level(event.path)]
    unstarted = [event for event in events if isinstance(event, NodeFailed) and event.path not in starts]
    failures = [event for event in events if isinstance(event, NodeFailed | NodeRetried) and is_top_level(event.path)]
    return {
        "status": end.status,
        "error": end.error,
        "outputs": json.loads(json.dumps(dict(end.outputs))),
        "elapsed": round(records[-1].at - since, 6),
        "steps": len(top) + sum(is_top_level(event.path) for event in unstarted),
        "exceptions": len(failures),
        "tokens": sum(usage["total_tokens"] for usage in usages),
        "currencies": {usage["currency"] for usage in usages},
        "created_at": records[0].at,
        "ended_at": records[-1].at,
    }


def dify(view: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that Dify's shapes of a run have in common."""
    return {
        "status": view["status"],
        "error": view["error"],
        "elapsed": view["elapsed_time"],
        "steps": view["total_steps"],
        "tokens": view["total_tokens"],
        "created_at": view["created_at"],
        "ended_at": view["finished_at"],
    }


def agrees(truth: Mapping[str, Any], seen: Mapping[str, Any]) -> None:
    assert seen == {name: truth[name] for name in seen}


class Recorder:
    """Stands in for the exporter of spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def spans_of(flow: Flow, records: Sequence[Record]) -> dict[str, ReadableSpan]:
    """The spans of a run, by the path of the node; the run's own has none."""
    recorder = Recorder()
    spans = spans_of_all_examples()
    spans._processor = cast("Any", recorder)  # pyright: ignore[reportPrivateUsage]
    tracker = RunTracker([spans])
    copy_context().run(tracker.on_acquired, records[:1], flow)  # which sets the run of log lines
    for record in records[1:]:
        tracker.on_records([record])
    tracker.on_released(records[0].run)
    return {
        str((span.attributes or {}).get("headrace.node.path", "")): span
        for span in recorder.spans
        if "headrace.round" not in (span.attributes or {})
    }


@cache
def spans_of_all_examples() -> Spans:
    """One, since each starts a thread; in the process that runs the test."""
    return Spans("http://localhost:1")


async def line_of(flow: Flow, records: Sequence[Record]) -> dict[str, Any]:
    """The line of the batch that the run belongs to."""
    index = 0 if records[0].run == RUN else 1

    async def read(run: str) -> Sequence[Record]:
        return records if run == records[0].run else ()

    async def flow_of(*_: str) -> Flow:
        return flow

    async def lines(_: str, start: int, __: int) -> list[BatchLine]:
        return [BatchLine(index, {})] if start <= index else []

    async def find_batch(_: str) -> Batch:
        return batch

    batch = Batch(BATCH, "app", "v1", "u1", 2, 0.0)
    service: Any = SimpleNamespace(
        environment=SimpleNamespace(journal=SimpleNamespace(read=read)), apps=SimpleNamespace(flow=flow_of)
    )
    progress = BatchProgress(service, cast("Any", SimpleNamespace(batch_lines=lines, find_batch=find_batch)))
    [line] = [result async for result in progress.results(batch)]
    return line.wire()


def check_run_views(flow: Flow, records: Sequence[Record], live_records: Sequence[Record]) -> None:
    truth = facts(flow, records)
    summary = RunSummary(flow.graph)
    for record in records:
        summary.apply(record)
    view = RunView(summary, cast("Any", SimpleNamespace(flow=flow)), records)
    run = records[0].run

    detail = workflow_run(run, view)
    agrees(truth, dify(detail))
    outputs = json.loads(detail["outputs"]) if detail["outputs"] is not None else {}
    assert outputs == truth["outputs"]

    queued = records[0].event
    assert isinstance(queued, RunQueued)
    row = RunRow.of(records[0], queued)
    for record in records[1:]:
        row.apply(record)
    logged = workflow_log(row.listed(), None)["workflow_run"]
    agrees(truth, dify(logged) | {"exceptions": logged["exceptions_count"]})

    status = RunStatus(run, flow)
    for record in records:
        status.apply(record)
    native = json.loads(bytes(status.response().body))
    callback = callback_of(queued, records[-1])
    assert callback is not None
    payload = json.loads(message(callback, view))["data"]
    for polled in (native, payload):
        agrees(truth, dify(polled) | {"exceptions": polled["exceptions_count"], "outputs": polled["outputs"]})
        mixed, usage = len(truth["currencies"]) > 1, polled["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] == truth["tokens"]
        assert usage["currency"] == (None if mixed else next(iter(truth["currencies"]), "USD"))
        assert (usage["total_price"] is None) is mixed
    assert payload["usage"] == native["usage"]
    failed = native["error_node"] and native["error_node"]["node_id"]
    assert failed == (summary.failure.path if truth["status"] == "failed" and summary.failure else None)

    line = asyncio.run(line_of(flow, records))
    agrees(truth, {"status": line["status"], "error": line["error"], "outputs": line["outputs"]})
    agrees(truth, {"elapsed": line["elapsed_time"], "tokens": line["total_tokens"]})

    blocking = BlockingMessage(run, "task", flow) if flow.mode in MESSAGES else BlockingResponse(run, "task", flow)
    answers = [answer for record in records if (answer := blocking.feed(record)) is not None]
    events = events_for(run, flow)
    stream = [event for record in live_records for event in events.feed(record)]
    finished = [event.data for event in stream if event.event == "workflow_finished"]
    if flow.mode == "workflow":
        data = json.loads(answers[0])["data"]
        agrees(truth, dify(data) | {"outputs": data["outputs"]})
    if flow.mode != "chat":
        agrees(truth, dify(finished[0]) | {"exceptions": finished[0]["exceptions_count"]})
        assert json.loads(json.dumps(finished[0]["outputs"])) == truth["outputs"]
    check_nodes(flow, records, executions(view), stream)
    check_texts(flow, records, stream, answers)
    for answer in (native, payload, line):
        if "answer" in answer and truth["status"] != "failed":
            assert answer["answer"] == (truth["outputs"].get("answer") or "")


def check_nodes(
    flow: Flow, records: Sequence[Record], nodes: Sequence[Mapping[str, Any]], stream: Sequence[Any]
) -> None:
    """The node executions, the stream's node events and the spans."""
    ends = {
        record.event.path: record
        for record in records
        if isinstance(record.event, NodeSucceeded | NodeFailed)
    }  # fmt: skip
    finished = {event.data["id"]: event.data for event in stream if event.event == "node_finished"}
    spans = spans_of(flow, records)
    own = spans.pop("")
    attributes = own.attributes or {}
    end = records[-1].event
    assert isinstance(end, RunEnded)
    assert attributes["headrace.status"] == end.status
    assert (attributes["headrace.tokens"], attributes["headrace.steps"]) == (end.tokens, end.steps)
    assert len(nodes) == len(spans)
    statuses = sorted((node["node_id"], node["status"], node["elapsed_time"]) for node in nodes)
    traced = [(node_of(path), span.attributes, span) for path, span in spans.items()]
    expected = sorted(
        (node, (of or {})["headrace.status"], round((span.end_time or 0) / 1e9 - (span.start_time or 0) / 1e9, 6))
        for node, of, span in traced
    )
    assert statuses == expected
    assert sum(node["status"] != "stopped" for node in nodes) == len(ends)
    for node in nodes:
        if (data := finished.get(node["id"])) is not None:
            for name in ("status", "error", "elapsed_time", "predecessor_node_id", "node_id", "title"):
                assert data[name] == node[name], name
            assert json.dumps(data["outputs"]) == json.dumps(node["outputs"])


def check_texts(flow: Flow, records: Sequence[Record], stream: Sequence[Any], answers: Sequence[bytes]) -> None:
    """The streamed message, the blocking answer, `outputs.answer` and what the conversation keeps."""
    text = AnswerText(flow)
    for record in records:
        text.feed(record)
    end = records[-1].event
    assert isinstance(end, RunEnded)
    streamed = "".join(
        event.data["text"] if event.event == "text_chunk" else event.data["answer"]
        for event in stream
        if event.event in ("text_chunk", "message")
    )
    assert streamed == str(text)
    if end.status != "failed":
        assert end.outputs.get("answer", "") == streamed
        if flow.mode in MESSAGES:
            assert json.loads(answers[0])["answer"] == streamed
    queued = records[0].event
    assert isinstance(queued, RunQueued)
    message = exchange_of(records[0], queued)
    assert message is not None
    assert exchange_after(message, end, end.status).answer == streamed


@settings(max_examples=60)
@given(chats(), st.sampled_from(MODES), st.one_of(st.none(), st.integers(0, 40)))
def test_all_views_give_the_same_facts(chat: Flow, mode: str, stop_after: int | None) -> None:
    flow = replace(chat, mode=mode)
    live_records, journal = asyncio.run(driven(flow, [request(RUN, flow)], stop_after))
    check_run_views(flow, journal, live_records)
    end = journal[-1].event
    assert isinstance(end, RunEnded)
    if end.status in ("failed", "stopped"):  # a retry begins with what the run had finished
        queued = request(RETRY, flow).event
        assert isinstance(queued, RunQueued)
        again = fork(journal, RETRY, journal[-1].at + 1, replace(queued, retry_of=RUN))
        live_records, journal = asyncio.run(driven(flow, again))
        check_run_views(flow, journal, live_records)
