"""What runs do to conversations, written in the journal's own transactions (`JournalWork`).

A row of `exchanges` is a message with its answer (`Message`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, update

from headrace.frozen import frozen
from headrace.kernel.events import Record, RunId, RunQueued
from headrace.ports import Message
from headrace.stores.encoding import clean, cleaned, encode_value, values_of
from headrace.stores.projection import Assignment, exchange_after, exchange_of
from headrace.stores.sql.bulk_insert import BulkInsert
from headrace.stores.sql.schema import conversation_variables, conversations, exchanges
from headrace.stores.sql.transaction import Transaction

_COLUMNS = tuple(column.name for column in exchanges.columns)
# bound under names that no column has: in an UPDATE, SQLAlchemy keeps those for itself
_CHANGE = update(exchanges).where(exchanges.c.id == bindparam("run"))
_MOVE = update(conversations).where(
    conversations.c.id == bindparam("conversation_id"), conversations.c.updated_at < bindparam("before")
)
_ASSIGN = update(conversation_variables).where(
    conversation_variables.c.conversation == bindparam("conversation_id"),
    conversation_variables.c.name == bindparam("variable"),
)


@frozen
class Assigned:
    """An assignment, its value encoded."""

    name: str
    value: bytes
    at: float

    @classmethod
    def of(cls, assignment: Assignment) -> Assigned:
        return cls(clean(assignment.name), encode_value(assignment.value), assignment.at)


class ExchangeWork:
    """Collects what the appends of a transaction change, and writes it in few statements. Used by the writer's thread
    alone."""

    def __init__(self) -> None:
        self.pending = False  # there is something to write
        self._insert = BulkInsert("exchanges", _COLUMNS, "ON CONFLICT (id) DO NOTHING")
        self._new: dict[RunId, Message] = {}
        self._changed: dict[RunId, Message] = {}
        self._last_moves: dict[str, float] = {}  # by conversation
        self._assigned: dict[tuple[str, str], Assigned] = {}  # by conversation and name

    def clear(self) -> None:
        self.pending = False
        for collection in (self._new, self._changed, self._last_moves, self._assigned):
            collection.clear()

    def begin(self, record: Record, request: RunQueued) -> Message | None:
        """A run is queued. Returns its message, as far as it is needed until the run ends."""
        exchange = exchange_of(record, request)
        if exchange is None:
            return None
        self._new[record.run], self.pending = exchange, True
        return without_query(exchange)

    def change(self, exchange: Message, record: Record, status: str) -> None:
        """The status of a message's run has become this one."""
        run, self.pending = exchange.id, True
        if run in self._new:
            self._new[run] = exchange_after(self._new[run], record.event, status)
        else:
            self._changed[run] = exchange_after(exchange, record.event, status)

    def move(self, conversation: str, at: float) -> None:
        """Something has happened in a conversation."""
        self._last_moves[conversation], self.pending = max(at, self._last_moves.get(conversation, at)), True

    def assign(self, conversation: str, assignments: Sequence[Assigned]) -> None:
        self.pending = True
        for assignment in assignments:
            self._assigned[conversation, assignment.name] = assignment

    def write(self, transaction: Transaction) -> None:
        """Numbers and rows of conversations are taken in the order of their ids, so that two processes that want the
        same ones cannot deadlock."""
        if self._new:
            new = sorted(self._new.values(), key=lambda exchange: (exchange.conversation or "", exchange.number))
            transaction.insert(self._insert, [_values(exchange) for exchange in new])
        if self._changed:
            transaction.connection.execute(_CHANGE, [_changes(exchange) for exchange in self._changed.values()])
        if self._last_moves:
            moves = sorted((clean(conversation), at) for conversation, at in self._last_moves.items())
            rows = [{"conversation_id": name, "before": at, "updated_at": at} for name, at in moves]
            transaction.connection.execute(_MOVE, rows)
        if self._assigned:
            rows = [
                {
                    "conversation_id": clean(conversation),
                    "variable": name,
                    "value": assignment.value,
                    "updated_at": assignment.at,
                }
                for (conversation, name), assignment in sorted(self._assigned.items(), key=lambda item: item[0])
            ]
            transaction.connection.execute(_ASSIGN, rows)
        self.clear()


def without_query(exchange: Message) -> Message:
    """A message without what the user said, which is written once and never changes."""
    return replace(exchange, inputs={}, query="", files=())


def _values(exchange: Message) -> tuple[Any, ...]:
    row = cleaned(values_of(exchange, "inputs", "files", "answer_files"))
    return tuple([row[name] for name in _COLUMNS])


def _changes(exchange: Message) -> dict[str, Any]:
    return {
        "run": clean(exchange.id),
        "status": clean(exchange.status),
        "answer": exchange.answer,
        "answer_files": encode_value(exchange.answer_files),
        "error": exchange.error,
    }
