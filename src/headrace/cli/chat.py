"""`headrace chat`: a conversation with a chat app on the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.input_options import InputOptions, input_options
from headrace.cli.inputs import start_of
from headrace.cli.interrupts import Interrupts
from headrace.cli.shared import (
    FAILED,
    BadUsage,
    demo_option,
    egress_option,
    level_option,
    log_to_stderr,
    printable_lines,
    say,
    settings_of,
)
from headrace.cli.uploads import upload
from headrace.content.surrogates import mend_text
from headrace.errors import RequestError

if TYPE_CHECKING:
    from headrace.apps.catalog import Release
    from headrace.main import Service
    from headrace.settings import Settings
    from headrace.values import Value

_HELP = "/file PATH attaches a file to the next message, /new begins another conversation, Ctrl-D ends."


@click.command(short_help="Talks to a chat app on the terminal.")
@click.argument("file", type=click.Path(path_type=Path))
@input_options
@click.option("--user", default="cli", show_default=True, help="The user that the app talks to (sys.user_id).")
@demo_option
@egress_option
@level_option
def chat(
    file: Path,
    pairs: tuple[str, ...],
    inputs: str | None,
    files: tuple[str, ...],
    user: str,
    demo_model: bool | None,
    egress_allow: tuple[str, ...],
    log_level: str | None,
) -> None:
    """Talks to the chat app of a FILE: each line of stdin is a message, and the answers are printed as they arrive.

    /file PATH attaches a file to the next message, and /new begins another conversation. Ctrl-C stops an answer; at the
    prompt it ends the conversation, as Ctrl-D does. Nothing of the conversation is kept.

    Exits with 0 if every message was answered, 1 if one failed, 2 if the file or an input is invalid, and 130 after
    Ctrl-C at the prompt.
    """
    options = InputOptions.of(inputs, pairs, files)
    if inputs == "@-":
        raise BadUsage("--inputs @-: stdin has the messages")
    with tempfile.TemporaryDirectory(prefix="headrace-") as data, asyncio.Runner() as runner:
        settings = settings_of(data=Path(data), demo_model=demo_model, egress_allow=egress_allow, log_level=log_level)
        log_to_stderr(settings.log_level if log_level or os.environ.get("HEADRACE_LOG_LEVEL") else "ERROR")
        conversation = runner.run(_Conversation.open(settings, file, options, user))
        try:
            failures = _talk(conversation, runner)
        finally:
            runner.run(conversation.stack.aclose())
    if failures:
        sys.exit(FAILED)


def _talk(conversation: _Conversation, runner: asyncio.Runner) -> bool:
    """Answers line after line; returns whether an answer failed. Lines are read while no event loop runs, so that
    Ctrl-C interrupts the reading, and the line can be edited."""
    stdin: Any = sys.stdin
    if isinstance(stdin, TextIOWrapper):
        stdin.reconfigure(errors="surrogateescape")  # a byte that is not UTF-8 spoils its character only
    prompt = sys.stdin.isatty() and sys.stdout.isatty()
    if prompt:
        with suppress(ImportError):  # Windows has none
            import_module("readline")  # with it, the arrow keys work in `input`
        say(f"{conversation.introduction()}\n({_HELP})".strip())
    failed = False
    while True:
        try:
            line = mend_text(input("> " if prompt else "")).strip()
        except EOFError:
            return failed
        command, _, argument = line.partition(" ")
        try:
            if command == "/new":
                conversation.start_again()
            elif command == "/file":
                runner.run(conversation.attach(argument.strip()))
            elif line:
                failed = not runner.run(conversation.answer(line)) or failed
        except (RequestError, BadUsage) as error:
            say(f"Error: {error.message if isinstance(error, BadUsage) else error}")
            failed = True


class _Conversation:
    """A conversation of one user with an app. `stack` closes the service that runs it."""

    def __init__(
        self, stack: AsyncExitStack, running: Service, release: Release, inputs: Mapping[str, Value], user: str
    ) -> None:
        from headrace.conversations.annotations import Annotations
        from headrace.conversations.messages import Chats

        self.stack = stack
        self._running = running
        self._served = release
        self._inputs = inputs
        self._user = user
        self._chats = Chats(running.run_service, Annotations(running.storage.conversations).answer)
        self._id: str | None = None
        self._files: list[Mapping[str, Value]] = []

    @staticmethod
    async def open(settings: Settings, file: Path, options: InputOptions, user: str) -> _Conversation:
        """BadUsage if the file is not a chat app, or an input is not valid."""
        from headrace.conversations.messages import MESSAGES
        from headrace.main import service

        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(service(settings, memory=True))
            release = await running.publish(file)
            if release.flow.mode not in MESSAGES:
                raise BadUsage(f"{file}: is of mode '{release.flow.mode}': run it with `headrace run {file}`")
            inputs = await options.inputs(running, release)
            return _Conversation(stack.pop_all(), running, release, inputs, user)

    def introduction(self) -> str:
        """The app's opening statement."""
        from headrace.conversations.messages import introduction

        return introduction(self._served.flow, self._inputs)

    def start_again(self) -> None:
        self._id = None

    async def attach(self, path: str) -> None:
        """Adds a file to the next message. BadUsage if the app accepts none, or it cannot be read."""
        from headrace.api.dify.upload_rules import Uploads

        if not Uploads(self._served.flow).are_enabled:
            raise BadUsage("/file: the app accepts no files")
        self._files.append(await upload(self._running, self._served, path, "/file"))

    async def answer(self, query: str) -> bool:
        """Prints the answer to a message; returns whether it succeeded. RequestError if the app does not accept it."""
        from headrace.api.dify.chat_events import ChatEvents
        from headrace.api.dify.upload_rules import Uploads
        from headrace.conversations.messages import CHATS
        from headrace.runs.service import Submission

        running, release = self._running, self._served
        resolve = partial(running.files.resolve, app=release.app.id)
        uploads = Uploads(release.flow)
        attachments, self._files = self._files, []
        files = [await resolve(file) for file in uploads.accepted(attachments)]
        uploads.check(files)
        end_user = await running.apps.end_user(release.app, self._user)
        inputs = await start_of(release.flow).accept(self._inputs, resolve)
        message = Submission(release, self._user, inputs, files, end_user, source="cli", query=query)
        if release.flow.mode in CHATS:
            before = await self._chats.find(release.app.id, end_user.id, self._id) if self._id else None
            message = await self._chats.message(message, before)
        error = ""
        async with running.run_service.open(message) as started_run:
            self._id = message.conversation
            events = ChatEvents(started_run.run, release.flow)
            with Interrupts(running.run_service, started_run.run, self._user) as interrupts:
                async for record in started_run.records:
                    for event in events.feed(record):
                        if event.event in ("message", "agent_message"):
                            answer = event.data["answer"]
                            click.echo(printable_lines(answer) if sys.stdout.isatty() else answer, nl=False)
                        elif event.event == "error":
                            error = str(event.data["message"])
        click.echo()
        if interrupts.seen:
            say("Stopped.")
        elif error:
            say(f"Error: {error}")
        return not error
