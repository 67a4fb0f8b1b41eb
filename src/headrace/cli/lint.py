"""`headrace lint`: the problems of workflow files, without running them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.apps.requirements import missing_requirements
from headrace.cli.shared import BAD, FAILED, log_to_stderr, say, settings_of, unique_paths, wait_for
from headrace.errors import LoadError, Problem

if TYPE_CHECKING:
    from headrace.main import Service
    from headrace.node import Flow


@click.command(short_help="Report the problems of workflow files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each file.")
def lint(files: tuple[Path, ...], as_json: bool) -> None:
    """Prints the problems of workflow FILEs with their line, node and field.

    These include requirements that are missing here, such as credentials, and node types that Headrace does not run.

    Exits with 0 if there are no problems; 1 if every file loads, but some have problems; 2 if one cannot be loaded.
    """
    from headrace.main import service

    async def work() -> list[tuple[Path, Sequence[Problem]]]:
        with tempfile.TemporaryDirectory(prefix="headrace-") as data:
            settings = settings_of()
            settings = settings.model_copy(update={"data": Path(data), "plugins": settings.plugin_folder})
            log_to_stderr("WARNING")
            async with service(settings, memory=True, work=False) as running:
                inspected = [(file, *_inspected(running, file)) for file in unique_paths(files)]
                # served together, one can be a tool of another
                running.apps.known_names.update(flow.name for _, flow, _ in inspected if flow is not None)
                return [
                    (file, [*problems, *(missing_requirements(flow, running.resources) if flow is not None else ())])
                    for file, flow, problems in inspected
                ]

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
                click.echo(f"{file}: no problems")
    flat = [problem for _, problems in reports for problem in problems]
    if flat:
        bad_files = sum(bool(problems) for _, problems in reports)
        say(f"{_count(len(flat), 'problem')} in {bad_files} of {_count(len(reports), 'file')}.")
    code = BAD if any(problem.fatal for problem in flat) else FAILED if flat else 0
    click.get_current_context().exit(code)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _inspected(running: Service, file: Path) -> tuple[Flow | None, Sequence[Problem]]:
    """A file's workflow, if it can be loaded, and the problems of the file."""
    from headrace.dsl.load import inspect
    from headrace.main import read_workflow

    try:
        return inspect(read_workflow(file), running.apps.registry, str(file))
    except LoadError as error:
        return None, error.problems
