"""Forms in memory, as the journal's events make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from headrace.kernel.events import FormExpired, FormRequested, FormSubmitted, Record, RunId
from headrace.kernel.forms import EXPIRED
from headrace.ports import Form, FormToken
from headrace.stores.form_projection import Settlement, form_of, settlement_of, tokens_of


class MemoryForms:
    """Implements Forms."""

    def __init__(self) -> None:
        self._forms: dict[str, Form] = {}
        self._tokens: dict[str, FormToken] = {}
        self._of_runs: dict[RunId, list[str]] = {}  # ids, oldest first
        self._waiting: dict[str, None] = {}

    # ------------------------------------------------------------------------------------------- from the journal

    def apply(self, record: Record, app: str) -> None:
        match record.event:
            case FormRequested() as event:
                form = form_of(record, event, app)
                self._forms[form.id], self._waiting[form.id] = form, None
                self._of_runs.setdefault(form.run, []).append(form.id)
                self._tokens |= {token.token: token for token in tokens_of(record, event)}
            case FormSubmitted() | FormExpired() as event:
                self._settle(settlement_of(record, event))
            case _:
                pass

    def end(self, record: Record) -> None:
        """The run has ended: its forms do not wait any longer."""
        for form in self._of_runs.get(record.run, ()):
            self._settle(Settlement(form, EXPIRED, None, record.at))

    def _settle(self, settlement: Settlement) -> None:
        form, status, action, at = settlement
        if form in self._waiting:
            del self._waiting[form]
            self._forms[form] = replace(self._forms[form], status=status, action=action, settled_at=at)

    def forget(self, run: RunId) -> None:
        forms = self._of_runs.pop(run, ())
        for form in forms:
            del self._forms[form]
            self._waiting.pop(form, None)
        if forms:
            self._tokens = {name: token for name, token in self._tokens.items() if token.run != run}

    # --------------------------------------------------------------------------------------------------- the port

    async def find_form(self, form: str) -> Form | None:
        return self._forms.get(form)

    async def form_of(self, token: str) -> tuple[Form, FormToken] | None:
        entry = self._tokens.get(token)
        return (self._forms[entry.form], entry) if entry else None

    async def forms_of(self, run: RunId) -> list[Form]:
        return [self._forms[form] for form in self._of_runs.get(run, ())]

    async def waiting_forms(
        self, apps: Sequence[str], after: tuple[int, str] | None = None, limit: int = 20
    ) -> list[Form]:
        waiting = sorted((form for form in map(self._forms.__getitem__, self._waiting) if form.app in apps), key=_place)
        return [form for form in waiting if after is None or _place(form) > after][: max(0, limit)]

    async def due_forms(self, now: float, created_before: float | None = None, limit: int = 100) -> list[Form]:
        oldest = -inf if created_before is None else created_before
        waiting = map(self._forms.__getitem__, self._waiting)
        due = sorted((form for form in waiting if form.expires_at <= now or form.created_at <= oldest), key=_place)
        return due[: max(0, limit)]


def _place(form: Form) -> tuple[int, str]:
    return form.expires_at, form.id
