"""Parses a command line without running it."""

from __future__ import annotations

import click

from headrace.cli import cli


def parse_command_line(words: tuple[str, ...]) -> None:
    """Parses a command line as `headrace` does. UsageError if it is not accepted."""
    command: click.Command = cli
    context, rest = None, [*words]
    while True:
        name = rest.pop(0)
        context = command.make_context(name, rest, parent=context, resilient_parsing="--version" in rest)
        if not isinstance(command, click.Group) or not (rest := [*context._protected_args, *context.args]):
            return
        _, subcommand, _ = command.resolve_command(context, rest)
        assert subcommand is not None
        command = subcommand
