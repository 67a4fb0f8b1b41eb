"""E-mail through an SMTP server."""

from __future__ import annotations

import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest

from headrace.adapters import mail
from headrace.adapters.mail import SmtpMailer
from headrace.errors import HeadraceError
from headrace.ports.mail import MailError
from tests.certificates import Authority
from tests.mail.smtp import mail_server

LOGIN = "me%40example.com:right%20%26%20p%40ss"


def message(to: str = "ann@example.com") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Headrace <h@example.com>", to, "審批 📝"
    message.set_content("Bitte prüfen.")
    return message


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's, the client's)"""
    folder: Path = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder)
    issued = authority.issue("server")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(issued.certificate, issued.key)
    return server, ssl.create_default_context(cafile=str(authority.certificate))


async def test_a_message_arrives() -> None:
    async with mail_server() as server:
        await SmtpMailer(f"smtp://127.0.0.1:{server.port}").send(message())
    (received,) = server.messages
    assert (received["To"], received["Subject"]) == ("ann@example.com", "審批 📝")
    assert received.get_content().rstrip() == "Bitte prüfen."


async def test_starttls_is_used_where_it_is_offered(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    of_server, of_client = contexts
    async with mail_server(starttls=of_server, login=True) as server:
        await SmtpMailer(f"smtp://{LOGIN}@localhost:{server.port}", of_client).send(message())
    assert (server.secure, server.logins) == ([True], [(b"me@example.com", b"right & p@ss")])


async def test_tls_from_the_start(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    of_server, of_client = contexts
    async with mail_server(tls=of_server) as server:
        await SmtpMailer(f"smtps://localhost:{server.port}", of_client).send(message())
        assert len(server.messages) == 1
        with pytest.raises(MailError, match="CERTIFICATE_VERIFY_FAILED") as raised:
            await SmtpMailer(f"smtps://localhost:{server.port}").send(message())
    assert not raised.value.final
    assert len(server.messages) == 1


async def test_a_password_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mail_server(login=True) as server:
        await SmtpMailer(f"smtp://{LOGIN}@127.0.0.1:{server.port}").send(message())  # to this machine it is
        monkeypatch.setattr(mail, "_LOOPBACK", frozenset[str]())
        with pytest.raises(MailError, match="does not offer TLS") as raised:
            await SmtpMailer(f"smtp://{LOGIN}@127.0.0.1:{server.port}").send(message())
    assert raised.value.final
    assert len(server.logins) == 1


async def test_refusals_say_whether_they_are_final() -> None:
    async with mail_server("451 4.7.1 try again", "554 5.7.1 spam") as server:
        mailer = SmtpMailer(f"smtp://127.0.0.1:{server.port}")
        with pytest.raises(MailError, match="answered 451") as temporary:
            await mailer.send(message())
        with pytest.raises(MailError, match=r"answered 554 .*spam") as permanent:
            await mailer.send(message())
        with pytest.raises(MailError, match=r"answered 550 .*no such user") as unknown:
            await mailer.send(message("nobody@example.com"))
        await mailer.send(message())
    assert [error.value.final for error in (temporary, permanent, unknown)] == [False, True, True]
    assert len(server.messages) == 1


async def test_a_wrong_password_may_be_corrected() -> None:
    async with mail_server(login=True) as server:
        with pytest.raises(MailError, match="answered 535") as raised:
            await SmtpMailer(f"smtp://me:wrong@127.0.0.1:{server.port}").send(message())
    assert not raised.value.final
    assert "wrong" not in str(raised.value)


async def test_a_server_that_is_down() -> None:
    async with mail_server() as server:
        port = server.port
    with pytest.raises(MailError, match=f"127.0.0.1:{port}: .*refused") as raised:
        await SmtpMailer(f"smtp://127.0.0.1:{port}").send(message())
    assert not raised.value.final


@pytest.mark.parametrize("url", ["mail.example.com", "http://mail.example.com", "smtp://", "smtp://h:port", "smtp://["])
def test_urls_that_are_not_valid(url: str) -> None:
    with pytest.raises(HeadraceError, match="HEADRACE_SMTP_URL"):
        SmtpMailer(url)
