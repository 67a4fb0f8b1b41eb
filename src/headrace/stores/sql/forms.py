"""Forms in a database. The journal's own transactions write them (`FormWork`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from sqlalchemy import Select, bindparam, or_, select, text, tuple_, update

from headrace.kernel.events import FormExpired, FormRequested, FormSubmitted, Record, RunId
from headrace.kernel.forms import EXPIRED, WAITING
from headrace.ports import Form, FormToken
from headrace.stores.encoding import clean
from headrace.stores.form_projection import form_of, settlement_of, tokens_of
from headrace.stores.sql.bulk_insert import BulkInsert
from headrace.stores.sql.repository import SqlRepository
from headrace.stores.sql.schema import WAITING as STILL_WAITING
from headrace.stores.sql.schema import form_tokens, forms
from headrace.stores.sql.transaction import Transaction

_WAITING = text(f"forms.{STILL_WAITING}")  # literally, so that the partial index is used
# bound under names that no column has: in an UPDATE, SQLAlchemy keeps those for itself
_SETTLE = update(forms).where(forms.c.status == WAITING).values(settled_at=bindparam("at"))
_SETTLE_FORM = _SETTLE.where(forms.c.id == bindparam("form")).values(
    status=bindparam("outcome"), action=bindparam("chosen")
)
_SETTLE_RUN = _SETTLE.where(forms.c.run == bindparam("ended")).values(status=EXPIRED)


class FormWork:
    """Collects what the appends of a transaction do to forms, and writes it in few statements. Used by the writer's
    thread alone."""

    def __init__(self) -> None:
        self._insert = BulkInsert("forms", tuple(column.name for column in forms.columns), "ON CONFLICT DO NOTHING")
        names = tuple(column.name for column in form_tokens.columns)
        self._insert_tokens = BulkInsert("form_tokens", names, "ON CONFLICT DO NOTHING")
        self.clear()

    def clear(self) -> None:
        self.pending = False  # there is something to write
        self._new: list[Form] = []
        self._tokens: list[FormToken] = []
        self._settled_rows: list[dict[str, Any]] = []
        self._ended_rows: list[dict[str, Any]] = []

    def apply(self, record: Record, app: str) -> None:
        self.pending = True
        match record.event:
            case FormRequested() as event:
                self._new.append(form_of(record, event, app))
                self._tokens += tokens_of(record, event)
            case FormSubmitted() | FormExpired() as event:
                form, status, action, at = settlement_of(record, event)
                self._settled_rows.append({"form": form, "outcome": status, "chosen": action, "at": at})
            case _:
                pass

    def end(self, record: Record) -> None:
        """The run has ended: its forms do not wait any longer."""
        self.pending = True
        self._ended_rows.append({"ended": clean(record.run), "at": record.at})

    def write(self, transaction: Transaction) -> None:
        transaction.insert(self._insert, [astuple(form) for form in self._new])
        transaction.insert(self._insert_tokens, [astuple(token) for token in self._tokens])
        if self._settled_rows:
            transaction.connection.execute(_SETTLE_FORM, self._settled_rows)
        if self._ended_rows:
            transaction.connection.execute(_SETTLE_RUN, self._ended_rows)
        self.clear()


class SqlForms(SqlRepository):
    """Implements Forms."""

    async def find_form(self, form: str) -> Form | None:
        return next(iter(await self._forms(select(forms).where(forms.c.id == clean(form)))), None)

    async def form_of(self, token: str) -> tuple[Form, FormToken] | None:
        row = await self._database.row(select(form_tokens).where(form_tokens.c.token == clean(token)))
        if row is None:
            return None
        form = await self.find_form(row["form"])
        return None if form is None else (form, FormToken(**row))

    async def forms_of(self, run: RunId) -> list[Form]:
        return await self._forms(select(forms).where(forms.c.run == clean(run)).order_by(forms.c.seq))

    async def waiting_forms(
        self, apps: Sequence[str], after: tuple[int, str] | None = None, limit: int = 20
    ) -> list[Form]:
        waiting = select(forms).where(_WAITING, forms.c.app.in_([clean(app) for app in apps]))
        if after is not None:
            waiting = waiting.where(tuple_(forms.c.expires_at, forms.c.id) > (after[0], clean(after[1])))
        return await self._first(waiting, limit)

    async def due_forms(self, now: float, created_before: float | None = None, limit: int = 100) -> list[Form]:
        due = forms.c.expires_at <= now
        if created_before is not None:
            due = or_(due, forms.c.created_at <= created_before)
        return await self._first(select(forms).where(_WAITING, due), limit)

    async def _first(self, statement: Select[Any], limit: int) -> list[Form]:
        return await self._forms(statement.order_by(forms.c.expires_at, forms.c.id).limit(max(0, limit)))

    async def _forms(self, statement: Select[Any]) -> list[Form]:
        return [Form(**row) for row in await self._database.rows(statement)]
