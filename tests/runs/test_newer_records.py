"""A worker leaves runs to those of a newer version if it cannot read all their records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pytest

from headrace.errors import NewerRecord, SequenceConflict
from headrace.kernel.events import Record
from headrace.runs.service import RunService
from headrace.stores import encoding
from headrace.stores.sql import SqlStorage, journal, leases
from tests.contracts.examples import numbered, queued
from tests.runs.service import GATED, Gate, publish, submission_of
from tests.runs.test_two_workers import begun, both, let_go, looks
from tests.runs.test_two_workers import two as two


@dataclass(frozen=True, slots=True)
class Teleported:
    """An event that this version does not know."""

    to: str


@contextmanager
def newer(*, writes_only: bool = False) -> Iterator[None]:
    """Makes this process one of a newer version; with `writes_only`, workers in it stay what they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_FIELDS", {**encoding._FIELDS, Teleported: ("to",)})
        patch.setattr(encoding, "_READERS", {**encoding._READERS, Teleported: attrgetter("to")})
        patch.setattr(journal, "SINCE", {Teleported: 2})
        if not writes_only:
            patch.setattr(encoding, "EVENTS", {**encoding.EVENTS, "Teleported": Teleported})
            patch.setattr(leases, "VERSION", 2)
        yield


async def _teleport(service: RunService, run: str) -> None:
    while True:
        last = (await service.environment.journal.read(run))[-1].seq
        assert last is not None
        with newer(writes_only=True), suppress(SequenceConflict):  # its driver may be faster
            await service.environment.journal.append([Record(run, last + 1, time.time(), Teleported("Jiaoxi"))])  # type: ignore[arg-type]
            return


async def test_a_run_that_it_drives_is_given_up(two: list[RunService], caplog: pytest.LogCaptureFixture) -> None:
    mine, other = two
    release = await publish(mine, GATED)
    async with both(two):
        run = (await mine.submit(submission_of(release))).run
        await begun(1)
        await _teleport(other, run)
        await let_go(mine)
        await looks(mine)
        await looks(other)
        assert not other.driving
        assert not mine.driving
    assert Gate.entered == 1
    # twice if the reconciler saw the new run before it was dispatched
    warnings = [record for record in caplog.records if run in record.getMessage()]
    assert len(warnings) in (1, 2)
    for warning in warnings:
        assert warning.levelname == "WARNING"
        assert "is left to a worker of a newer version" in warning.getMessage()
    with newer():
        assert await other.leases.orphaned() == [run]
        assert await other.leases.acquire([run])


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_only_newer_workers_take_it_up(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path}/headrace.db"
    store = await SqlStorage.open(request.getfixturevalue("postgresql_url") if database == "postgresql" else url)
    await store.journal.append(numbered("old", [queued("old")]))
    with newer():
        await store.journal.append(numbered("new", [queued("new"), Teleported("Jiaoxi")]))  # type: ignore[list-item]
    assert await store.leases.orphaned() == ["old"]
    assert not await store.leases.acquire(["new"])
    with pytest.raises(NewerRecord, match="unknown type Teleported"):
        await store.journal.read("new")
    with newer():
        assert set(await store.leases.orphaned()) == {"old", "new"}
        assert await store.leases.acquire(["new"])
        assert len(await store.journal.read("new")) == 2
    await store.aclose()


def test_a_record_with_another_field_is_newer() -> None:
    row = ("r1", 2, 1.0, "StopRequested", b'["ada", 7]')
    with pytest.raises(NewerRecord, match=r"event 2 \(StopRequested\) has an unknown field"):
        encoding.decode(row)
