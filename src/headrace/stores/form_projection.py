"""What a run's events do to its forms. Every store uses these functions, so that all derive the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast
from uuid import uuid5

from headrace.kernel.events import FormRequested, FormSubmitted, Record
from headrace.kernel.forms import EMAIL, SUBMITTED, WEBAPP, FormOutcome, expires_at, token_of
from headrace.ports import MAILTO, Callback, Form, FormToken
from headrace.stores.encoding import clean
from headrace.stores.projection import namespace
from headrace.values import Value


class Settlement(NamedTuple):
    """How a form stopped waiting."""

    form: str
    status: str
    action: str | None
    at: float


def form_of(record: Record, event: FormRequested, app: str) -> Form:
    token = token_of(event)
    return Form(
        id=clean(event.form),
        run=clean(record.run),
        app=clean(app),
        node=clean(event.path),
        title=clean(event.title),
        seq=record.seq or 0,
        token=None if token is None else clean(token),
        created_at=record.at,
        expires_at=expires_at(event, record.at),
    )


def tokens_of(record: Record, event: FormRequested) -> Iterator[FormToken]:
    """The tokens that open a form."""
    for delivery in event.deliveries:
        channel = str(delivery["type"])
        of_recipients = [delivery] if channel == WEBAPP else _recipients(delivery)
        for recipient in of_recipients:
            address = "" if channel == WEBAPP else str(recipient["to"])
            token = clean(str(recipient["token"]))
            yield FormToken(token, clean(event.form), clean(record.run), clean(channel), clean(address))


def _recipients(delivery: Mapping[str, Value]) -> Sequence[Mapping[str, Value]]:
    return cast("Sequence[Mapping[str, Value]]", delivery["recipients"])


def mails_of(record: Record, event: FormRequested, app: str) -> Iterator[Callback]:
    """The e-mails that a form makes due. Their ids follow from the run, the record's number and the place of the
    recipient alone, so the same record never makes two."""
    recipients = [token.recipient for token in tokens_of(record, event) if token.channel == EMAIL]
    for number, address in enumerate(recipients):
        yield Callback(
            id=str(uuid5(namespace(record.run), f"{record.seq} {number}")),
            app=app,
            run=record.run,
            url=MAILTO + address,
            event="form.requested",
            seq=record.seq or 0,
            created_at=record.at,
            next_at=record.at,
        )


def settlement_of(record: Record, event: FormOutcome) -> Settlement:
    if isinstance(event, FormSubmitted):
        return Settlement(clean(event.form), SUBMITTED, clean(event.action), record.at)
    return Settlement(clean(event.form), clean(event.status), None, record.at)
