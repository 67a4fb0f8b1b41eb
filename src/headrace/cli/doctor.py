"""`headrace doctor`: checks the parts of an installation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.apps import json_option
from headrace.cli.shared import FAILED, data_option, log_to_stderr, printable, settings_of, wait_for

if TYPE_CHECKING:
    from headrace.doctor import Finding


@click.command(short_help="Checks the parts of an installation.")
@json_option
@data_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, data: Path | None) -> None:
    """Checks the data folder, the database and its settings, knowledge bases, the secret, the storage of files, the
    wire, Temporal, the sandbox, Python for plugins and the mail server, as the settings have them; servers may be
    running. It prints a line for each part, which is ok, a warning or failed, and what to do.

    The exit code is 1 if something failed. A file is written and deleted, and nothing else is changed.
    """
    from headrace.doctor import Status, examine

    settings = settings_of(data=data)
    log_to_stderr("CRITICAL")
    findings: list[Finding] = []

    async def work() -> None:
        async for finding in examine(settings):
            findings.append(finding)
            if not as_json:
                click.echo(_line(finding))

    wait_for(work())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.status == Status.FAILED for finding in findings):
        ctx.exit(FAILED)


def _line(finding: Finding) -> str:
    line = f"{finding.status:<8} {finding.part}: {' '.join(finding.message.split())}"
    return printable(f"{line.removesuffix('.')}. {finding.advice}" if finding.advice else line)
