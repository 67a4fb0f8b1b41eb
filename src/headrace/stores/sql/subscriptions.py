"""Subscriptions to services in a database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.engine import RowMapping

from headrace.ports import TriggerSubscription
from headrace.stores.encoding import clean, cleaned, decoded, values_of
from headrace.stores.sql.repository import SqlRepository, inserting
from headrace.stores.sql.schema import trigger_subscriptions as table

_ENCODED = ("parameters", "properties")


class SqlSubscriptions(SqlRepository):
    """Implements SubscriptionStore."""

    async def add_subscription(self, subscription: TriggerSubscription) -> bool:
        values = cleaned(values_of(subscription, *_ENCODED))

        def work(connection: Connection) -> bool:
            insert = inserting(connection, table).on_conflict_do_nothing().returning(table.c.id)
            return connection.execute(insert, values).first() is not None

        return await self._write(work)

    async def find_subscription(self, subscription: str) -> TriggerSubscription | None:
        row = await self._database.row(select(table).where(table.c.id == clean(subscription)))
        return _subscription(row) if row else None

    async def subscriptions(self, workspace: str | None = None) -> Sequence[TriggerSubscription]:
        statement = select(table)
        if workspace is not None:
            statement = statement.where(table.c.workspace == clean(workspace))
        matches = [_subscription(row) for row in await self._database.rows(statement)]
        return sorted(matches, key=lambda subscription: (subscription.workspace, subscription.name))

    async def due_subscriptions(self, now: float, limit: int) -> Sequence[TriggerSubscription]:
        due = select(table).where(table.c.refresh_at <= now, table.c.claimed_until <= now)
        rows = await self._database.rows(due.order_by(table.c.refresh_at, table.c.id).limit(limit))
        return [_subscription(row) for row in rows]

    async def claim_subscription(
        self, subscription: str, claim: str, now: float, until: float
    ) -> TriggerSubscription | None:
        free = or_(table.c.claimed_until <= now, table.c.claimed_until > until + (until - now))
        statement = (
            update(table)
            .where(table.c.id == clean(subscription), free)
            .values(claim=claim, claimed_until=until)
            .returning(table)
        )

        def work(connection: Connection) -> TriggerSubscription | None:
            row = connection.execute(statement).mappings().one_or_none()
            return _subscription(row) if row else None

        return await self._write(work)

    async def save_subscription(self, subscription: TriggerSubscription, claim: str) -> bool:
        is_claimed = (table.c.id == subscription.id, table.c.claim == claim)
        values = cleaned(values_of(subscription, *_ENCODED))
        return await self._execute(update(table).where(*is_claimed).values(values)) == 1

    async def remove_subscription(self, subscription: str, claim: str) -> bool:
        return await self._execute(delete(table).where(table.c.id == subscription, table.c.claim == claim)) == 1


def _subscription(row: RowMapping) -> TriggerSubscription:
    return TriggerSubscription(**decoded(row, *_ENCODED))
