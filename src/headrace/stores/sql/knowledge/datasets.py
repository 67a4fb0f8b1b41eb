"""Datasets, their metadata fields, and tags in a database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, case, delete, exists, func, select, update
from sqlalchemy.engine import RowMapping

from headrace.ports.knowledge import UNFINISHED, Dataset, DatasetChanges, DatasetCounts, MetadataField, Tag
from headrace.stores.encoding import clean
from headrace.stores.sql.knowledge.repository import KnowledgeRepository
from headrace.stores.sql.knowledge.rows import dataset_of, lock, page, parts, row, row_of
from headrace.stores.sql.knowledge_schema import dataset as _datasets
from headrace.stores.sql.knowledge_schema import (
    dataset_document,
    dataset_metadata,
    dataset_tag,
    dataset_tag_binding,
)
from headrace.stores.sql.repository import inserting


class SqlDatasets(KnowledgeRepository):
    """Implements Datasets."""

    async def add_dataset(self, dataset: Dataset) -> bool:
        return await self._add(_datasets, {**row_of(dataset), "deleted": False})

    async def find_dataset(self, workspace: str | None, dataset: str) -> Dataset | None:
        statement = select(_datasets).where(_datasets.c.id == clean(dataset), ~_datasets.c.deleted)
        if workspace is not None:
            statement = statement.where(_datasets.c.workspace == clean(workspace))
        stored = await self._database.row(statement)
        return dataset_of(stored) if stored else None

    async def datasets(
        self, workspace: str, *, keyword: str = "", tags: Collection[str] = (), offset: int = 0, limit: int = 20
    ) -> tuple[Sequence[Dataset], int]:
        statement = select(_datasets).where(_datasets.c.workspace == clean(workspace), ~_datasets.c.deleted)
        if keyword:
            statement = statement.where(_datasets.c.name.icontains(clean(keyword), autoescape=True))
        if tags:
            bound = select(dataset_tag_binding.c.dataset).where(dataset_tag_binding.c.tag.in_(map(clean, tags)))
            statement = statement.where(_datasets.c.id.in_(bound))
        ordered = statement.order_by(_datasets.c.created_at.desc(), _datasets.c.id.desc())
        rows, total = await self._database.run(lambda connection: page(connection, ordered, offset, limit))
        return [dataset_of(stored) for stored in rows], total

    async def change_dataset(self, dataset: str, changes: DatasetChanges) -> bool:
        return await self._change_dataset(dataset, changes)

    async def settle_dataset(self, dataset: str, changes: DatasetChanges) -> None:
        await self._change_dataset(dataset, changes, _datasets.c.doc_form.is_(None))

    async def _change_dataset(self, dataset: str, changes: DatasetChanges, *conditions: ColumnElement[bool]) -> bool:
        values = row(changes)
        statement = update(_datasets).where(_datasets.c.id == clean(dataset), ~_datasets.c.deleted, *conditions)
        if "name" in values:
            other = _datasets.alias()
            same = (other.c.name == values["name"], other.c.id != _datasets.c.id, ~other.c.deleted)
            statement = statement.where(~exists().where(other.c.workspace == _datasets.c.workspace, *same))
        return await self._execute(statement.values(values)) > 0

    async def remove_dataset(self, dataset: str) -> bool:
        def work(connection: Connection) -> bool:
            # in this order, as everything that indexes a document locks it before its dataset
            of_dataset = dataset_document.c.dataset == clean(dataset)
            lock(connection, dataset_document.c.id, of_dataset)
            connection.execute(update(dataset_document).where(of_dataset).values(deleted=True))
            which = (_datasets.c.id == clean(dataset), ~_datasets.c.deleted)
            return connection.execute(update(_datasets).where(*which).values(deleted=True)).rowcount > 0

        return await self._write(work)

    async def count_documents(self, datasets: Collection[str]) -> Mapping[str, DatasetCounts]:
        documents = dataset_document.c
        available = and_(documents.status == "completed", documents.enabled, ~documents.archived)

        def number(which: ColumnElement[bool]) -> ColumnElement[Any]:
            return func.sum(case((which, 1), else_=0))

        statement = select(
            documents.dataset,
            func.count(),
            number(available),
            func.sum(documents.word_count),
            number(documents.status.in_(UNFINISHED)),
            number(documents.status == "paused"),
            number(documents.status == "error"),
        ).where(~documents.deleted)

        def work(connection: Connection) -> dict[str, DatasetCounts]:
            counts: dict[str, DatasetCounts] = {}
            for ids in parts(datasets):
                rows = connection.execute(statement.where(documents.dataset.in_(ids)).group_by(documents.dataset))
                counts |= {id_: DatasetCounts(*map(int, numbers)) for id_, *numbers in rows}
            return counts

        return await self._database.run(work)

    # ---------------------------------------------------------------------------------------------------- metadata

    async def metadata_fields(self, dataset: str) -> Sequence[MetadataField]:
        fields = select(dataset_metadata).where(dataset_metadata.c.dataset == clean(dataset))
        rows = await self._database.rows(fields.order_by(dataset_metadata.c.created_at, dataset_metadata.c.id))
        return [MetadataField(**stored) for stored in rows]

    async def add_metadata_field(self, field: MetadataField) -> bool:
        return await self._add(dataset_metadata, row_of(field))

    async def rename_metadata_field(self, field: str, name: str) -> bool:
        return await self._rename(dataset_metadata, "dataset", name, dataset_metadata.c.id == clean(field))

    async def remove_metadata_field(self, field: str) -> bool:
        return await self._execute(delete(dataset_metadata).where(dataset_metadata.c.id == clean(field))) > 0

    # -------------------------------------------------------------------------------------------------------- tags

    async def tags(self, workspace: str) -> Sequence[Tag]:
        bindings = (
            select(func.count())
            .select_from(dataset_tag_binding.join(_datasets, _datasets.c.id == dataset_tag_binding.c.dataset))
            .where(dataset_tag_binding.c.tag == dataset_tag.c.id, ~_datasets.c.deleted)
            .scalar_subquery()
        )
        statement = select(dataset_tag, bindings.label("bindings")).where(dataset_tag.c.workspace == clean(workspace))
        rows = await self._database.rows(statement.order_by(dataset_tag.c.created_at.desc(), dataset_tag.c.id))
        return [Tag(**stored) for stored in rows]

    async def tags_of(self, datasets: Collection[str]) -> Mapping[str, Sequence[Tag]]:
        bindings = dataset_tag_binding.c
        statement = (
            select(dataset_tag, bindings.dataset)
            .join(dataset_tag_binding, bindings.tag == dataset_tag.c.id)
            .order_by(dataset_tag.c.created_at.desc(), dataset_tag.c.id)
        )

        def work(connection: Connection) -> list[RowMapping]:
            found: list[RowMapping] = []
            for ids in parts(datasets):
                found += connection.execute(statement.where(bindings.dataset.in_(ids))).mappings()
            return found

        tags: dict[str, list[Tag]] = defaultdict(list)
        for stored in await self._database.run(work):
            values = dict(stored)
            tags[values.pop("dataset")].append(Tag(**values))
        return tags

    async def add_tag(self, tag: Tag) -> bool:
        values = row_of(tag)
        del values["bindings"]
        return await self._add(dataset_tag, values)

    async def rename_tag(self, workspace: str, tag: str, name: str) -> bool:
        which = and_(dataset_tag.c.id == clean(tag), dataset_tag.c.workspace == clean(workspace))
        return await self._rename(dataset_tag, "workspace", name, which)

    async def remove_tag(self, workspace: str, tag: str) -> bool:
        def work(connection: Connection) -> bool:
            which = (dataset_tag.c.id == clean(tag), dataset_tag.c.workspace == clean(workspace))
            if not connection.execute(delete(dataset_tag).where(*which)).rowcount:
                return False
            connection.execute(delete(dataset_tag_binding).where(dataset_tag_binding.c.tag == clean(tag)))
            return True

        return await self._write(work)

    async def bind_tags(self, dataset: str, tags: Collection[str]) -> None:
        rows = [{"tag": clean(tag), "dataset": clean(dataset)} for tag in sorted(set(tags))]

        def work(connection: Connection) -> None:
            if rows:
                connection.execute(inserting(connection, dataset_tag_binding).on_conflict_do_nothing(), rows)

        await self._write(work)

    async def unbind_tags(self, dataset: str, tags: Collection[str]) -> None:
        bindings = dataset_tag_binding.c

        def work(connection: Connection) -> None:
            for some in parts(map(clean, tags)):
                which = (bindings.dataset == clean(dataset), bindings.tag.in_(some))
                connection.execute(delete(dataset_tag_binding).where(*which))

        await self._write(work)

    # ------------------------------------------------------------------------------------------------- unique names

    async def _add(self, table: Table, values: Mapping[str, Any]) -> bool:
        """False if there is a row of this name."""

        def work(connection: Connection) -> bool:
            insert = inserting(connection, table).on_conflict_do_nothing().returning(table.c.id)
            return connection.execute(insert, values).first() is not None

        return await self._write(work)

    async def _rename(self, table: Table, scope: str, name: str, which: ColumnElement[bool]) -> bool:
        """False if there is no such row, or another one of this name in the same `scope`."""
        other = table.alias()
        same = (other.c[scope] == table.c[scope], other.c.name == clean(name), other.c.id != table.c.id)
        statement = update(table).where(which, ~exists().where(*same)).values(name=clean(name))
        return await self._execute(statement) > 0
