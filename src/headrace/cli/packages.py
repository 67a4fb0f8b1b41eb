"""`headrace packages`: installs the packages for code nodes before the first start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from headrace.cli.shared import BadUsage, data_option, log_to_stderr, say, settings_of


@click.command(short_help="Installs the packages for Python code nodes.")
@data_option
def packages(data: Path | None) -> None:
    """Installs the packages of HEADRACE_CODE_PACKAGES for Python code nodes, and prints their folder.

    It needs uv. If they are installed already, it does nothing. `serve`, `run` and `batch` do the same when they start.
    """
    settings = settings_of(data=data)
    log_to_stderr("WARNING")

    from headrace.factories import code_packages

    environment = code_packages(settings)
    if environment is None:
        raise BadUsage("HEADRACE_CODE_PACKAGES is not set; it must be a requirements file.")
    packages = asyncio.run(environment.install())
    say("Installed." if packages else "Already installed.")
    click.echo(environment.folder)
