"""Batches and their lines in a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, select, text, update
from sqlalchemy.engine import RowMapping

from headrace.ports import Batch, BatchLine
from headrace.stores.encoding import clean, decode_value, encode_value
from headrace.stores.sql.schema import RUNNING, batch_lines, batches
from headrace.stores.sql.statements import Call, SqlRepository, add, cleaned, inserting

# lines in one transaction, and bytes of inputs: the journal's appends are not to wait long for them
MOST, LARGEST = 500, 1_000_000
_LAST = 2**31 - 1  # the highest number that the column takes


class SqlBatches(SqlRepository):
    """Batches (all but `count_runs`)."""

    async def add_batch(self, batch: Batch, lines: Sequence[BatchLine]) -> None:
        """See `Batches.add_batch`; one of the same id stays as it is. ValueError where a line's inputs are nested too
        deeply; then nothing is added."""
        if await self.find_batch(batch.id):
            return
        # lines that a crash left behind, of a batch that never came to be
        await self.remove_lines(batch.id)
        try:
            for chunk in _chunks(batch.id, lines):
                await self._write(lambda connection, chunk=chunk: _insert(connection, chunk))
            # last: a batch that can be found has all its lines
            await self._write(lambda connection: add(connection, batches, asdict(batch)))
        except BaseException:
            statement = delete(batch_lines).where(
                batch_lines.c.batch == batch.id, ~select(batches).where(batches.c.id == batch.id).exists()
            )
            # enqueued and not waited for: the caller may be being cancelled. Where it fails too, the next one of this
            # id removes them.
            job = Call(lambda connection: connection.execute(statement).rowcount, self._database.name)
            self._writer.submit(job).add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def remove_lines(self, batch: str) -> None:
        """Removes the lines of a batch that is no more, or not yet; some at a time."""
        some = select(batch_lines.c.number).where(batch_lines.c.batch == batch).limit(MOST)
        gone = ~select(batches).where(batches.c.id == batch).exists()
        statement = delete(batch_lines).where(batch_lines.c.batch == batch, batch_lines.c.number.in_(some), gone)
        while await self._write(lambda connection: connection.execute(statement).rowcount):
            pass

    async def save_batch(self, batch: Batch) -> None:
        # one that is gone was removed with its app while it went on: it stays so
        statement = update(batches).where(batches.c.id == batch.id).values(cleaned(asdict(batch)))
        await self._write(lambda connection: connection.execute(statement).rowcount)

    async def find_batch(self, batch: str) -> Batch | None:
        row = await self._database.row(select(batches).where(batches.c.id == clean(batch)))
        return Batch(**row) if row else None

    async def batches(self, app: str | None = None, status: str | None = None) -> list[Batch]:
        statement = select(batches).order_by(batches.c.created_at.desc(), batches.c.id.desc())
        if app is not None:
            statement = statement.where(batches.c.app == clean(app))
        if status == "running":
            statement = statement.where(text(RUNNING))  # so said, the index can be used
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

        def work(connection: Connection) -> list[BatchLine]:
            return [_line(row) for row in connection.execute(statement).mappings()]

        return await self._database.run(work)


def _line(row: RowMapping) -> BatchLine:
    return BatchLine(row["number"], decode_value(row["inputs"]), row["error"], row["query"], row["conversation"])


def _chunks(batch: str, lines: Sequence[BatchLine]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        inputs = encode_value(dict(line.inputs))
        texts = {"error": line.error, "query": line.query, "conversation": line.conversation}
        cleaned = {name: text and clean(text) for name, text in texts.items()}
        chunk.append({"batch": batch, "number": line.index, "inputs": inputs, **cleaned})
        size += len(inputs) + len(line.query or "")
        if len(chunk) == MOST or size >= LARGEST:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _insert(connection: Connection, chunk: list[dict[str, Any]]) -> None:
    connection.execute(inserting(connection, batch_lines).on_conflict_do_nothing(), chunk)
