"""`headrace run`: one run of a workflow file, here and now."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.inputs import check_names, declared, named, start_of, typed, whole
from headrace.cli.shared import (
    FAILED,
    INTERRUPTED,
    Bad,
    demo_option,
    egress_option,
    level_option,
    log_to_stderr,
    say,
    settings_of,
    wait_for,
)
from headrace.content.filetypes import guess_type
from headrace.errors import RequestError

if TYPE_CHECKING:
    from headrace.apps.catalog import Served
    from headrace.main import Service
    from headrace.runs.service import RunService
    from headrace.values import File, Value


@click.command(short_help="Run a workflow file once.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-i",
    "--input",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input. Objects, lists and checkboxes are given as JSON.",
)
@click.option("--inputs", metavar="JSON|@FILE", help="All inputs as a JSON object, or a file with one (@- is stdin).")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="NAME=PATH",
    help="A file for a file input; more than once for a list of files.",
)
@click.option("--user", default="cli", show_default=True, help="In whose name the workflow runs (sys.user_id).")
@click.option("--json", "as_json", is_flag=True, help="Print the run's events, a JSON object a line, as they happen.")
@demo_option
@egress_option
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to keep files in that the run makes.  [HEADRACE_DATA; default: none is kept]",
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

    How far it is goes to stderr: a live line for each node on a terminal, else a plain one. With --json, stdout has the
    events of Dify's stream instead (workflow_started, node_started, text_chunk, node_finished, workflow_finished ...),
    one JSON object a line.

    Exits with 0 if the run succeeded, 1 if it failed, 2 if the file or an input is not fit to run, and 130 after
    Ctrl-C, which stops the run.
    """
    given = whole(inputs) if inputs is not None else {}
    wanted = named(pairs, "-i")
    uploads = named(files, "--file")
    with ExitStack() as stack:
        if data is None and "HEADRACE_DATA" not in os.environ:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-")))
        settings = settings_of(data=data, demo_model=demo_model, egress_allow=egress_allow, log_level=log_level)
        told = log_level or os.environ.get("HEADRACE_LOG_LEVEL")
        log_to_stderr(settings.log_level if told else "ERROR")

        from headrace.main import service

        async def once() -> int:
            async with service(settings, memory=True) as running:
                served = await running.publish(file)
                if served.flow.mode != "workflow":
                    raise Bad(f"{file}: is of mode '{served.flow.mode}'; only workflows run here")
                merged = {**given, **typed(served.flow, wanted)}
                check_names(served.flow, [*merged, *(name for name, _ in uploads)])
                merged |= await _uploaded(running, served, uploads, merged)
                return await _run(running, served, merged, user, as_json)

        try:
            code = wait_for(once())
        except RequestError as error:
            raise Bad(f"{file}: {error}") from error
    if code:
        sys.exit(code)


async def _uploaded(
    running: Service, served: Served, uploads: Sequence[tuple[str, str]], given: Mapping[str, Value]
) -> dict[str, Value]:
    """The files of --file as the inputs that mean them. Bad where one cannot be read, or is no file input."""
    known = declared(served.flow)
    inputs: dict[str, Value] = {}
    for name, path in uploads:
        kind = known.get(name, {}).get("type")
        if name in given or (name in inputs and kind != "file-list"):
            raise Bad(f"--file {name}: the input is given more than once")
        if kind not in ("file", "file-list"):
            raise Bad(f"--file {name}: the input is of type {kind}, not a file")
        try:
            content = await asyncio.to_thread(Path(path).read_bytes)
        except OSError as error:
            raise Bad(f"--file {name}: {path} cannot be read: {error.strerror}") from error
        mime_type = guess_type(path)
        saved = await running.files.save(
            content, filename=Path(path).name, mime_type=mime_type, transfer_method="local_file", app=served.app.id
        )
        mapping = _mapping(saved)
        if kind == "file-list":
            inputs.setdefault(name, []).append(mapping)
        else:
            inputs[name] = mapping
    return inputs


