"""Values of metadata that several callers give at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.errors import InvalidParam
from headrace.knowledge.metadata import Metadata, MetadataUpdate
from tests.knowledge.knowledge_base import knowledge_base


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
async def test_values_that_two_processes_give_at_once_are_all_there(
    server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("postgresql_url") if server == "postgresql" else f"sqlite:///{tmp_path}/headrace.db"
    async with knowledge_base(url, tmp_path) as first, knowledge_base(url, tmp_path) as second:
        dataset = await first.dataset()
        documents = [(await first.add(dataset, "text", f"{name}.md")).id for name in "ab"]
        metadata = [Metadata(base.store, lambda: 2.0) for base in (first, second)]
        fields = [(await metadata[0].add_field(dataset, f"field {number}", "number")).id for number in range(20)]

        async def give(number: int, field: str) -> None:
            order = documents if number % 4 < 2 else documents[::-1]
            updates = [MetadataUpdate(document, {field: number}, partial=True) for document in order]
            await metadata[number % 2].update(dataset, updates)

        await asyncio.gather(*(give(number, field) for number, field in enumerate(fields)))
        expected = {field: number for number, field in enumerate(fields)}
        assert await second.store.documents.metadata_values(dataset.id) == dict.fromkeys(documents, expected)
        good, gone = (MetadataUpdate(document, {fields[0]: 99}, partial=True) for document in (documents[0], "gone"))
        with pytest.raises(InvalidParam, match="Document not found"):
            await metadata[0].update(dataset, [good, gone])
        assert await second.store.documents.metadata_values(dataset.id) == dict.fromkeys(documents, expected)
