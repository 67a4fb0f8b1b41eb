"""The command line. Commands import what they need when they are called, so that `--help` is fast."""

from __future__ import annotations

import click

from headrace import __version__
from headrace.cli.apps import apps
from headrace.cli.batch import batch
from headrace.cli.chat import chat
from headrace.cli.console import console
from headrace.cli.db import db
from headrace.cli.diff import diff
from headrace.cli.doctor import doctor
from headrace.cli.generate import generate
from headrace.cli.keys import keys
from headrace.cli.lint import lint
from headrace.cli.packages import packages
from headrace.cli.plugins import plugins
from headrace.cli.run import run
from headrace.cli.serve import serve
from headrace.cli.shared import Commands, load_dotenv
from headrace.cli.show import show
from headrace.cli.tools import tools
from headrace.cli.triggers import triggers
from headrace.cli.worker import worker


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="headrace %(version)s")
def cli() -> None:
    """Runs workflows exported from Dify, and serves them through Dify's own API.

    Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 bad usage or a file that
    cannot be loaded, 130 interrupted.

    Variables of a file `.env` in the working directory are added to the environment; those that are set already stay.
    """
    load_dotenv()


for _command in (
    serve,
    worker,
    console,
    run,
    chat,
    show,
    batch,
    lint,
    diff,
    generate,
    apps,
    keys,
    tools,
    triggers,
    db,
    doctor,
    packages,
    plugins,
):
    cli.add_command(_command)


def main() -> None:
    """The entry point of `headrace`."""
    cli.main(prog_name="headrace")
