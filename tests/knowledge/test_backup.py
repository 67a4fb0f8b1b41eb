"""A backup has the knowledge bases, and the files of their documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace.adapters.file_storage import FileBlobStore
from headrace.backup import back_up, restore
from headrace.settings import Settings
from tests.knowledge.knowledge_base import GOOD, knowledge_base


async def test_a_backup_has_knowledge_bases(tmp_path: Path) -> None:
    before, after = Settings(data=tmp_path / "before"), Settings(data=tmp_path / "after")
    async with knowledge_base(before.database, before.data) as base:
        dataset = await base.dataset()
        document = await base.add(dataset, "red apples\nblue invoices", **GOOD)
        await base.index()
        back_up(before, tmp_path / "backup.tar.gz")
        await base.service.delete(dataset)
    restore(after, tmp_path / "backup.tar.gz")
    assert await FileBlobStore(after.data / "files").read(document.file) == b"red apples\nblue invoices"
    async with knowledge_base(after.database, after.data) as base:
        segments = await base.segments(document)
        assert [segment.content for segment in segments] == ["red apples", "blue invoices"]
        assert await base.rows("dataset_vector") == sorted(segment.id for segment in segments)

        def segment_ids(connection: Any) -> list[Any]:
            terms = "SELECT t.segment FROM dataset_text_index i JOIN dataset_text t ON t.number = i.rowid"
            return connection.exec_driver_sql(f"{terms} WHERE dataset_text_index MATCH 'invoices'").scalars().all()

        assert await base.storage.database.run(segment_ids) == [segments[1].id]
        changed = await base.add(dataset, "green invoices", **GOOD)
        await base.index()
        assert (await base.current(changed)).status == "completed"
        assert len(await base.storage.database.run(segment_ids)) == 2
