"""`headrace lint`: everything that is wrong with workflow files, without running them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.shared import BAD, FAILED, each_once, log_to_stderr, say, settings_of, wait_for
from headrace.errors import LoadError, Problem

if TYPE_CHECKING:
    from headrace.main import Service
    from headrace.node import Flow
    from headrace.ports.services import Resources


@click.command(short_help="Tell what is wrong with workflow files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each file.")
def lint(files: tuple[Path, ...], as_json: bool) -> None:
    """Reads workflow FILEs and prints all that is wrong with each, with its line, node and field.

    It also tells what a file needs that is missing here: node types that Headrace does not run, and credentials.

    Exits with 0 if nothing was found; 1 if every file loads, but something in one will not work here or is not what
    was meant; 2 if one cannot be loaded at all.
    """
    from headrace.main import service

    async def work() -> list[tuple[Path, Sequence[Problem]]]:
        with tempfile.TemporaryDirectory(prefix="headrace-") as data:
            settings = settings_of(data=Path(data))
            log_to_stderr("WARNING")
            async with service(settings, memory=True, work=False) as running:
                return [(file, _problems(running, file)) for file in each_once(files)]

    reports = wait_for(work())
    if as_json:
        shown = [
            {
                "file": str(file),
                "loads": not any(problem.fatal for problem in problems),
                "problems": [
                    {
                        "message": problem.message,
                        "line": problem.line,
                        "node": problem.node,
                        "field": problem.field,
                        "fatal": problem.fatal,
                    }
                    for problem in problems
                ],
            }
            for file, problems in reports
        ]
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        for file, problems in reports:
            for problem in problems:
                click.echo(f"{file}: {problem}")
            if not problems:
                click.echo(f"{file}: fine")
    flat = [problem for _, problems in reports for problem in problems]
    if flat:
        files_in_trouble = sum(bool(problems) for _, problems in reports)
        say(f"{_count(len(flat), 'problem')} in {files_in_trouble} of {_count(len(reports), 'file')}.")
    code = BAD if any(problem.fatal for problem in flat) else FAILED if flat else 0
    click.get_current_context().exit(code)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _problems(running: Service, file: Path) -> Sequence[Problem]:
    """What is wrong with a file: why it cannot be loaded, or what will not work here."""
    from headrace.dsl.load import inspect
    from headrace.main import read_workflow

    try:
        flow, problems = inspect(read_workflow(file), running.apps.registry, str(file))
    except LoadError as error:
        return error.problems
    return problems if flow is None else [*problems, *lacks(flow, running.resources)]


def lacks(flow: Flow, resources: Resources) -> list[Problem]:
    """What a workflow's nodes need that is not here, such as credentials and plugins: each once, with the first node
    that needs it."""
    needed: dict[str, Problem] = {}
    for spec in flow.graph.all_nodes():
        for requirement in flow.nodes[spec.id].missing_requirements(resources):
            needed.setdefault(requirement, Problem(requirement, spec.title or spec.id, fatal=False))
    return list(needed.values())
