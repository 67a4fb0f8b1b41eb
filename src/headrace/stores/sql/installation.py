"""Facts of the installation as a whole."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, select

from headrace.stores.sql.repository import SqlRepository, add, put
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

    async def first_facts(self, values: Mapping[str, str]) -> Mapping[str, str]:
        """Stores facts, all or none: none if the first of them has another value. Returns those that are stored."""
        names = list(values)
        statement = select(installation.c.name, installation.c.value)

        def stored(connection: Connection, of: list[str]) -> dict[str, str]:
            rows = connection.execute(statement.where(installation.c.name.in_(of)))
            return {str(name): str(value) for name, value in rows}

        def work(connection: Connection) -> dict[str, str]:
            first = names[:1]
            add(connection, installation, {"name": first[0], "value": values[first[0]]})
            if stored(connection, first)[first[0]] == values[first[0]]:
                for name in names[1:]:
                    add(connection, installation, {"name": name, "value": values[name]})
            return stored(connection, names)

        return await self._write(work)

    async def change_facts(self, values: Mapping[str, str | None]) -> None:
        """Replaces facts, all at once; None deletes one."""

        def work(connection: Connection) -> None:
            for name, value in values.items():
                if value is None:
                    connection.execute(delete(installation).where(installation.c.name == name))
                else:
                    put(connection, installation, {"name": name, "value": value})

        await self._write(work)
