"""The inputs of a run, from the options of a command or its prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headrace.cli.inputs import FILES, check_names, declared, describe, how_to_pass, named, typed, whole
from headrace.cli.interrupts import raising_interrupts
from headrace.cli.shared import BadUsage, on_terminal
from headrace.cli.uploads import uploaded
from headrace.frozen import frozen

if TYPE_CHECKING:
    from headrace.apps.catalog import Release
    from headrace.main import Service
    from headrace.values import Value

T = TypeVar("T")


def input_options(command: Callable[..., T]) -> Callable[..., T]:
    """The options -i, --inputs and --file: `pairs`, `inputs` and `files`. See `InputOptions.of`."""
    for option in (
        click.option(
            "--file",
            "files",
            multiple=True,
            metavar="NAME=PATH",
            help="A file for a file input; more than once for a list of files.",
        ),
        click.option(
            "--inputs", metavar="JSON|@FILE", help="All inputs as a JSON object, or a file with one (@- is stdin)."
        ),
        click.option(
            "-i",
            "--input",
            "pairs",
            multiple=True,
            metavar="NAME=VALUE",
            help="An input. Objects, lists and checkboxes are given as JSON.",
        ),
    ):
        command = option(command)
    return command


@frozen
class InputOptions:
    """The values of the options, by option."""

    whole: Mapping[str, Value]
    pairs: Sequence[tuple[str, str]]
    files: Sequence[tuple[str, str]]

    @staticmethod
    def of(inputs: str | None, pairs: Sequence[str], files: Sequence[str]) -> InputOptions:
        """BadUsage if an option does not have its form."""
        values = whole(inputs) if inputs is not None else {}
        return InputOptions(values, named(pairs, "-i"), named(files, "--file"))

    async def inputs(self, running: Service, release: Release) -> dict[str, Value]:
        """The inputs of a run, with uploaded files. Asks for the missing ones on a terminal; elsewhere BadUsage names
        them. BadUsage for an unknown input, or one that cannot be what the workflow declares."""
        flow, pairs, files = release.flow, [*self.pairs], [*self.files]
        check_names(flow, [*self.whole, *(name for name, _ in (*pairs, *files))])
        present = {*self.whole, *typed(flow, pairs), *(name for name, _ in files)}
        missing = [field for name, field in declared(flow).items() if field.get("required") and name not in present]
        if missing and not on_terminal():
            raise BadUsage("\n".join(map(_is_missing, missing)))
        with raising_interrupts():
            for field in missing:
                (files if field["type"] in FILES else pairs).append((field["variable"], _prompt(field)))
        values = {**self.whole, **typed(flow, pairs)}
        return values | await uploaded(running, release, files, values)


def _is_missing(field: Mapping[str, Any]) -> str:
    return f"the input '{field['variable']}' is missing: {how_to_pass(field)} ({describe(field)})"


def _prompt(field: Mapping[str, Any]) -> str:
    """Asks for an input on the terminal. KeyboardInterrupt for Ctrl-C and Ctrl-D."""
    text = f"{field['variable']} ({describe(field)})"
    kind: Any = None
    if field["type"] == "select" and field.get("options"):
        kind = click.Choice([str(option) for option in field["options"]])
    elif field["type"] in FILES:
        kind = click.Path(exists=True, dir_okay=False)
    try:
        if field["type"] == "checkbox":
            return "true" if click.confirm(text, err=True) else "false"
        return str(click.prompt(text, type=kind, err=True, show_choices=False))
    except click.Abort:
        raise KeyboardInterrupt from None
