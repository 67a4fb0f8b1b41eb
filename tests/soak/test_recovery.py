"""What the long form measures."""

from __future__ import annotations

from headrace.kernel.events import Record, RunResumed, RunStarted
from tests.soak.recovery import Loss, waits


def _records(run: str, *resumed: float) -> list[Record]:
    events = [(5.0, RunStarted()), *((at, RunResumed(recovered=True)) for at in resumed)]
    return [Record(run, seq, at, event) for seq, (at, event) in enumerate(events, 1)]


def test_a_wait_ends_when_the_run_continues_at_another_worker() -> None:
    records = {"a": _records("a", 8.0, 24.0, 60.0), "b": _records("b", 17.0), "c": _records("c")}
    assert waits([Loss(10.0, {"a", "b", "c"})], records, []) == [[7.0, 14.0]]


def test_time_without_a_database_is_not_counted() -> None:
    records = {"a": _records("a", 30.0)}
    assert waits([Loss(10.0, {"a"})], records, [(1.0, 2.0), (8.0, 11.0), (15.0, 17.0), (29.0, 33.0)]) == [[16.0]]


def test_a_run_that_is_lost_again_counts_from_then_on() -> None:
    records = {"a": _records("a", 40.0), "b": _records("b", 24.0, 41.0)}
    losses = [Loss(10.0, {"a", "b"}), Loss(25.0, {"a", "b"})]
    assert waits(losses, records, []) == [[14.0], [15.0, 16.0]]