def _mapping(file: File) -> dict[str, Value]:
    """What a caller of the API would send for an uploaded file."""
    return {"type": file.type, "transfer_method": file.transfer_method, "upload_file_id": file.related_id}


async def _run(running: Service, served: Served, inputs: Mapping[str, Value], user: str, as_json: bool) -> int:
    """Runs, shows and tells; the exit code."""
    from headrace.api.dify.run_events import RunEvents, StreamEvent
    from headrace.api.http.json import encode
    from headrace.cli.screen import Quiet, screen
    from headrace.runs.submission import Submission

    accepted = await start_of(served.flow).accept(inputs, partial(running.files.resolve, app=served.app.id))
    shown = Quiet() if as_json else screen()
    ended: StreamEvent | None = None
    failures: list[Mapping[str, Any]] = []
    async with running.run_service.open(Submission(served, user, accepted, source="cli")) as started:
        frames = RunEvents(started.run, served.flow)
        with _Interrupts(running.run_service, started.run, user) as interrupts:
            try:
                async for record in started.records:
                    told = frames.feed(record)
                    shown.show(record, told)
                    for frame in told:
                        if as_json:
                            event = {"event": frame.event, "workflow_run_id": started.run, "task_id": frames.task}
                            click.echo(encode({**event, "data": frame.data}))
                        if frame.event in ("workflow_finished", "workflow_paused"):
                            ended = frame
                        elif frame.event == "node_finished" and frame.data["status"] == "failed":
                            failures.append(frame.data)
            finally:
                shown.close()
    assert ended is not None  # the records of a run end with its end
    if interrupts.seen:
        say("Stopped.")
        return INTERRUPTED
    status = ended.data["status"]
    if status in ("succeeded", "partial-succeeded"):
        if not as_json:
            click.echo(_pretty(encode(ended.data["outputs"])))
        return 0
    say(f"Error: {_why(status, ended.data.get('error'), failures)}")
    return FAILED


def _why(status: str, error: str | None, failures: Sequence[Mapping[str, Any]]) -> str:
    """What is said of a run that did not succeed: the node and the error, where it was a node.

    `failures` are the nodes that failed, in order. The one that failed the run has its error, which begins with the
    item's number in a parallel iteration; others may have failed in rounds that were passed over.
    """
    from headrace.cli.screen import brief

    if status == "paused":
        return "the run waits for somebody's answer, which nobody can give it here"
    error = error or ""
    node = next((each for each in reversed(failures) if each["error"] and error.endswith(each["error"])), None)
    if node is None:
        return f"the run {'was ' if status == 'stopped' else ''}{status}: {error}"
    title, item = node["title"] or node["node_id"], error.removesuffix(node["error"])
    return f"the run failed at node '{title}' ({node['node_id']}): {item}{brief(node['error'])}"


def _pretty(outputs: bytes) -> str:
    """Outputs to be read by people and programs; escaped where stdout's encoding does not have their characters."""
    value = json.loads(outputs)
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=2)
    return text


class _Interrupts:
    """While it is open, Ctrl-C (or SIGTERM) stops the run; the second one does not wait for its nodes to let go."""

    def __init__(self, run_service: RunService, run: str, user: str) -> None:
        self.seen = False
        self._run_service = run_service
        self._run = run
        self._user = user
        self._stopping: asyncio.Task[None] | None = None
        self._signals = () if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> _Interrupts:
        self._waiting = asyncio.current_task()
        for each in self._signals:
            asyncio.get_running_loop().add_signal_handler(each, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._signals:
            asyncio.get_running_loop().remove_signal_handler(each)

    def _on_signal(self) -> None:
        if not self.seen:
            self.seen = True
            self._stopping = asyncio.ensure_future(self._run_service.stop(self._run, self._user))
        elif self._waiting is not None:
            self._waiting.cancel()
