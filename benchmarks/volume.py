"""What a run with a model costs where the journal is in PostgreSQL: rows, bytes, and processor time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.machine import processor_seconds, processor_seconds_of_server
from benchmarks.service import call, helper, load, serving
from benchmarks.table import Row, Target
from tests import postgresql

RUNS = 100
TOKENS, SECONDS = 500, 10
GROUP = f"Volume: start -> llm -> end, {TOKENS} tokens in {SECONDS} s, streamed, {RUNS} at once, PostgreSQL"
EVENTS, STORED, WAL, WORKER, SERVER = (
    "records a run",
    "stored a run, with indexes",
    "WAL a run",
    "processor time a run",
    "processor time of PostgreSQL a run",
)
STORED_BEFORE = 16.5  # kB, before rows were made smaller


def measure(quick: bool) -> list[Row]:
    rounds = 1 if quick else 3
    with ExitStack() as stack:
        ask = stack.enter_context(load())
        port = stack.enter_context(helper("others.py"))
        server = stack.enter_context(postgresql.serving())
        url = server.new_database()
        environ = {"OPENAI_API_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{port}/v1", "HEADRACE_DATABASE_URL": url}
        name = f"{TOKENS}-{1000 * SECONDS // TOKENS}"
        headrace = stack.enter_context(serving("model.yml", environ, MODEL_NAME=name))
        job: dict[str, Any] = {
            **call(headrace, {"query": "hello"}, "streaming"),
            "seconds": 300,
            "expect": '"event":"workflow_finished"',
        }
        ask(**job, connections=RUNS, requests=RUNS)
        figures: dict[str, Callable[[], float]] = {
            EVENTS: lambda: _query(url, "SELECT sum(1 + more) FROM events"),
            STORED: lambda: _query(url, "SELECT pg_database_size(current_database())"),
            WAL: lambda: _query(url, "SELECT pg_current_wal_insert_lsn() - '0/0'"),
            WORKER: lambda: processor_seconds(headrace.pid),
            SERVER: lambda: processor_seconds_of_server(server.pid),
        }
        before = {name: figure() for name, figure in figures.items()}
        ask(**job, connections=RUNS, requests=rounds * RUNS)
        each = {name: (figure() - before[name]) / (rounds * RUNS) for name, figure in figures.items()}
    return [
        Row(GROUP, EVENTS, each[EVENTS], "", note="its events, and the pieces of its text"),
        Row(
            GROUP,
            STORED,
            each[STORED] / 1000,
            "kB",
            Target(STORED_BEFORE / 2),
            {"before": STORED_BEFORE},
            missed="the pieces of its text are appended as they are streamed, so few records share a row",
        ),
        Row(GROUP, WAL, each[WAL] / 1000, "kB", note="without full-page images, which a checkpoint adds"),
        Row(GROUP, WORKER, 1000 * each[WORKER], "ms", note=f"API and worker in one process; {TOKENS} tokens streamed"),
        Row(GROUP, SERVER, 1000 * each[SERVER], "ms"),
    ]


def _query(url: str, statement: str) -> float:
    from psycopg import connect

    with connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        assert row is not None
        return float(row[0])
