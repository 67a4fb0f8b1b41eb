"""Facts of the installation as a whole."""

from __future__ import annotations

from sqlalchemy import Connection, select

from headrace.stores.sql.repository import SqlRepository, add
from headrace.stores.sql.schema import installation


class SqlInstallation(SqlRepository):
    """What all processes on one database share besides the data."""

    async def fact(self, name: str, value: str) -> str:
        """The value of a fact; if there is none yet, it is this value from now on."""
        statement = select(installation.c.value).where(installation.c.name == name)
        if (row := await self._database.row(statement)) is not None:
            return str(row["value"])

        def work(connection: Connection) -> str:
            add(connection, installation, {"name": name, "value": value})
            return str(connection.execute(statement).scalar_one())

        return await self._write(work)

    async def change_fact(self, name: str, value: str) -> None:
        await self._put(installation, {"name": name, "value": value})
