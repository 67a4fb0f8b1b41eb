"""What is appended within a few turns of the event loop shares a transaction."""

from __future__ import annotations

import asyncio

import pytest

from headrace.stores.sql import SqlStorage, writer
from tests.contracts.examples import whole
from tests.stores.plans import listening


async def test_a_new_run_and_the_first_steps_of_its_driver_are_committed_together(
    store: SqlStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER_SECONDS", 60.0)  # on a busy machine, too
    queued, *others = whole("r1")
    with listening(store) as statements:
        first = store.journal.append([queued])
        for _ in range(writer.GATHER_TURNS - 2):
            await asyncio.sleep(0)
        await asyncio.gather(first, store.journal.append(others))
    assert [statement for statement, _ in statements].count("COMMIT") == 1
    assert await store.journal.read("r1") == [queued, *others]


async def test_what_waits_is_written_when_the_store_closes(store: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "GATHER_SECONDS", 60.0)
    appended = store.journal.append(whole("r1"))
    await store.aclose()
    assert appended.done()
    assert appended.exception() is None
