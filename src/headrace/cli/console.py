"""`headrace console`: prints a link that signs a browser in to the console."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.shared import data_option, settings_of, wait_for, workspace_option


@click.command(short_help="Prints a link to the console.")
@data_option
@workspace_option
@click.option("--url", metavar="URL", help="Where browsers reach the server.  [HEADRACE_PUBLIC_URL]")
def console(data: Path | None, workspace: str | None, url: str | None) -> None:
    """Prints a link that signs a browser in to the console of the servers on this data folder or database.

    It is valid for a day and gives all permissions in the workspace, so treat it as a key.
    """
    from headrace.server.console import console_access

    settings = settings_of(data=data, workspace=workspace, public_url=url)
    scheme = "http" if settings.tls_certificate is None else "https"
    base = settings.public_url or f"{scheme}://{settings.host}:{settings.port}{settings.root}"
    click.echo(wait_for(console_access(settings)).link(base))
