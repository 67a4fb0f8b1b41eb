"""Shared by the commands: options, settings, and error reporting."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Coroutine, Iterable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headrace.errors import HeadraceError, LoadError, RequestError
from headrace.telemetry.scrubbing import Scrubber, ScrubbingFormatter, secrets_in

if TYPE_CHECKING:
    from headrace.settings import Settings

T = TypeVar("T")

FAILED, BAD, INTERRUPTED = 1, 2, 130
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class BadUsage(click.ClickException):
    """Bad usage, or a file that cannot be loaded: exit 2. One line for each problem."""

    exit_code = BAD

    def show(self, file: Any = None) -> None:
        for line in self.message.splitlines():
            say(f"Error: {line}")


class CommandFailed(BadUsage):
    """The command could not be carried out: exit 1."""

    exit_code = FAILED


class Commands(click.Group):
    """A group whose commands print a line for each error, never a traceback."""

    group_class = click.Group

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (LoadError, RequestError) as error:
            raise BadUsage(str(error)) from error
        except HeadraceError as error:
            raise CommandFailed(str(error)) from error
        except BrokenPipeError:
            raise  # the reader closed the pipe; click exits silently
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise CommandFailed(f"{where}{error.strerror or error}") from error
        except (KeyboardInterrupt, asyncio.CancelledError):
            say("Interrupted.")
            ctx.exit(INTERRUPTED)


def say(text: str = "") -> None:
    """Prints lines on stderr, which cannot control the terminal."""
    click.echo(printable_lines(text), err=True)


def on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def data_option(command: Callable[..., T]) -> Callable[..., T]:
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the database, the files and the installation's secret.  [HEADRACE_DATA; default: .headrace]",
    )(command)


def workspace_option(command: Callable[..., T]) -> Callable[..., T]:
    return click.option(
        "--workspace", metavar="NAME", help="Workspace of the files.  [HEADRACE_WORKSPACE; default: default]"
    )(command)


def level_option(command: Callable[..., T]) -> Callable[..., T]:
    return click.option(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        help="Log level.  [HEADRACE_LOG_LEVEL; default: INFO]",
    )(command)


def demo_option(command: Callable[..., T]) -> Callable[..., T]:
    return click.option(
        "--demo-model",
        is_flag=True,
        default=None,
        help="Models without credentials answer from the built-in demo provider.  [HEADRACE_DEMO_MODEL]",
    )(command)


def egress_option(command: Callable[..., T]) -> Callable[..., T]:
    return click.option(
        "--egress-allow",
        multiple=True,
        metavar="HOST[:PORT]|CIDR",
        help="Private addresses that http-request may reach; comma-separated or repeated.  [HEADRACE_EGRESS_ALLOW]",
    )(command)


def load_dotenv() -> None:
    """Adds the variables of `.env` in the working directory to the environment, which takes precedence: settings, and
    the credentials of models, tools and plugins. BadUsage if the file is not valid; no message has text of it."""
    path = Path(".env")
    if not path.is_file():  # a virtual environment may have that name
        return
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadUsage(f"{path}: is not UTF-8 text (byte {error.start})") from None
    for binding in parse_stream(StringIO(text)):
        key, value = binding.key or "", binding.value
        if binding.error or "\0" in binding.original.string or "=" in key or (key and value is None):
            raise BadUsage(f"{path}: line {binding.original.line}: must be NAME=VALUE")
    for name, value in dotenv_values(stream=StringIO(text)).items():
        os.environ.setdefault(name, value or "")


def settings_of(**flags: Any) -> Settings:
    """The settings of the environment, overridden by the flags. BadUsage if a value is invalid."""
    from pydantic import ValidationError

    from headrace.settings import Settings

    values = {name: value for name, value in flags.items() if value not in (None, ())}
    if "egress_allow" in values:
        values["egress_allow"] = ",".join(values["egress_allow"])
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems: list[str] = []
        for problem in error.errors():
            name = str(problem["loc"][0])
            where = f"--{name.replace('_', '-')}" if name in values else f"HEADRACE_{name.upper()}"
            problems.append(f"{where}: {problem['msg'].removeprefix('Value error, ')} (it is {problem['input']!r})")
        raise BadUsage(Scrubber().text("\n".join(problems))) from error
    if settings.log_level.upper() not in LEVELS:
        raise BadUsage(f"HEADRACE_LOG_LEVEL: must be one of {', '.join(LEVELS)} (it is {settings.log_level!r})")
    return settings


class _Brief(logging.Formatter):
    """A line for each entry; the traceback of an exception only at level DEBUG."""

    def formatException(self, ei: Any) -> str:
        return super().formatException(ei) if logging.getLogger().level <= logging.DEBUG else ""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip()


def log_to_stderr(level: str) -> None:
    """Logs to stderr in a short form for a terminal. `serve` uses `telemetry.logs.write_logs` instead."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ScrubbingFormatter(_Brief("%(levelname)s: %(message)s"), Scrubber(secrets_in(os.environ))))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end."""
    return asyncio.run(work)


def check_app_name(option: str, name: str) -> None:
    """Raises BadUsage for a name that cannot identify an app. It has no slash, so that it cannot be a path."""
    from headrace.ports import WORKSPACE_NAME

    if not re.fullmatch(WORKSPACE_NAME, name):
        raise BadUsage(f"{option} {name}: must be letters, digits, . _ - (100 at most)")


def unique_paths(files: Iterable[Path]) -> list[Path]:
    """The files in their order, without duplicates."""
    paths: dict[str, Path] = {}
    for file in files:
        if paths.setdefault(os.path.abspath(file), file) is not file:
            say(f"{file} is given more than once; it is used once.")
    return list(paths.values())


def printable(line: str) -> str:
    """The line with control characters escaped, so that it cannot control the terminal, nor be more than one line."""
    return "".join(
        f"\\x{ord(letter):02x}" if unicodedata.category(letter) == "Cc" and letter != "\t" else letter
        for letter in line
    )


def printable_lines(text: str) -> str:
    """The text with control characters escaped, except those that end lines."""
    return "\n".join(map(printable, text.split("\n")))


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows of text in columns; wide characters count as two."""
    from rich.cells import cell_len

    lines = [tuple(map(printable, row)) for row in rows]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
