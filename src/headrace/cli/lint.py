"""`headrace lint`: the problems of workflow files, without running them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.apps.requirements import missing_requirements
from headrace.cli.inspection import inspected, inspecting
from headrace.cli.lint_formats import FORMATS, count
from headrace.cli.shared import BAD, FAILED, BadUsage, say, unique_paths, wait_for
from headrace.errors import Problem

if TYPE_CHECKING:
    from headrace.node import Flow

_SHOWN_TIMES = 5  # of a schedule


@click.command(short_help="Reports the problems of workflow files.")
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER...", type=click.Path(path_type=Path))
@click.option("--no-credentials", is_flag=True, help="Leave out what is missing on this machine, such as credentials.")
@click.option(
    "--format",
    "form",
    type=click.Choice(tuple(FORMATS)),
    default="text",
    show_default=True,
    help="text; json: a list with an object for each file; github: annotations of GitHub Actions; sarif: SARIF 2.1.0.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
def lint(files: tuple[Path, ...], no_credentials: bool, form: str) -> None:
    """Prints the problems of workflow FILEs, or of those in a FOLDER, with their line, node and field.

    These include requirements that are missing here, such as credentials and plugins, and node types that Headrace does
    not run.

    Says on stderr when schedules are due next.

    Exits with 0 if there are no problems; 1 if every file loads, but some have problems; 2 if one cannot be loaded.
    """

    paths = unique_paths(_workflow_files(files))

    notes: list[str] = []

    async def work() -> list[tuple[Path, Sequence[Problem]]]:
        async with inspecting() as running:
            inspections = [(file, *inspected(running, file)) for file in paths]
            # served together, one can be a tool of another
            running.apps.known_names.update(flow.name for _, flow, _ in inspections if flow is not None)
            notes.extend(f"{file}: {note}" for file, flow, _ in inspections if flow for note in _triggers(flow))
            return [
                (
                    file,
                    [
                        *problems,
                        *(missing_requirements(flow, running.resources) if flow and not no_credentials else ()),
                    ],
                )
                for file, flow, problems in inspections
            ]

    reports = wait_for(work())
    click.echo(FORMATS[form](reports), nl=False)
    for note in notes if form == "text" else ():
        say(note)
    flat = [problem for _, problems in reports for problem in problems]
    if flat:
        bad_files = sum(bool(problems) for _, problems in reports)
        say(f"{count(len(flat), 'problem')} in {bad_files} of {count(len(reports), 'file')}.")
    click.get_current_context().exit(BAD if any(problem.fatal for problem in flat) else FAILED if flat else 0)


def _triggers(flow: Flow) -> Iterator[str]:
    """When the schedules of a workflow are due next, and where to find the URLs of its webhooks."""
    from headrace.nodes.trigger_schedule import TriggerSchedule
    from headrace.nodes.trigger_webhook import TriggerWebhook

    for id_ in flow.triggers:
        node, title = flow.nodes[id_], flow.graph.nodes[id_].title or id_
        if isinstance(node, TriggerWebhook):
            yield f"webhook '{title}': once it is served, `headrace triggers list` shows its URL"
        elif isinstance(node, TriggerSchedule) and not list(node.problems()):
            instants = islice(node.schedule.after(time.time()), _SHOWN_TIMES)
            times = ", ".join(f"{node.schedule.local(instant):%Y-%m-%d %H:%M}" for instant in instants)
            yield f"schedule '{title}', {node.schedule}: {times}"


def _workflow_files(paths: Iterable[Path]) -> Iterator[Path]:
    from headrace.server.workflow_files import WorkflowFolder, files_in

    for path in paths:
        if not path.is_dir():
            yield path
        elif files := files_in([WorkflowFolder(path)]):
            yield from (file.path for file in files)
        else:
            raise BadUsage(f"{path}: has no workflow files")
