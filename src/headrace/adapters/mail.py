"""Sends e-mail through an SMTP server."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from threading import Thread
from urllib.parse import unquote, urlsplit

from headrace.errors import HeadraceError
from headrace.ports.mail import MailError

_PORTS = {"smtp": 587, "smtps": 465}
_SECONDS = 30.0  # for each answer of the server
_MESSAGE_SECONDS = 120.0  # for a message in all: an answer may arrive byte by byte
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHENTICATION = 535  # the password may be corrected while the message waits


class SmtpMailer:
    """Implements Mailer. `url`: smtps://USER:PASSWORD@HOST:PORT for TLS; smtp:// for STARTTLS where the server offers
    it. A password is only sent over TLS, or to this machine. `tls` is for tests.

    A message may arrive twice if the connection is lost between its end and the server's answer; its Message-ID is then
    the same."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise HeadraceError("HEADRACE_SMTP_URL is not a valid URL.") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise HeadraceError("HEADRACE_SMTP_URL must be smtp://HOST or smtps://HOST, with USER:PASSWORD@ if needed.")
        self._secure = parts.scheme == "smtps"
        self._host = parts.hostname
        self._port = port or _PORTS[parts.scheme]
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._tls = tls

    async def check(self) -> None:
        """Connects and signs in. MailError if that is not possible."""
        await asyncio.to_thread(self._send, None)

    async def send(self, message: EmailMessage) -> None:
        loop = asyncio.get_running_loop()
        delivery = loop.create_future()

        def work() -> None:
            error: BaseException | None = None
            try:
                self._send(message)
            except BaseException as failure:
                error = failure
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, delivery, error)

        # a process that ends does not wait for a daemon thread, as it would for one of the loop's
        Thread(target=work, name="headrace-mail", daemon=True).start()
        try:
            async with asyncio.timeout(_MESSAGE_SECONDS):
                await delivery
        except TimeoutError:
            raise MailError(f"{self._host}:{self._port}: no whole answer within {_MESSAGE_SECONDS:g} s") from None

    def _send(self, message: EmailMessage | None) -> None:
        try:
            with self._connect() as server:
                if self._user:
                    server.login(self._user, self._password)
                if message is not None:
                    server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code, reason = next(iter(error.recipients.values()))
            raise MailError(_answer(code, reason), final=code >= 500) from None
        except smtplib.SMTPResponseException as error:
            final = error.smtp_code >= 500 and error.smtp_code != _AUTHENTICATION
            raise MailError(_answer(error.smtp_code, error.smtp_error), final=final) from None
        except smtplib.SMTPNotSupportedError as error:
            raise MailError(str(error), final=True) from None
        except (OSError, smtplib.SMTPException) as error:
            reason = str(error) or type(error).__name__
            raise MailError(f"{self._host}:{self._port}: {reason}") from None

    def _connect(self) -> smtplib.SMTP:
        context = self._tls or ssl.create_default_context()
        if self._secure:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=_SECONDS, context=context)
        server = smtplib.SMTP(self._host, self._port, timeout=_SECONDS)
        try:
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=context)
            elif self._user and self._host not in _LOOPBACK:
                raise MailError("The server does not offer TLS, so the password is not sent.", final=True)
        except BaseException:
            server.close()
            raise
        return server


def _settle(delivery: asyncio.Future[None], error: BaseException | None) -> None:
    if delivery.done():  # nobody waits any longer
        return
    if error is None:
        delivery.set_result(None)
    else:
        delivery.set_exception(error)


def _answer(code: int, reason: bytes | str) -> str:
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
    return f"the mail server answered {code} {' '.join(text.split())[:300]}"
