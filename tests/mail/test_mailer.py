"""E-mail through an SMTP server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
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


GREETING, HELLO, OK, DATA = b"220 here", b"250-here\r\n250 8BITMIME", b"250 OK", b"354 go on"
ACCEPTANCE = (GREETING, HELLO, OK, OK, DATA)  # what a server answers until it has a message


@asynccontextmanager
async def dialogue(*answers: bytes, hangs: bool = False) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """(port, commands) of a server that gives these answers, one to each line that does not belong to a message, and
    then closes the connection, or says nothing more."""
    commands: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            for index, answer in enumerate(answers):
                if index:
                    end = b"\r\n.\r\n" if answers[index - 1] == DATA else b"\n"
                    commands.append(await reader.readuntil(end))
                writer.write(answer + b"\r\n")
            if hangs:
                await over.wait()
            elif answers:
                commands.append(await reader.readuntil(b"\n"))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], commands
    finally:
        over.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "answers",
    [
        (),
        (GREETING,),
        (GREETING, HELLO),
        (GREETING, HELLO, OK),
        (GREETING, HELLO, OK, OK),
        (GREETING, HELLO, OK, OK, DATA),
    ],
    ids=["at once", "hello", "sender", "recipient", "data", "message"],
)
async def test_a_server_that_closes_the_connection_is_tried_again(answers: tuple[bytes, ...]) -> None:
    async with dialogue(*answers) as (port, _):
        with pytest.raises(MailError, match=f"127.0.0.1:{port}|closed") as raised:
            await SmtpMailer(f"smtp://127.0.0.1:{port}").send(message())
    assert not raised.value.final


async def test_a_server_that_says_421_is_tried_again() -> None:
    async with dialogue(b"421 4.3.2 too busy") as (port, _):
        with pytest.raises(MailError, match=r"answered 421 .*too busy") as raised:
            await SmtpMailer(f"smtp://127.0.0.1:{port}").send(message())
    assert not raised.value.final


@pytest.mark.parametrize("answers", [(), ACCEPTANCE], ids=["greeting", "message"])
async def test_a_server_that_hangs_is_tried_again(answers: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_SECONDS", 0.2)
    async with dialogue(*answers, hangs=True) as (port, _):
        with pytest.raises(MailError, match="timed out") as raised:
            await SmtpMailer(f"smtp://127.0.0.1:{port}").send(message())
    assert not raised.value.final


async def test_a_message_has_a_time_limit_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_MESSAGE_SECONDS", 0.2)
    async with dialogue(GREETING, hangs=True) as (port, _):
        with pytest.raises(MailError, match=r"no whole answer within 0\.2 s") as raised:
            await SmtpMailer(f"smtp://127.0.0.1:{port}").send(message())
    assert not raised.value.final


def test_a_process_that_ends_does_not_wait_for_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_SECONDS", 3600.0)
    before = set(threading.enumerate())  # a thread of another test may be about to end
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections, and says nothing
        port = server.getsockname()[1]

        async def interrupted() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(SmtpMailer(f"smtp://127.0.0.1:{port}").send(message()), 0.2)

        asyncio.run(interrupted())
        (left,) = [thread for thread in set(threading.enumerate()) - before if thread.name == "headrace-mail"]
    left.join(60)  # its connection was reset
    assert not left.is_alive()


@pytest.mark.parametrize("url", ["mail.example.com", "http://mail.example.com", "smtp://", "smtp://h:port", "smtp://["])
def test_urls_that_are_not_valid(url: str) -> None:
    with pytest.raises(HeadraceError, match="HEADRACE_SMTP_URL"):
        SmtpMailer(url)
