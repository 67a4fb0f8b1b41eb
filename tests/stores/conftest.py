"""A database in a file of the test's own, and its store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.stores.sql import SqlStorage


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/headrace.db"


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStorage]:
    store = await SqlStorage.open(url)
    yield store
    await store.aclose()
