"""The implementations that every contract suite runs against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.ports import Storage
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any rows."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return f"sqlite:///{tmp_path}/headrace.db"


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    if request.param == "memory":
        store = memory_storage()
    elif request.param == "sqlite":
        store = await SqlStorage.open(f"sqlite:///{tmp_path}/headrace.db")
    else:
        store = await SqlStorage.open(request.getfixturevalue("postgresql_url"))
    yield store
    await store.aclose()


@pytest.fixture
def store(storage: Storage) -> Storage:
    """What a suite tests; those of a single port replace it by that port."""
    return storage
