from __future__ import annotations

import asyncio

import pytest

from headrace.adapters.documents import DocumentReader
from headrace.adapters.documents.bounds import Budget
from headrace.adapters.documents.formats import Format, read


@pytest.fixture
def apart() -> None:
    """Documents are read in processes of their own, as they are where Headrace serves."""


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `apart`, documents are read in this process, with the function that the others call, too: starting a
    process takes longer than most documents."""

    async def read_here(reader: DocumentReader, document_format: Format, data: bytes) -> str:
        budget = Budget(characters=reader._characters, cells=reader._cells, seconds=reader._seconds)
        return await asyncio.to_thread(read, document_format, data, budget)

    if "apart" not in request.fixturenames:
        monkeypatch.setattr(DocumentReader, "_in_process", read_here)
