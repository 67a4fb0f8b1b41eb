"""The command line. Commands, and what they need, are imported when they are called, so that each starts fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

import click

from headrace import __version__
from headrace.cli.shared import Commands, load_dotenv

_NAMES = (
    "serve",
    "worker",
    "console",
    "run",
    "chat",
    "show",
    "batch",
    "lint",
    "diff",
    "generate",
    "apps",
    "keys",
    "knowledge",
    "tools",
    "triggers",
    "db",
    "doctor",
    "packages",
    "plugins",
)


class _Modules(Mapping[str, click.Command]):
    """The commands by name; each is in the module of this package that has its name."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in _NAMES:
            raise KeyError(name)
        command: click.Command = getattr(import_module(f"{__name__}.{name}"), name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


@click.group(
    cls=Commands,
    commands=_Modules(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="headrace %(version)s")
def cli() -> None:
    """Runs workflows exported from Dify, and serves them through Dify's own API.

    Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 bad usage or a file that
    cannot be loaded, 130 interrupted.

    Variables of a file `.env` in the working directory are added to the environment; those that are set already stay.
    """
    load_dotenv()


def main() -> None:
    """The entry point of `headrace`."""
    cli.main(prog_name="headrace")
