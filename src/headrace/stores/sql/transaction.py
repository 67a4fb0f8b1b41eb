"""The writer's transactions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from headrace.stores.sql.bulk_insert import BulkInsert, Values, execute


def begin(connection: Connection) -> None:
    """Begins a transaction; see the engine's option `begin`."""
    execute(connection, connection.get_execution_options()["begin"])


class Transaction:
    """One of SQLite begins at once, and has the lock.

    On PostgreSQL all INSERTs of many rows are one statement, and nothing else is sent if there are no others: that is
    one round trip, and a process that is paused between two statements would keep locks that others wait for.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._deferred = connection.dialect.name == "postgresql"
        self._inserts: list[tuple[BulkInsert, Sequence[Values]]] = []
        self._begun = not self._deferred
        if self._begun:
            begin(connection)

    @property
    def connection(self) -> Connection:
        """For other statements."""
        if self._deferred:
            if not self._begun:
                begin(self._connection)
                self._begun = True
            self._send()
        return self._connection

    def insert(self, statement: BulkInsert, rows: Sequence[Values]) -> None:
        if not rows:
            return
        if self._deferred:
            self._inserts.append((statement, rows))
        else:
            statement.execute(self._connection, rows)

    def commit(self) -> None:
        self._send()
        if self._begun:
            execute(self._connection, "COMMIT")

    def _send(self) -> None:
        """Executes the INSERTs that wait. They do not see each other's rows, and are of different tables."""
        inserts, self._inserts = self._inserts, []
        if len(inserts) > 1:
            parts = ", ".join(f"insert{n} AS ({statement.text})" for n, (statement, _) in enumerate(inserts))
            values = [array for statement, rows in inserts for array in statement.arrays(rows)]
            self._connection.exec_driver_sql(f"WITH {parts} SELECT 1", tuple(values))
        elif inserts:
            statement, rows = inserts[0]
            statement.execute(self._connection, rows)
