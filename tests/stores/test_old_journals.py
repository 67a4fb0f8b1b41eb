"""A journal that any version has written stays readable: a new event field comes last, and has a default.

`tests/data/journals/NNNN.jsonl` holds rows as a version with the schema NNNN wrote them. They are never changed.
"""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from headrace.errors import StoreError
from headrace.kernel.events import (
    EVENTS,
    Delta,
    Event,
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeFailed,
    NodeLogged,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RoundStarted,
    RunEnded,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
    StepEnded,
    StepStarted,
    StopRequested,
)
from headrace.stores.encoding import decode
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.migrations import upgrade
from headrace.values import File, Variable
from tests.contracts.examples import numbered

JOURNALS = Path(__file__).parents[1] / "data" / "journals"
PICTURE = File("image", "local_file", "a.png", ".png", "image/png", 12, None, "0d5f", "http://127.0.0.1/a.png")
ODD = {
    "picked": Variable([PICTURE], ("node", "files"), "id"),
    "big": 2**70,
    "below": -math.inf,
    "half": "\ud83d",
    "keys": {1: "one"},
}
EXPECTED: list[Event] = [
    RunQueued(
        "app",
        "v1",
        "task",
        "ada",
        {"name": "宜蘭礁溪五日遊", "photo": PICTURE},
        {"user_id": "ada", "files": []},
        "end-user",
        "service-api",
    ),
    RunStarted(),
    NodeStarted("start"),
    NodeSucceeded("start", {"name": "宜蘭", "photo": PICTURE}, {"name": "宜蘭"}),
    NodeStarted("llm"),
    NodeRetried("llm", 1, "429", "InvokeRateLimitError", {"a": 1}, {"b": None}),
    Delta("llm", "text", 0, "hello 😀\n"),
    NodeSucceeded(
        "llm",
        {"text": "hello 😀\n", "n": [1, 2.5, True, None]},
        {},
        {"model_mode": "chat"},
        "source",
        {"total_tokens": 7, "total_price": "0.0000100"},
    ),
    NodeStarted("iter"),
    RoundStarted("iter", 0, {"item": {"$": "file"}}),
    NodeFailed("iter", "boom", "CodeExecutionError", {}, {}, {"error_message": "boom"}, "fail-branch", "fail-branch"),
    NodeSkipped("end"),
    NodeStarted("pick"),
    NodeSucceeded("pick", ODD),
    RunPaused(({"node": "pick", "form": {"who": "ada"}},)),
    RunResumed(),
    RunResumed(True),
    StopRequested("ada"),
    RunEnded("stopped", {"answer": None}, "Stopped by user.", 7, 6, 2),
]


CHAT: list[Event] = [
    RunQueued("app", "v1", "task", "ada", {}, {"query": "Hi?", "dialogue_count": 2}, "end-user", conversation="c1"),
    RunStarted({"mood": "calm", "seen": [PICTURE]}),
    NodeStarted("iter", {"items": [1, 2]}),
    NodeSucceeded("set", {}, assigned={"conversation": {"mood": "glad", "below": -math.inf}, "loop": {"n": 2**70}}),
    RunEnded("succeeded", {"answer": "Hi!", "files": []}, None, 7, 1, 0),
]
"""What is in the journals from 0003 on besides."""

STEPS: list[Event] = [
    NodeStarted("agent"),
    StepStarted("agent", "round[1]", "ROUND 1", {"started_at": 1760000001.5}),
    StepStarted("agent", "round[1]/call[0]", "CALL weather"),
    StepEnded("agent", "round[1]/call[0]", {"text": "sunny 😀", "files": [PICTURE], "none": None}),
    StepEnded("agent", "round[1]", [1, 2.5, "漢"]),
    NodeSucceeded("agent", {"text": "sunny"}),
]
"""What is in the journals from 0009 on besides."""

FORMS: list[Event] = [
    NodeStarted("ask"),
    FormRequested(
        "ask",
        "f1",
        "Review",
        "# Draft 漢\n{{#$output.comment#}}",
        [{"type": "paragraph", "output_variable_name": "comment", "default": None}],
        [{"id": "approve", "title": "Approve", "button_style": "primary"}],
        {"comment": "fine"},
        3600,
        [{"type": "webapp", "token": "secret"}],
    ),
    FormSubmitted("ask", "f1", "approve", {"comment": "😀", "file": PICTURE}, "ada", "ada@example.com"),
    FormExpired("ask", "f2", "timeout"),
]
"""What is in the journals from 0013 on besides."""


