"""Batches and their lines in a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, text, update
from sqlalchemy.engine import RowMapping

from headrace.ports import Batch, BatchLine
from headrace.stores.encoding import clean, cleaned, decode_value, encode_value
from headrace.stores.sql.repository import SqlRepository, add, inserting
from headrace.stores.sql.schema import RUNNING, batch_lines, batches
from headrace.stores.sql.writer import Call

# lines in one transaction, and bytes of inputs, so that the journal's appends do not wait long for them
MOST, LARGEST = 500, 1_000_000
_LAST = 2**31 - 1  # the highest number that the column takes


class SqlBatches(SqlRepository):
    """Implements Batches."""

    async def add_batch(self, batch: Batch, lines: Sequence[BatchLine]) -> None:
        """See `Batches.add_batch`; one with the same id stays as it is. ValueError if a line's inputs are nested too
        deeply; then nothing is added."""
        if await self.find_batch(batch.id):
            return
        await self.remove_lines(batch.id)  # a crash may have left some of a batch that was never added
        try:
            for chunk in _chunks(batch.id, lines):
                await self._write(lambda connection, chunk=chunk: _insert(connection, chunk))
            # last: a batch that can be found has all its lines
            await self._write(lambda connection: add(connection, batches, asdict(batch)))
        except BaseException:
            statement = delete(batch_lines).where(batch_lines.c.batch == batch.id, _absent(batch.id))
            # queued but not awaited: the caller may be cancelled. If it fails too, the next batch with this id removes
            # them.
            job = Call(lambda connection: connection.execute(statement).rowcount, self._database.name)
            self._writer.submit(job).add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def remove_lines(self, batch: str) -> None:
        """Removes the lines of a batch that has no row; some at a time."""
        of = batch_lines.c.batch == batch
        some = select(batch_lines.c.number).where(of).limit(MOST)
        statement = delete(batch_lines).where(of, batch_lines.c.number.in_(some), _absent(batch))
        while await self._execute(statement):
            pass

    async def save_batch(self, batch: Batch) -> None:
        # if it was removed with its app in the meantime, it stays so
        await self._execute(update(batches).where(batches.c.id == batch.id).values(cleaned(asdict(batch))))

    async def find_batch(self, batch: str) -> Batch | None:
        row = await self._database.row(select(batches).where(batches.c.id == clean(batch)))
        return Batch(**row) if row else None

    async def batches(self, app: str | None = None, status: str | None = None) -> list[Batch]:
        statement = select(batches).order_by(batches.c.created_at.desc(), batches.c.id.desc())
        if app is not None:
            statement = statement.where(batches.c.app == clean(app))
        if status == "running":
            statement = statement.where(text(RUNNING))  # in these words, so that the index can be used
        elif status is not None:
            statement = statement.where(batches.c.status == clean(status))
        return [Batch(**row) for row in await self._database.rows(statement)]

    async def batch_lines(self, batch: str, start: int = 0, limit: int = 1000) -> list[BatchLine]:
        statement = (
            select(batch_lines)
            .where(batch_lines.c.batch == clean(batch), batch_lines.c.number >= min(max(0, start), _LAST))
            .order_by(batch_lines.c.number)
            .limit(min(max(0, limit), _LAST))
        )
        return await self._database.run(
            lambda connection: [_line(row) for row in connection.execute(statement).mappings()]
        )


def _absent(batch: str) -> ColumnElement[bool]:
    return ~select(batches).where(batches.c.id == batch).exists()


def _insert(connection: Connection, chunk: list[dict[str, Any]]) -> None:
    connection.execute(inserting(connection, batch_lines).on_conflict_do_nothing(), chunk)


def _line(row: RowMapping) -> BatchLine:
    return BatchLine(row["number"], decode_value(row["inputs"]), row["error"], row["query"], row["conversation"])


def _chunks(batch: str, lines: Sequence[BatchLine]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        inputs = encode_value(dict(line.inputs))
        texts = cleaned({"error": line.error, "query": line.query, "conversation": line.conversation})
        chunk.append({"batch": batch, "number": line.index, "inputs": inputs, **texts})
        size += len(inputs) + len(line.query or "")
        if len(chunk) == MOST or size >= LARGEST:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
