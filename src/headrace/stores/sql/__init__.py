"""A store in a database: SQLite or PostgreSQL, one schema."""

from __future__ import annotations

import asyncio

from headrace.stores.sql.batches import SqlBatches
from headrace.stores.sql.buckets import SqlBuckets
from headrace.stores.sql.callbacks import SqlCallbacks
from headrace.stores.sql.catalog import SqlCatalog
from headrace.stores.sql.conversations import SqlConversations
from headrace.stores.sql.database import Database, connect
from headrace.stores.sql.idempotency import SqlIdempotency
from headrace.stores.sql.installation import SqlInstallation
from headrace.stores.sql.journal import JournalWork, SqlJournal
from headrace.stores.sql.leases import SqlLeases
from headrace.stores.sql.pruning import SqlPruner
from headrace.stores.sql.writer import Writer

__all__ = ["SqlStore"]


class SqlStore(
    SqlJournal,
    SqlLeases,
    SqlCatalog,
    SqlIdempotency,
    SqlCallbacks,
    SqlBatches,
    SqlConversations,
    SqlBuckets,
    SqlPruner,
    SqlInstallation,
):
    """Every port of the storage, on one database.

    Made by `open`; belongs to the event loop it was opened in.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        work = JournalWork()
        self._writer = Writer(database.engine, database.name, work, database.health)
        SqlJournal.__init__(self, database, self._writer)
        SqlLeases.__init__(self, database, self._writer, work)
        SqlCatalog.__init__(self, database, self._writer)
        SqlBuckets.__init__(self, database, self._writer)

    @classmethod
    async def open(cls, url: str, *, full_sync: bool = False) -> SqlStore:
        """Opens `sqlite:///path/to/file.db` or `postgresql://...`, creating or migrating it where that is due.

        What is acknowledged survives a killed process; with `full_sync` (SQLite) a power loss too, at the price of
        waiting for the disk at each commit. StoreError says why a database cannot be opened.
        """
        return cls(await asyncio.to_thread(connect, url, full_sync=full_sync))

    async def remove_app(self, app: str) -> bool:
        """See `Catalog.remove_app`; also what the asynchronous API remembers of it, but callbacks already delivered."""
        theirs = await self.batches(app)
        removed = await SqlCatalog.remove_app(self, app)
        for batch in theirs:
            await self.remove_lines(batch.id)
        return removed

    async def aclose(self) -> None:
        """Writes what waits, gives the runs that have not ended to whoever wants them, and closes all connections."""
        await self.leave()
        await self._writer.aclose()
        await asyncio.to_thread(self._database.close)
