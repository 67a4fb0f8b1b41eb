"""The e-mails that ask people to fill in a form.

They are delivered like callbacks, and are in the same table: a message is added in the transaction that records the
form, one process at a time sends it, and a failure is tried again. Of one that was sent when a process died, the next
one sends the same message again, with the same Message-ID: SMTP has no other way to say that it is the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import formatdate
from typing import cast

from headrace.content.markdown import to_html, to_subject
from headrace.kernel.events import FormRequested
from headrace.kernel.forms import EMAIL, FormOutcome
from headrace.ports import MAILTO, Callback
from headrace.ports.mail import Mailer, MailError
from headrace.runs.reader import RunView
from headrace.values import Value

_ADDRESS = re.compile(r"[^\s@<>()\[\],;:\"\\]+@[^\s@<>()\[\],;:\"\\]+")
_LINK = re.compile(r"(?<!\]\()(?<!<)\{\{#url#\}\}")  # not within a Markdown link
_URL = "{{#url#}}"
_NO_MEMBER = "the address of member {} is not known: set HEADRACE_MEMBERS={}=ADDRESS"
_NO_WORKSPACE = "a whole workspace of Dify cannot be written to: name its members in the file"


class FormMails:
    """Sends the e-mails of forms from one address. `public_url` is where their links lead; `members` are the addresses
    of members that a file names by their id in Dify."""

    def __init__(self, mailer: Mailer, sender: str, public_url: str, members: Mapping[str, str] | None = None) -> None:
        self._mailer = mailer
        self._members = members or {}
        self._sender = sender
        self._public_url = public_url

    async def send(self, callback: Callback, view: RunView) -> None:
        """MailError if it was not sent."""
        form, to = _form_of(callback, view), callback.url.removeprefix(MAILTO)
        delivery, token = _delivery_of(form, to)
        address = to if "@" in to else self._members.get(to)
        if address is None:
            raise MailError(_NO_MEMBER.format(to, to) if to else _NO_WORKSPACE, final=True)
        url = f"{self._public_url.rstrip('/')}/form/{token}"
        await self._mailer.send(form_mail(callback, delivery, form.title, self._sender, address, url))


def _form_of(callback: Callback, view: RunView) -> FormRequested:
    """The form of an e-mail. MailError if nobody waits for an answer any longer."""
    form: FormRequested | None = None
    for record in view.records:
        event = record.event
        if record.seq == callback.seq and isinstance(event, FormRequested):
            form = event
        elif form is not None and isinstance(event, FormOutcome) and event.form == form.form:
            raise MailError("the form is settled", final=True)
    if form is None or view.summary.ended is not None:
        raise MailError("the run has ended", final=True)
    return form


def form_mail(
    callback: Callback, delivery: Mapping[str, Value], title: str, sender: str, address: str, url: str
) -> EmailMessage:
    """The message for one recipient; `url` is the link, which is for nobody else. MailError if it cannot be made."""
    if not _ADDRESS.fullmatch(address):
        raise MailError(f"{address!r} is not an e-mail address", final=True)
    body = str(delivery.get("body") or _URL)
    if _URL not in body:
        body += f"\n\n{_URL}"
    message = EmailMessage()
    message["From"] = sender
    message["To"] = address
    message["Subject"] = to_subject(str(delivery.get("subject") or "")) or to_subject(title) or "Form"
    message["Date"] = formatdate(callback.created_at)
    message["Message-ID"] = f"<{callback.id}@{sender.rpartition('@')[2].rstrip('>') or 'headrace'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body.replace(_URL, url))
    message.add_alternative(to_html(_LINK.sub(f"<{url}>", body).replace(_URL, url)), subtype="html")
    return message


def _delivery_of(form: FormRequested, to: str) -> tuple[Mapping[str, Value], str]:
    """The delivery to a recipient, and the recipient's token."""
    for delivery in form.deliveries:
        if delivery["type"] == EMAIL:
            for recipient in cast("Sequence[Mapping[str, Value]]", delivery["recipients"]):
                if recipient["to"] == to:
                    return delivery, str(recipient["token"])
    raise MailError(f"the form is not delivered to {to!r}", final=True)
