"""Forms that people are asked to fill in, as lists and those who open one by its token see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.frozen import frozen
from headrace.kernel.events import RunId
from headrace.kernel.graph import Path


@frozen
class Form:
    """A form of a run; times in seconds since the epoch.

    A projection of the journal: it is created by a FormRequested, the run's event number `seq`, which has its content.
    `status` is waiting, submitted, timeout or expired (see `kernel.forms`); forms that wait when their run ends have
    expired. `token` is the one for clients of the API, if there is one; `action` is the chosen one; `settled_at` is
    when it stopped waiting."""

    id: str
    run: RunId
    app: str
    node: Path
    title: str
    seq: int
    token: str | None
    created_at: float
    expires_at: int
    status: str = "waiting"
    action: str | None = None
    settled_at: float | None = None


@frozen
class FormToken:
    """A secret that opens a form. `channel` is webapp or email; `recipient` is the address that it is sent to, or the
    id of a member."""

    token: str
    form: str
    run: RunId
    channel: str
    recipient: str = ""


class Forms(Protocol):
    """Forms by their id, token, run and app. They are written in the transaction that appends the event; of several
    answers the journal accepts one, since it has the number of the run's next event."""

    async def find_form(self, form: str) -> Form | None: ...

    async def form_of(self, token: str) -> tuple[Form, FormToken] | None:
        """The form that a token opens, in any status; None for an unknown token."""
        ...

    async def forms_of(self, run: RunId) -> list[Form]:
        """Oldest first."""
        ...

    async def waiting_forms(
        self, apps: Sequence[str], after: tuple[int, str] | None = None, limit: int = 20
    ) -> list[Form]:
        """Those of these apps that wait, the first due first, after one with this (expires_at, id)."""
        ...

    async def due_forms(self, now: float, created_before: float | None = None, limit: int = 100) -> list[Form]:
        """Those that wait though their time is over, or that were created at or before a time, the first due first."""
        ...
