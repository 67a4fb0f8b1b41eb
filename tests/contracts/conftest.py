"""The implementations that every contract suite runs against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.ports import Storage
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "memory":
        store = memory_storage()
    else:
        store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    yield store
    await store.aclose()


@pytest.fixture
def store(storage: Storage) -> Storage:
    """What a suite tests; those of a single port replace it by that port."""
    return storage
