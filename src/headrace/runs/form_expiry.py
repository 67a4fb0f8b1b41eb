"""Lets forms expire that nobody has answered in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headrace.background import Periodic
from headrace.kernel.events import FormRequested, Record
from headrace.kernel.forms import expires_at
from headrace.ports import Timer, TimerKind
from headrace.runs.forms import expire_form, expire_forms, form_due_at
from headrace.runs.service import RunService

EXPIRE_SECONDS = 5.0  # between looks for forms whose time is over


class FormExpiry:
    """`run` continues until it is cancelled."""

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service
        self._looking = Periodic("forms", self._look, run_service.timers.look_seconds(EXPIRE_SECONDS))

    async def run(self) -> None:
        async with self._run_service.timers.serving(TimerKind.FORM, self):
            await self._looking.run()

    def wake(self) -> None:
        self._looking.wake()

    async def handle(self, row: str) -> None:
        self.wake()  # others that are due need not wait for an engine that brings many timers one after the other
        await expire_form(self._run_service, row)

    async def _look(self) -> None:
        await expire_forms(self._run_service)


class FormObserver:
    """Sets the timers of the forms that this process requests. `on_form` is called for each: it may be sent by e-mail.

    Only for timers of an engine: the looks at the database are often enough for those of one process."""

    def __init__(self, run_service: RunService, on_form: Callable[[], None]) -> None:
        self._run_service = run_service
        self._on_form = on_form

    def on_records(self, records: Sequence[Record]) -> None:
        for record in records:
            if isinstance(form := record.event, FormRequested):
                due_at = form_due_at(self._run_service, record.at, expires_at(form, record.at))
                self._run_service.timers.set(Timer(TimerKind.FORM, form.form, due_at, run=record.run))
                self._on_form()
