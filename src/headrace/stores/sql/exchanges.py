"""What runs do to conversations, written in the journal's own transactions (`JournalWork`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, update

from headrace.kernel.events import Record, RunId, RunQueued
from headrace.ports import Message
from headrace.stores.encoding import clean, encode_value
from headrace.stores.projection import Assignment, exchange_after, exchange_of
from headrace.stores.sql.schema import conversation_variables, conversations, exchanges
from headrace.stores.sql.statements import Statements

_COLUMNS = tuple(column.name for column in exchanges.columns)
# bound under names that no column has: in an UPDATE, SQLAlchemy keeps those for itself
_CHANGE = update(exchanges).where(exchanges.c.id == bindparam("run"))
_MOVE = update(conversations).where(
    conversations.c.id == bindparam("conversation_id"), conversations.c.updated_at < bindparam("before")
)
_ASSIGN = update(conversation_variables).where(
    conversation_variables.c.conversation == bindparam("of"), conversation_variables.c.name == bindparam("named")
)


@dataclass(frozen=True, slots=True)
class Assigned:
    """An assignment, its value encoded."""

    name: str
    value: bytes
    at: float

    @classmethod
    def of(cls, assignment: Assignment) -> Assigned:
        return cls(clean(assignment.name), encode_value(assignment.value), assignment.at)


class ExchangeWork:
    """Gathers what the appends of a transaction change, and writes it in few statements. Without any of it there is
    none. Used by the writer's thread alone."""

    def __init__(self) -> None:
        self._insert = Statements("exchanges", _COLUMNS, "ON CONFLICT (id) DO NOTHING")
        self._new: dict[RunId, Message] = {}
        self._changed: dict[RunId, Message] = {}
        self._moved: dict[str, float] = {}  # by conversation
        self._assigned: dict[tuple[str, str], Assigned] = {}  # by conversation and name

    def clear(self) -> None:
        """Forgets what a transaction that failed has left."""
        self._new.clear()
        self._changed.clear()
        self._moved.clear()
        self._assigned.clear()

    def begin(self, record: Record, queued: RunQueued) -> Message | None:
        """A run was asked for. Returns its exchange, as far as it has to be known until the run ends."""
        exchange = exchange_of(record, queued)
        if exchange is None:
            return None
        self._new[record.run] = exchange
        return light(exchange)

    def change(self, exchange: Message, record: Record, status: str) -> None:
        """The status of an exchange's run has become this one."""
        run = exchange.id
        if run in self._new:
            self._new[run] = exchange_after(self._new[run], record.event, status)
        else:
            self._changed[run] = exchange_after(exchange, record.event, status)

    def move(self, conversation: str, at: float) -> None:
        self._moved[conversation] = max(at, self._moved.get(conversation, at))

    def assign(self, conversation: str, assigned: Sequence[Assigned]) -> None:
        for each in assigned:
            self._assigned[conversation, each.name] = each

    def write(self, connection: Connection) -> None:
        """Writes what there is. Numbers and rows of conversations are taken in the order of their ids: two processes
        that want the same ones are never in each other's way for good."""
        if self._new:
            self._insert.execute(connection, [_values(exchange) for exchange in sorted(self._new.values(), key=_place)])
        if self._changed:
            connection.execute(_CHANGE, [_changed(exchange) for exchange in self._changed.values()])
        if self._moved:
            moved = sorted((clean(conversation), at) for conversation, at in self._moved.items())
            rows = [{"conversation_id": name, "before": at, "updated_at": at} for name, at in moved]
            connection.execute(_MOVE, rows)
        if self._assigned:
            connection.execute(_ASSIGN, [_assigned(*each) for each in sorted(self._assigned.items(), key=_key)])
        self.clear()


def light(exchange: Message) -> Message:
    """Without what was said: that is written once, and never changes."""
    return replace(exchange, inputs={}, query="", files=())


def _values(exchange: Message) -> tuple[Any, ...]:
    row = {name: getattr(exchange, name) for name in _COLUMNS}
    row["inputs"] = encode_value(dict(exchange.inputs))
    row["files"] = encode_value(list(exchange.files))
    row["answer_files"] = encode_value(list(exchange.answer_files))
    return tuple([clean(value) if isinstance(value, str) else value for value in row.values()])


def _changed(exchange: Message) -> dict[str, Any]:
    return {
        "run": clean(exchange.id),
        "status": clean(exchange.status),
        "answer": exchange.answer,
        "answer_files": encode_value(list(exchange.answer_files)),
        "error": exchange.error,
    }


def _assigned(place: tuple[str, str], each: Assigned) -> dict[str, Any]:
    return {"of": clean(place[0]), "named": each.name, "value": each.value, "updated_at": each.at}


def _place(exchange: Message) -> tuple[str, int]:
    return exchange.conversation or "", exchange.number


def _key(item: tuple[tuple[str, str], Assigned]) -> tuple[str, str]:
    return item[0]
