"""`headrace run`: runs a workflow file once, in this process."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.input_options import InputOptions, input_options
from headrace.cli.inputs import start_of
from headrace.cli.interrupts import Interrupts
from headrace.cli.shared import (
    FAILED,
    INTERRUPTED,
    BadUsage,
    demo_option,
    egress_option,
    level_option,
    log_to_stderr,
    on_terminal,
    printable,
    say,
    settings_of,
    wait_for,
)
from headrace.errors import RequestError

if TYPE_CHECKING:
    from headrace.apps.catalog import Release
    from headrace.main import Service
    from headrace.values import Value


@click.command(short_help="Runs a workflow file once.")
@click.argument("file", type=click.Path(path_type=Path))
@input_options
@click.option("--user", default="cli", show_default=True, help="The user that the workflow runs for (sys.user_id).")
@click.option("--json", "as_json", is_flag=True, help="Print the run's events, a JSON object a line, as they happen.")
@demo_option
@egress_option
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files that the run creates.  [HEADRACE_DATA; default: a temporary one]",
)
@level_option
def run(
    file: Path,
    pairs: tuple[str, ...],
    inputs: str | None,
    files: tuple[str, ...],
    user: str,
    as_json: bool,
    demo_model: bool | None,
    egress_allow: tuple[str, ...],
    data: Path | None,
    log_level: str | None,
) -> None:
    """Runs a workflow FILE once and prints its outputs as JSON.

    On a terminal it asks for required inputs that are not given, and for the forms of human-input nodes. `headrace show
    FILE` lists a workflow's inputs.

    Progress goes to stderr: a live line for each node on a terminal, else a plain one. With --json, stdout has the
    events of Dify's stream instead (workflow_started, node_started, text_chunk, node_finished, workflow_finished ...),
    one JSON object a line.

    Exits with 0 if the run succeeded, 1 if it failed, 2 if the file or an input is invalid, and 130 after Ctrl-C,
    which stops the run.
    """
    options = InputOptions.of(inputs, pairs, files)
    with ExitStack() as stack:
        if data is None and "HEADRACE_DATA" not in os.environ:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-")))
        settings = settings_of(data=data, demo_model=demo_model, egress_allow=egress_allow, log_level=log_level)
        level = log_level or os.environ.get("HEADRACE_LOG_LEVEL")
        log_to_stderr(settings.log_level if level else "ERROR")

        from headrace.main import service

        async def once() -> int:
            async with service(settings, memory=True) as running:
                release = await running.publish(file)
                if release.flow.mode != "workflow":
                    raise BadUsage(f"{file}: is of mode '{release.flow.mode}': talk to it with `headrace chat {file}`")
                values = await options.inputs(running, release)
                return await _run(running, release, values, user, as_json)

        try:
            code = wait_for(once())
        except RequestError as error:
            raise BadUsage(f"{file}: {error}") from error
    if code:
        sys.exit(code)


async def _run(running: Service, release: Release, inputs: Mapping[str, Value], user: str, as_json: bool) -> int:
    """Runs the workflow and shows it; returns the exit code."""
    from headrace.api.dify.run_events import RunEvents, StreamEvent
    from headrace.api.http.responses import encode
    from headrace.cli.form_prompt import fill_in
    from headrace.cli.screen import Quiet, screen
    from headrace.kernel.summary import ENDED_WELL
    from headrace.runs.service import Submission

    acceptance = await start_of(release.flow).accept(inputs, partial(running.files.resolve, app=release.app.id))
    run_screen = Quiet() if as_json else screen()
    last_event: StreamEvent | None = None
    failures: list[Mapping[str, Any]] = []
    async with running.run_service.open(Submission(release, user, acceptance, source="cli")) as started_run:
        run_events = RunEvents(started_run.run, release.flow)
        with Interrupts(running.run_service, started_run.run, user) as interrupts:
            try:
                records, last = started_run.records, 0
                while records is not None:
                    async for record in records:
                        last = record.seq or last
                        events = run_events.feed(record)
                        run_screen.show(record, events)
                        for event in events:
                            if as_json:
                                head = {"event": event.event, "workflow_run_id": started_run.run}
                                click.echo(encode({**head, "task_id": run_events.task, "data": event.data}))
                            if event.event in ("workflow_finished", "workflow_paused"):
                                last_event = event
                            elif event.event == "node_finished" and event.data["status"] == "failed":
                                failures.append(event.data)
                    records = None
                    if last_event is not None and last_event.event == "workflow_paused" and on_terminal():
                        run_screen.close()
                        await fill_in(running, release, started_run.run, user)
                        records = running.run_service.follow(started_run.run, last)
            finally:
                run_screen.close()
    assert last_event is not None  # the last record of a run ends it
    if interrupts.seen:
        say("Stopped.")
        return INTERRUPTED
    status = last_event.data["status"]
    if status in ENDED_WELL:
        if not as_json:
            click.echo(_pretty(encode(last_event.data["outputs"])))
        return 0
    say(printable(f"Error: {_why(status, last_event.data.get('error'), failures)}"))
    return FAILED


def _why(status: str, error: str | None, failures: Sequence[Mapping[str, Any]]) -> str:
    """The message about a run that did not succeed: the error, and the node that failed, if one did.

    `failures` are the nodes that failed, in order. The run's error is that of the node that failed it, preceded by the
    item's number in a parallel iteration; other failures may have been ignored by a container.
    """
    from headrace.cli.screen import brief

    if status == "paused":
        return "the run waits for a person: run it on a terminal, or serve the file (see docs/human-input.md)"
    error = error or ""
    node = next(
        (failure for failure in reversed(failures) if failure["error"] and error.endswith(failure["error"])), None
    )
    if node is None:
        return f"the run {'was ' if status == 'stopped' else ''}{status}: {error}"
    title, item = node["title"] or node["node_id"], error.removesuffix(node["error"])
    return f"the run failed at node '{title}' ({node['node_id']}): {item}{brief(node['error'])}"


def _pretty(outputs: bytes) -> str:
    """Indented JSON; escaped if stdout's encoding does not have all its characters."""
    value = json.loads(outputs)
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=2)
    return text
