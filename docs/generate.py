"""Writes what in the documentation follows from the code: docs/cli.md, and the configuration table of README.md.

make docs            write it
(tests/cli/test_docs.py fails where somebody forgot)
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import click

from headrace.cli import cli
from headrace.settings import Settings

ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTH = 100
BEGIN, END = "<!-- configuration: written by docs/generate.py -->", "<!-- end of configuration -->"


def generated() -> dict[pathlib.Path, str]:
    """The whole text of each file that has generated parts, as it should be."""
    readme = ROOT / "README.md"
    table = f"{BEGIN}\n{configuration()}\n{END}"
    own = readme.read_text("utf-8")
    return {
        ROOT / "docs" / "cli.md": command_line(),
        readme: re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table, own, flags=re.DOTALL),
    }


def configuration() -> str:
    """A table of every setting: its environment variable, default, flag of `serve` and meaning."""
    flags = {parameter.name: parameter.opts[0] for parameter in cli.commands["serve"].params}
    lines = ["| variable | flag of `serve` | default | what it is |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        value = field.default
        shown = ",".join(value) if isinstance(value, list) else "" if value is None else str(value)
        flag = f"`{flags[name]}`" if name in flags else ""
        default = f"`{shown}`" if shown else ""
        lines.append(f"| `HEADRACE_{name.upper()}` | {flag} | {default} | {field.description} |")
    return "\n".join(lines)


def command_line() -> str:
    """The help of every command."""
    parts = ["# The command line", "Written by `make docs` from the commands' own help."]
    for path, command in commands(cli, "headrace"):
        context = click.Context(command, info_name=path, terminal_width=WIDTH, **cli.context_settings)
        parts += [f"{'#' * (path.count(' ') + 2)} `{path}`", f"```\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, each with its whole name."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands(command.commands[name], f"{path} {name}")


if __name__ == "__main__":
    for file, text in generated().items():
        file.write_text(text, "utf-8")
