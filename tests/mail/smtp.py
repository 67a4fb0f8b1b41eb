"""A mail server over loopback."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class MailServer:
    """Accepts messages; `answers` are given to the next ones instead, one each."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.messages: list[EmailMessage] = []
        self.secure: list[bool] = []  # whether each came over TLS
        self.logins: list[tuple[bytes, bytes]] = []
        self.port = 0
        self._arrived = asyncio.Event()

    async def handle_RCPT(self, server: Any, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        if self.answers and (answer := self.answers.pop(0)):
            return answer
        content = envelope.content
        assert isinstance(content, bytes)
        self.messages.append(message_from_bytes(content, policy=policy.default))
        self.secure.append(session.ssl is not None)
        self._arrived.set()
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"right & p@ss", handled=False)

    async def received(self, count: int = 1) -> list[EmailMessage]:
        """Once so many messages have arrived."""
        async with asyncio.timeout(60):
            while len(self.messages) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.messages


@asynccontextmanager
async def mail_server(
    *answers: str, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, login: bool = False
) -> AsyncGenerator[MailServer]:
    server = MailServer(*answers)
    loop = asyncio.get_running_loop()

    def make() -> SMTP:
        with warnings.catch_warnings(action="ignore"):  # that passwords are accepted without TLS
            return SMTP(
                server,
                loop=loop,
                tls_context=starttls,
                authenticator=server.authenticate if login else None,
                auth_required=login,
                auth_require_tls=starttls is not None,
                enable_SMTPUTF8=True,
            )

    listening = await loop.create_server(make, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()
