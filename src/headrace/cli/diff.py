"""`headrace diff`: the differences between two workflow files."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from headrace.cli.shared import FAILED, printable

if TYPE_CHECKING:
    from headrace.dsl.diff import Change, Diff, ElementDiff
    from headrace.dsl.yaml_reader import Document
    from headrace.values import Value

_LONGEST = 100  # characters of a value that are shown in a line
_LONGEST_TEXT = 50_000  # characters of texts that are compared line by line


@click.command(short_help="Compares two workflow files.")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object.")
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Compares two workflow files, and prints which nodes, fields, edges, variables and features differ.

    Positions and sizes on the canvas, and notes, are not compared. Values of secrets are not shown. The files need not
    be runnable.

    Exits with 0 if there are no differences; 1 if there are; 2 if a file cannot be loaded.
    """
    from headrace.dsl.diff import diff as compare
    from headrace.nodes import registry

    difference = compare(_read(old), _read(new), registry())
    if as_json:
        click.echo(orjson.dumps(difference.to_json(), option=orjson.OPT_INDENT_2))
    else:
        for line in _lines(difference):
            click.echo(printable(line))
    click.get_current_context().exit(FAILED if difference else 0)


def _read(file: Path) -> Document:
    from headrace.dsl.workflow_file import read_workflow
    from headrace.dsl.yaml_reader import read
    from headrace.errors import LoadError, Problem

    document = read(read_workflow(file), str(file))
    if not document.value.keys() & {"app", "workflow", "model_config"}:
        message = "the file has neither `app` nor `workflow`: is it an app exported by Dify?"
        raise LoadError(str(file), [Problem(message)])
    return document


def _lines(difference: Diff) -> Iterator[str]:
    for change in difference.app:
        yield from _change(change)
    yield from _elements("node", difference.nodes)
    for sign, links in (("+", difference.edges_added), ("-", difference.edges_removed)):
        for link in links:
            by = "" if link.handle == "source" else f" (by {link.handle})"
            yield f"{sign} edge {link.source} -> {link.target}{by}"
    yield from _elements("environment variable", difference.environment_variables)
    yield from _elements("conversation variable", difference.conversation_variables)
    for change in difference.features:
        yield from _change(change, of="features.")


def _elements(what: str, elements: ElementDiff) -> Iterator[str]:
    for sign, all_ in (("+", elements.added), ("-", elements.removed), ("~", elements.changed)):
        for element in all_:
            about = element.about
            if "name" in about:
                name = about["name"]
            else:
                name = f"{about['id']} '{about['title']}' ({about['type']})" if about["title"] else about["id"]
            yield f"{sign} {what} {name}"
            for change in element.fields:
                yield from _change(change, "    ")


def _change(change: Change, indent: str = "", of: str = "") -> Iterator[str]:
    name = of + change.field
    match change.kind:
        case "added":
            yield f"{indent}+ {name}: {_shortened(change.after)}"
        case "removed":
            yield f"{indent}- {name}: {_shortened(change.before)}"
        case "changed":
            old, new = change.before, change.after
            if old == new:
                yield f"{indent}~ {name}: a secret in it differs"
            elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
                yield f"{indent}~ {name}:"
                yield from _text(old, new, indent + "    ")
            else:
                yield f"{indent}~ {name}: {_shortened(old)} -> {_shortened(new)}"


def _text(old: str, new: str, indent: str) -> Iterator[str]:
    """The differences between two texts, line by line."""
    if len(old) + len(new) > _LONGEST_TEXT:
        yield f"{indent}{len(old)} characters -> {len(new)} characters"
        return
    lines = list(difflib.unified_diff(old.split("\n"), new.split("\n"), n=1, lineterm=""))
    for line in lines[2:]:  # the first two name files
        yield f"{indent}{line}"


def _shortened(value: Value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
