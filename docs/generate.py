"""Writes the generated parts of the documentation: docs/cli.md, docs/configuration.md, and the tables of
docs/compatibility.md and docs/openai.md.

`make docs` runs it; tests/cli/test_docs.py fails if they are out of date.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterator

import click

from headrace.cli import cli
from headrace.settings import Settings

ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTH = 100


def generated() -> dict[pathlib.Path, str]:
    """The complete text of each file that has generated parts."""
    sys.path.insert(0, str(ROOT))  # the tables import the official description from the tests
    from docs.compatibility import TABLES
    from headrace.api.openai.parameters import CHAT, RESPONSES

    compatibility, facade = ROOT / "docs" / "compatibility.md", ROOT / "docs" / "openai.md"
    text = compatibility.read_text("utf-8")
    for name, table in TABLES.items():
        text = filled(text, name, table())
    return {
        ROOT / "docs" / "cli.md": command_line(),
        ROOT / "docs" / "configuration.md": configuration(),
        compatibility: text,
        facade: filled(
            filled(facade.read_text("utf-8"), "parameters", CHAT.table()), "parameters of responses", RESPONSES.table()
        ),
    }


def filled(text: str, name: str, table: str) -> str:
    """The text with the table between the marks of this name. ValueError if it does not have them."""
    begin, end = f"<!-- {name}: written by docs/generate.py -->", f"<!-- end of {name} -->"
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    if len(re.findall(pattern, text, flags=re.DOTALL)) != 1:
        raise ValueError(f"the marks of {name!r} must appear once")
    return re.sub(pattern, lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL)


def configuration() -> str:
    """Every setting: its environment variable, default, flag of `serve` and meaning."""
    flags = {parameter.name: parameter.opts[0] for parameter in cli.commands["serve"].params}
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from `headrace/settings.py`. Environment variables; flags of `serve` take precedence.",
        "A file `.env` in the working directory may have them too, as lines of `NAME=VALUE`; the environment takes",
        "precedence over it.",
        "Model credentials are in `<PROVIDER>_API_KEY` and `<PROVIDER>_BASE_URL`: see [models](models.md).",
        "",
        "| variable | flag of `serve` | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        value = field.default
        shown = ",".join(value) if isinstance(value, list) else "" if value is None else str(value)
        flag = f"`{flags[name]}`" if name in flags else ""
        default = f"`{shown}`" if shown else ""
        lines.append(f"| `HEADRACE_{name.upper()}` | {flag} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """The help of every command."""
    parts = ["# The command line", "Written by `make docs` from the commands' own help."]
    for path, command in commands(cli, "headrace"):
        context = click.Context(command, info_name=path, terminal_width=WIDTH, **cli.context_settings)
        parts += [f"{'#' * (path.count(' ') + 2)} `{path}`", f"```\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """A command and its subcommands, with their full names."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands(command.commands[name], f"{path} {name}")


if __name__ == "__main__":
    for file, text in generated().items():
        file.write_text(text, "utf-8")
