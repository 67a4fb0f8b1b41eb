"""The implementations that every contract suite runs against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.stores.memory import MemoryStore
from headrace.stores.sql import SqlStore


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryStore | SqlStore]:
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = await SqlStore.open(f"sqlite:///{tmp_path}/headrace.db")
    yield opened
    await opened.aclose()
