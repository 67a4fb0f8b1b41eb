"""Storage in a database: SQLite or PostgreSQL, one schema."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from headrace.ports import Storage
from headrace.stores.sql.batches import SqlBatches
from headrace.stores.sql.buckets import SqlBuckets
from headrace.stores.sql.callbacks import SqlCallbacks
from headrace.stores.sql.catalog import SqlCatalog
from headrace.stores.sql.conversations import SqlConversations
from headrace.stores.sql.database import Database, connect
from headrace.stores.sql.forms import SqlForms
from headrace.stores.sql.idempotency import SqlIdempotency
from headrace.stores.sql.installation import SqlInstallation
from headrace.stores.sql.journal import JournalWork, SqlJournal
from headrace.stores.sql.knowledge_storage import SqlKnowledgeStorage
from headrace.stores.sql.leases import SqlClaims, SqlLeases
from headrace.stores.sql.model_slots import SqlModelSlots
from headrace.stores.sql.pruning import SqlPruner
from headrace.stores.sql.run_queue import SqlRunQueue
from headrace.stores.sql.runs import SqlRuns
from headrace.stores.sql.subscriptions import SqlSubscriptions
from headrace.stores.sql.triggers import SqlTriggers
from headrace.stores.sql.unstarted_runs import SqlUnstartedRuns
from headrace.stores.sql.writer import Writer

__all__ = ["SqlStorage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlStorage(Storage):
    """The ports of one database. Made by `open`; belongs to the event loop it was opened in."""

    leases: SqlLeases
    queue: SqlRunQueue
    unstarted: SqlUnstartedRuns
    pruner: SqlPruner
    installation: SqlInstallation
    database: Database
    writer: Writer

    @classmethod
    async def open(cls, url: str, *, full_sync: bool = False) -> SqlStorage:
        """Opens `sqlite:///path/to/file.db` or `postgresql://...`; creates or migrates it if necessary.

        What is acknowledged survives a killed process; with `full_sync` (SQLite) a power loss too, at the price of
        waiting for the disk at each commit. StoreError says why a database cannot be opened.
        """
        database = await asyncio.to_thread(connect, url, full_sync=full_sync)
        work = JournalWork()
        writer = Writer(database, work)
        leases = SqlLeases(database, writer, work)
        return cls(
            journal=SqlJournal(database, writer),
            leases=leases,
            claims=SqlClaims(database, writer, leases),
            runs=SqlRuns(database, writer),
            catalog=SqlCatalog(database, writer),
            conversations=SqlConversations(database, writer),
            forms=SqlForms(database, writer),
            idempotency=SqlIdempotency(database, writer),
            callbacks=SqlCallbacks(database, writer),
            batches=SqlBatches(database, writer),
            buckets=SqlBuckets(database, writer),
            model_slots=SqlModelSlots(database, writer, leases),
            triggers=SqlTriggers(database, writer),
            subscriptions=SqlSubscriptions(database, writer),
            queue=SqlRunQueue(database, writer, leases),
            unstarted=SqlUnstartedRuns(database, writer),
            knowledge=SqlKnowledgeStorage(database, writer),
            pruner=SqlPruner(database, writer),
            installation=SqlInstallation(database, writer),
            database=database,
            writer=writer,
        )

    async def aclose(self) -> None:
        """Writes what waits, releases the unfinished runs, and closes all connections."""
        await self.leases.leave()
        await self.writer.aclose()
        await asyncio.to_thread(self.database.close)