def _restore(journal: Path, file: Path) -> None:
    """A database with the schema and the rows that a version had."""
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    engine = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        upgrade(connection, journal.stem)
    old = sqlite3.connect(file)
    old.executemany(
        "INSERT INTO events (run, seq, at, type, body) VALUES (?, ?, ?, ?, ?)",
        [(row["run"], row["seq"], row["at"], row["type"], row["body"].encode()) for row in rows],
    )
    old.commit()
    old.close()


@pytest.mark.parametrize("journal", sorted(JOURNALS.glob("*.jsonl")), ids=lambda path: path.stem)
async def test_an_old_journal_is_read_as_it_was_written(journal: Path, tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    _restore(journal, file)
    store = await SqlStorage.open(f"sqlite:///{file}")
    records = await store.journal.read("golden")
    shorter = await store.journal.read("shorter")
    chat = await store.journal.read("chat")
    steps = await store.journal.read("steps")
    forms = await store.journal.read("forms")
    await store.aclose()
    assert [record.event for record in records] == EXPECTED
    assert [record.at for record in records] == [1760000000.25 + seq for seq in range(1, len(EXPECTED) + 1)]
    assert [record.event for record in shorter] == [RunEnded("succeeded", {"a": 1})], "later fields take their defaults"
    assert [record.event for record in chat] == (CHAT if journal.stem >= "0003" else [])
    assert [record.event for record in steps] == (STEPS if journal.stem >= "0009" else [])
    assert [record.event for record in forms] == (FORMS if journal.stem >= "0013" else [])


def test_the_old_journal_holds_every_type_of_event() -> None:
    assert {type(event) for event in (*EXPECTED, *STEPS, *FORMS)} == set(EVENTS.values()) - {NodeLogged}


@pytest.mark.parametrize(
    ("name", "body", "what"),
    [
        ("RunTeleported", b"[]", "a newer version of Headrace wrote it"),
        ("RunStarted", b"[1, 2", "cannot be read"),
        ("RunStarted", b"[1, 2]", "a newer version of Headrace wrote it"),
        ("RunQueued", b"[]", "cannot be read"),
        ("NodeStarted", b"{}", "cannot be read"),
        ("NodeStarted", b'~[{"$":"ghost","v":1}]', "cannot be read"),
        ("NodeStarted", b'~[{"$":"file"}]', "cannot be read"),
        ("NodeStarted", b'~[{"$":"file","v":{"sort":"image"}}]', "cannot be read"),
        ("NodeStarted", b"\xff", "cannot be read"),
        ("NodeStarted", b"", "cannot be read"),
        ("NodeStarted", b'~[{"$":"file","v":1}]', "cannot be read"),
        ("NodeStarted", b'~[{"$":"object","v":[[[],1]]}]', "cannot be read"),
        ("NodeStarted", b"~" + b"[" * 100_000, "cannot be read"),
        ("RunPaused", b"[1]", "cannot be read"),
    ],
)
def test_a_damaged_or_newer_record_is_named(name: str, body: bytes, what: str) -> None:
    with pytest.raises(StoreError, match=f"run r1: event 7 .*{what}"):
        decode(("r1", 7, 1.0, name, body))


@pytest.mark.parametrize(
    "body",
    [
        b"z",
        b"zdamaged",
        b"null",
        b"[1,2]",
        b'[["NodeStarted",1.0,"a"]]',
        b'[["NodeStarted",1.0,"a"],[{},1.0,"b"]]',
        b'[["NodeStarted",1.0,"a"],["RunPaused",1.0,2]]',
        b'~[["NodeStarted",1.0,"a"],["NodeStarted",1.0,{"$":"variable","v":1}]]',
    ],
)
async def test_a_damaged_row_of_several_records_concerns_its_run_only(body: bytes, tmp_path: Path) -> None:
    storage = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    for run in ("r1", "r2"):
        await storage.journal.append(numbered(run, [NodeStarted("a"), NodeStarted("b")]))
    with closing(sqlite3.connect(tmp_path / "headrace.db")) as connection, connection:
        connection.execute("UPDATE events SET body = ? WHERE run = 'r1'", (body,))
    with pytest.raises(StoreError, match=r"run r1: event [12] .*cannot be read") as raised:
        await storage.journal.read("r1")
    assert not raised.value.transient
    assert list(await storage.journal.read_all(["r1", "r2"])) == ["r2"]
    await storage.aclose()
