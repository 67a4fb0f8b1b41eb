"""The states of triggers in a database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, case, select

from headrace.ports import TriggerState
from headrace.stores.encoding import clean, cleaned
from headrace.stores.sql.repository import SqlRepository, inserting
from headrace.stores.sql.schema import triggers

_READ = 500  # states in one statement


class SqlTriggers(SqlRepository):
    """Implements Triggers."""

    async def trigger_states(self, ids: Collection[str]) -> Mapping[str, TriggerState]:
        names = [clean(trigger) for trigger in ids]

        def work(connection: Connection) -> dict[str, TriggerState]:
            states: dict[str, TriggerState] = {}
            for start in range(0, len(names), _READ):
                statement = select(triggers).where(triggers.c.id.in_(names[start : start + _READ]))
                states |= {row["id"]: TriggerState(**row) for row in connection.execute(statement).mappings()}
            return states

        return await self._database.run(work)

    async def scheduled_triggers(self) -> Sequence[TriggerState]:
        def work(connection: Connection) -> list[TriggerState]:
            rows = connection.execute(select(triggers).where(triggers.c.schedule != "")).mappings()
            return [TriggerState(**row) for row in rows]

        return await self._database.run(work)

    async def pause_trigger(self, trigger: str, app: str, *, paused: bool, at: float) -> None:
        row = {"id": trigger, "app": app, "paused": paused, "schedule": "", "handled": 0.0 if paused else at}
        await self._merge(row, "paused")

    async def advance_trigger(self, trigger: str, app: str, schedule: str, handled: float) -> None:
        row = {"id": trigger, "app": app, "paused": False, "schedule": schedule, "handled": handled}
        await self._merge(row, "schedule")

    async def _merge(self, row: Mapping[str, Any], column: str) -> None:
        """Adds a row, or sets one column of the row that there is, and `handled` if that is later or the schedule
        changes."""

        def work(connection: Connection) -> None:
            insert = inserting(connection, triggers)
            new, old = insert.excluded, triggers.c
            keeps = old.handled > new.handled
            if column == "schedule":
                keeps &= old.schedule == new.schedule
            handled = case((keeps, old.handled), else_=new.handled)
            values = {column: new[column], "handled": handled}
            connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=values), cleaned(row))

        await self._write(work)
