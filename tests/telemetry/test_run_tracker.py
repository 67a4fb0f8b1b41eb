"""What is told of runs, from records alone."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.dsl.load import load
from headrace.errors import HeadraceError
from headrace.kernel.events import (
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    Record,
    RoundStarted,
    RunEnded,
    RunQueued,
    RunStarted,
)
from headrace.kernel.secrets import STARS
from headrace.kernel.trace import NodeTrace, RoundTrace
from headrace.node import Flow
from headrace.nodes import registry
from headrace.settings import Settings
from headrace.telemetry.logs import LineFormatter
from headrace.telemetry.metrics import status_of
from headrace.telemetry.run_tracker import Outcome, RunLog, RunTracker, Sink, TrackedRun
from headrace.telemetry.scrubbing import Scrubber
from headrace.telemetry.setup import Telemetry
from tests.telemetry import flows

QUEUED = RunQueued("app", "v", "t", "u", {}, {})


class RecordingSink(Sink):
    """Keeps its calls: (path, started_at, ended_at, status, live)."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_node_ended(
        self, run: TrackedRun, node: NodeTrace, at: float, outcome: Outcome | None, *, live: bool
    ) -> None:
        self.calls.append((node.path, node.started_at, at, status_of(outcome), live))

    def on_round_ended(self, run: TrackedRun, container: str, index: int, round_: RoundTrace, *, live: bool) -> None:
        self.calls.append(
            (f"{container}[{index}]", round_.started_at, round_.ended_at, "failed" if round_.failed else "", live)
        )

    def on_ended(self, run: TrackedRun, at: float, event: RunEnded) -> None:
        self.calls.append(("", run.queued_at, at, event.status, True))


@pytest.fixture
def flow(tmp_path: Path) -> Flow:
    container, begin = flows.rounds(["start", "q"], ["inner", "text"])
    file = flows.write(
        tmp_path, "rounds", [flows.start("q"), container, flows.end()], [begin, flows.llm("inner", "x", "it")]
    )
    return load(file.read_text(), registry(), "rounds")


def records(*events: Any) -> list[Record]:
    return [Record("run", number, float(number), event) for number, event in enumerate(events, 1)]


NESTED = records(
    QUEUED,
    RunStarted(),
    NodeStarted("it"),
    RoundStarted("it", 0),
    NodeStarted("it[0]/inner"),
    NodeFailed("it[0]/inner", "no", "Boom"),
    RoundStarted("it", 1),
    NodeStarted("it[1]/inner"),
    NodeSucceeded("it[1]/inner", {}),
    NodeSucceeded("it", {}),
    RunEnded("succeeded"),
)
CALLS = [
    ("it[0]/inner", 5.0, 6.0, "failed"),
    ("it[1]/inner", 8.0, 9.0, "succeeded"),
    ("it", 3.0, 10.0, "succeeded"),
    ("it[0]", 4.0, 6.0, "failed"),
    ("it[1]", 7.0, 9.0, ""),
    ("", 1.0, 11.0, "succeeded"),
]


@pytest.mark.parametrize("known", range(1, len(NESTED)))
def test_a_run_is_told_the_same_wherever_it_is_taken_up(known: int, flow: Flow):
    sink = RecordingSink()
    tracker = RunTracker([sink])
    copy_context().run(tracker.on_acquired, NESTED[:known], flow)  # which sets the run of log lines
    for record in NESTED[known:]:
        tracker.on_records([record])
    tracker.on_released("run")
    assert [call[:4] for call in sink.calls] == CALLS
    nodes = [call for call in sink.calls if not call[0].endswith("]")]  # a round is reported with its container
    assert [live for *_, live in nodes] == [ended > known for _, _, ended, *_ in nodes]
    assert len(tracker) == 0


def test_nodes_that_the_run_did_not_wait_for_have_stopped(flow: Flow):
    sink = RecordingSink()
    tracker = RunTracker([sink])
    copy_context().run(tracker.on_acquired, NESTED[:1], flow)  # which sets the run of log lines
    tracker.on_records([*NESTED[1:8], Record("run", 9, 9.0, RunEnded("stopped"))])
    assert sink.calls[1:] == [
        ("it[1]/inner", 8.0, 9.0, "stopped", True),
        ("it", 3.0, 9.0, "stopped", True),
        ("it[0]", 4.0, 6.0, "failed", True),
        ("it[1]", 7.0, 9.0, "", True),
        ("", 1.0, 9.0, "stopped", True),
    ]


def test_a_run_whose_workflow_is_gone_is_told_as_failed():
    sink = RecordingSink()
    tracker = RunTracker([sink])
    copy_context().run(tracker.on_acquired, NESTED[:6], None)  # which sets the run of log lines
    tracker.on_records(records(*[QUEUED] * 6, RunEnded("failed", error="gone"))[6:])
    assert sink.calls[-1] == ("", 1.0, 7.0, "failed", True)


def test_what_nobody_here_drives_is_not_remembered():
    tracker = RunTracker([RecordingSink()])
    tracker.on_records(NESTED)
    tracker.on_released("run")
    assert len(tracker) == 0


FAILED = [
    NodeFailed("it[0]/inner", "no", "Boom"),
    NodeFailed("it", "[0] no", "Boom"),
    RunEnded("failed", error="[0] no"),
]
IGNORED = [NodeFailed("it[0]/inner", "no", "Boom"), RunEnded("failed", error="The run took too long")]


@pytest.mark.parametrize(
    ("events", "text", "fields"),
    [
        ([RunEnded("succeeded")], "succeeded in 5.00 s", {"status": "succeeded", "seconds": 5.0}),
        (
            FAILED,
            "failed in 7.00 s at 'Inner': [0] no",
            {"status": "failed", "seconds": 7.0, "node": "it[0]/inner", "error": "[0] no"},
        ),
        (
            IGNORED,
            "failed in 6.00 s: The run took too long",
            {"status": "failed", "seconds": 6.0, "error": "The run took too long"},
        ),
        (
            [RunEnded("failed", error="hush-hush is wrong")],
            f"failed in 5.00 s: {STARS} is wrong",
            {"status": "failed", "seconds": 5.0, "error": f"{STARS} is wrong"},
        ),
    ],
)
async def test_how_a_run_ended_is_logged(
    events: list[Any], text: str, fields: dict[str, Any], flow: Flow, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "headrace.runs")
    log = RunLog()
    tracker = RunTracker([log])
    before = [*NESTED[:5]]
    copy_context().run(tracker.on_acquired, before, replace(flow, secrets=frozenset({"hush-hush"})))
    for record in records(*(record.event for record in before), *events)[5:]:
        tracker.on_records([record])
    log.flush()
    (logged,) = caplog.records
    line = json.loads(LineFormatter("json", Scrubber()).format(logged))
    assert line.pop("event") == f"run run of {flow.name}: {text}"
    assert line.pop("time")
    assert line == {"level": "info", "logger": "headrace.runs", "run": "run", "app": "app", **fields}
    assert LineFormatter("console", Scrubber()).format(logged).endswith(f"{text}  [headrace.runs]")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "headrace.telemetry.spans", raising=False)
    for settings, environ in (
        (Settings(otel_endpoint="http://localhost:4318"), {}),
        (Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}),
    ):
        with pytest.raises(HeadraceError, match=r'pip install "headrace\[otel\]"'):
            Telemetry(settings, environ, Scrubber())
        Telemetry(settings, {**environ, "OTEL_SDK_DISABLED": "true"}, Scrubber())
    Telemetry(Settings(), {}, Scrubber())
