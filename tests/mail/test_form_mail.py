"""The e-mails of forms: what they say, and that each recipient gets one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from email.message import EmailMessage
from pathlib import Path

import pytest

from headrace.adapters.mail import SmtpMailer
from headrace.background import background
from headrace.kernel.events import (
    Event,
    FormRequested,
    FormSubmitted,
    NodeStarted,
    Record,
    RunPaused,
    RunQueued,
    RunResumed,
    RunStarted,
)
from headrace.ports import Callback, Storage
from headrace.ports.mail import MailError
from headrace.stores.sql import SqlStorage
from headrace.values import Value
from headrace.webhooks import WebhookSender
from headrace.webhooks.form_mail import FormMails, form_mail
from tests.api.serving import NoHttp
from tests.mail.smtp import MailServer, mail_server
from tests.native.receivers import WatchedCallbacks, delivering, watched_storage
from tests.runs.service import ECHO, SECRET, publish, run_service

RUN = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"
URL = "https://flows.example.com/base"
LINK = f"{URL}/form/token"
FROM = "Approvals <approvals@example.com>"
BODY = "# Hello\n\nOpen [the form]({{#url#}}), or {{#url#}} <script>alert(1)</script>"


def form(*addresses: str, subject: str = "Review\r\nBcc: x@example.com", body: str = BODY) -> FormRequested:
    recipients: list[Value] = [{"type": "external", "to": to, "token": f"token-of-{to}"} for to in addresses]
    deliveries = [
        {"type": "webapp", "token": "token-of-web"},
        {"type": "email", "subject": subject, "body": body, "recipients": recipients},
    ]
    actions = [{"id": "ok", "title": "OK", "button_style": "primary"}]
    return FormRequested("ask", "form-1", "Ask", "Right?", [], actions, {}, 3600, deliveries)


def callback(address: str) -> Callback:
    return Callback("cb-1", "app", RUN, f"mailto:{address}", "form.requested", 4, 1705407629.0)


def message(event: FormRequested, address: str = "ann@example.com") -> EmailMessage:
    callback = Callback("cb-1", "app", RUN, f"mailto:{address}", "form.requested", 4, 1705407629.0)
    return form_mail(callback, event.deliveries[1], event.title, FROM, address, LINK)


def test_the_message() -> None:
    sent = message(form("ann@example.com"))
    assert (sent["From"], sent["To"]) == (FROM, "ann@example.com")
    assert sent["Subject"] == "Review Bcc: x@example.com"
    assert sent["Bcc"] is None
    assert sent["Message-ID"] == "<cb-1@example.com>"
    assert sent["Date"] == "Tue, 16 Jan 2024 12:20:29 -0000"
    text, html = (part.get_content() for part in sent.iter_parts())
    assert text.startswith(f"# Hello\n\nOpen [the form]({LINK}), or {LINK} <script>")
    assert html.count(f'<a href="{LINK}" ') == 2
    assert "<script>" not in html


def test_a_body_without_the_link_gets_one() -> None:
    sent = message(form("ann@example.com", subject=" ", body="Hi"))
    assert sent["Subject"] == "Ask"
    assert all(LINK in part.get_content() for part in sent.iter_parts())


@pytest.mark.parametrize("address", ["@", "ann@", "ann@x\r\nBcc: bob@x", "a@x, b@x", "<a@x>", "a b@x", 'a"@x'])
def test_addresses_that_are_not_valid(address: str) -> None:
    with pytest.raises(MailError, match="not an e-mail address") as raised:
        message(form(address), address)
    assert raised.value.final


async def write(store: Storage, *events: Event) -> None:
    """A paused run with a form."""
    where = run_service(store)
    release = await publish(where, ECHO)
    queued = RunQueued(release.app.id, release.version.id, "task", "somebody", {"q": "hi"}, {})
    records = [Record(RUN, seq, 1000.0 + seq, event) for seq, event in enumerate((queued, RunStarted(), *events), 1)]
    await store.journal.append(records)


def mails(server: MailServer) -> FormMails:
    return FormMails(SmtpMailer(f"smtp://127.0.0.1:{server.port}"), FROM, f"{URL}/", {"member-1": "cem@example.com"})


async def test_each_recipient_gets_a_message_with_a_token_of_its_own() -> None:
    async with mail_server() as server, delivering(watched_storage(), mails=mails(server)) as at:
        await write(at.store, NodeStarted("ask"), form("ann@example.com", "bob@example.com"), RunPaused())
        at.webhook_sender.wake()
        messages = await server.received(2)
        for _ in messages:
            assert (await at.callbacks.next("delivered")).last_error is None
        tokens = {message["To"]: message.get_body(("plain",)) for message in messages}
        assert set(tokens) == {"ann@example.com", "bob@example.com"}
        for address, body in tokens.items():
            assert body is not None
            assert f"/form/token-of-{address}" in body.get_content()
            form_and_recipient = await at.store.forms.form_of(f"token-of-{address}")
            assert form_and_recipient is not None
            assert form_and_recipient[1].recipient == address


async def test_a_failure_is_tried_again_and_can_be_seen() -> None:
    async with (
        mail_server("451 later", "554 never") as server,
        delivering(watched_storage(), mails=mails(server)) as at,
    ):
        await write(at.store, NodeStarted("ask"), form("ann@example.com"), RunPaused())
        at.webhook_sender.wake()
        waiting = await at.callbacks.next()
        assert (waiting.status, waiting.attempts) == ("pending", 1)
        failed = await at.callbacks.next("failed")
        assert (failed.attempts, failed.last_error) == (2, "the mail server answered 554 never")
        assert [mail.id for mail in await at.store.callbacks.callbacks_of(RUN)] == [failed.id]
        await at.webhook_sender.resend(failed)
        await at.callbacks.next("delivered")
    assert len(server.messages) == 1


async def test_one_recipient_who_is_refused_keeps_nothing_from_the_others() -> None:
    async with mail_server() as server, delivering(watched_storage(), mails=mails(server)) as at:
        await write(at.store, NodeStarted("ask"), form("nobody@example.com", "ann@example.com"), RunPaused())
        at.webhook_sender.wake()
        settled = {saved.url: saved async for saved in _settled(at.callbacks, 2)}
    assert [message["To"] for message in server.messages] == ["ann@example.com"]
    refused = settled["mailto:nobody@example.com"]
    assert (refused.status, refused.attempts) == ("failed", 1)
    assert refused.last_error == "the mail server answered 550 5.1.1 no such user"
    assert settled["mailto:ann@example.com"].status == "delivered"


async def test_nobody_is_asked_for_what_has_been_answered() -> None:
    answered = (RunResumed(), FormSubmitted("ask", "form-1", "ok", {}))
    async with mail_server() as server, delivering(watched_storage(), mails=mails(server)) as at:
        await write(at.store, NodeStarted("ask"), form("ann@example.com"), RunPaused(), *answered)
        at.webhook_sender.wake()
        assert (await at.callbacks.next("failed")).last_error == "the form is settled"
    assert server.messages == []


async def test_members_are_found_by_their_id() -> None:
    async with mail_server() as server, delivering(watched_storage(), mails=mails(server)) as at:
        await write(at.store, NodeStarted("ask"), form("member-1", "member-2", ""), RunPaused())
        at.webhook_sender.wake()
        settled = {saved.url: saved async for saved in _settled(at.callbacks, 3)}
    assert [message["To"] for message in server.messages] == ["cem@example.com"]
    assert settled["mailto:member-1"].status == "delivered"
    assert "HEADRACE_MEMBERS=member-2=" in (settled["mailto:member-2"].last_error or "")
    assert "whole workspace" in (settled["mailto:"].last_error or "")


async def _settled(callbacks: WatchedCallbacks, count: int) -> AsyncIterator[Callback]:
    for _ in range(count):
        yield await callbacks.next()


async def test_without_a_mail_server_the_failure_says_what_to_set() -> None:
    async with delivering(watched_storage()) as at:
        await write(at.store, NodeStarted("ask"), form("ann@example.com"), RunPaused())
        at.webhook_sender.wake()
        assert "HEADRACE_SMTP_URL" in ((await at.callbacks.next("failed")).last_error or "")


async def test_two_processes_send_one_message(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'h.db'}"
    stores = [await SqlStorage.open(url), await SqlStorage.open(url)]
    saved: asyncio.Queue[Callback] = asyncio.Queue()
    async with mail_server() as server, AsyncExitStack() as stack:
        for store in stores:
            stack.push_async_callback(store.aclose)
        await write(stores[0], NodeStarted("ask"), form("ann@example.com", "bob@example.com"), RunPaused())
        for store in stores:
            where = run_service(store)
            sender = WebhookSender(
                where, store.callbacks, store.claims, NoHttp(), SECRET, watch=saved.put_nowait, mails=mails(server)
            )
            await stack.enter_async_context(background("mails", sender.run()))
        async with asyncio.timeout(60):
            assert [(await saved.get()).status for _ in range(2)] == ["delivered"] * 2
        statuses = [mail.status for store in stores for mail in await store.callbacks.callbacks_of(RUN)]
        assert statuses == ["delivered"] * 4
    assert saved.empty()
    assert sorted(message["To"] for message in server.messages) == ["ann@example.com", "bob@example.com"]
