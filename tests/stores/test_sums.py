"""The sums of ended runs in a database that processes share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.kernel.events import RunEnded
from headrace.stores.sql import SqlStorage
from headrace.stores.sql.bulk_insert import BulkInsert
from headrace.stores.sql.transaction import Transaction
from tests.contracts.examples import numbered, queued


async def test_sums_are_written_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else two processes could each wait for a row that the other has locked."""
    written: list[Sequence[tuple[Any, ...]]] = []
    insert = Transaction.insert

    def noted(self: Transaction, statement: BulkInsert, rows: Sequence[tuple[Any, ...]]) -> None:
        if "INTO run_sums" in statement.text:
            written.append(rows)
        insert(self, statement, rows)

    monkeypatch.setattr(Transaction, "insert", noted)
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/h.db")
    try:
        costs = [{"provider": "p", "model": model, "total_price": "1"} for model in ("z", "a", "m")]
        await store.journal.append(numbered("r", [queued("r"), RunEnded("succeeded", costs=costs)]))
    finally:
        await store.aclose()
    (rows,) = written
    assert len(rows) == 4
    assert rows == sorted(rows)
