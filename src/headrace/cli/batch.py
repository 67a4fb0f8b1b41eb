"""`headrace batch`: runs a workflow for many inputs in this process; an interrupted batch continues."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from uuid import UUID, uuid5

import click

from headrace.cli.inputs import start_of
from headrace.cli.shared import (
    FAILED,
    BadUsage,
    data_option,
    demo_option,
    egress_option,
    level_option,
    log_to_stderr,
    say,
    settings_of,
    wait_for,
)

if TYPE_CHECKING:
    from headrace.apps.catalog import Release
    from headrace.batches import BatchRunner
    from headrace.main import Service
    from headrace.ports import Batch

_BATCHES = UUID("6f1c2b53-9d0e-5c47-8a6e-3d1f0b7a9c24")  # the namespace of these batches' ids
_SCREEN_SECONDS, _LINE_SECONDS = 0.25, 10.0  # between progress reports, on a terminal and elsewhere


@click.command(short_help="Runs a workflow file for many inputs.")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("lines", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="-",
    show_default=True,
    help="File for the results.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="How many runs are active at once.",
)
@click.option("--rpm", type=click.IntRange(1, 1_000_000), help="How many runs are started a minute, at most.")
@click.option("--user", default="cli", show_default=True, help="The user that the workflow runs for (sys.user_id).")
@click.option("--restart", is_flag=True, help="Discard earlier results, and run every line again.")
@click.option("--retry-failed", is_flag=True, help="Run the lines again that failed, and keep the other results.")
@demo_option
@egress_option
@data_option
@level_option
def batch(
    file: Path,
    lines: Path,
    output: Path,
    concurrency: int,
    rpm: int | None,
    user: str,
    restart: bool,
    retry_failed: bool,
    demo_model: bool | None,
    egress_allow: tuple[str, ...],
    data: Path | None,
    log_level: str | None,
) -> None:
    """Runs a workflow FILE once for each line of LINES (JSON Lines, each {"inputs": {...}}; - is stdin).

    Of a chat app each line is a message: {"inputs": {...}, "query": "..."}.

    The results are JSON Lines in the same order: index, workflow_run_id, status, outputs, error, elapsed_time,
    total_tokens; of a message also answer, conversation_id and message_id. While it runs they gather in OUTPUT.partial,
    which becomes OUTPUT once all are there.

    If the batch is interrupted, the same command continues it: the same workflow, the same lines, the same OUTPUT and
    --user. Results are kept in the data folder, under batches, until that is deleted, so a finished batch is not run
    again, except with --restart.

    Exits with 0 if every line succeeded, 1 if one failed, 2 if the file cannot be run, and 130 after Ctrl-C or
    SIGTERM.
    """
    if restart and retry_failed:
        raise BadUsage("--retry-failed keeps results that --restart discards: choose one")
    settings = settings_of(data=data, demo_model=demo_model, egress_allow=egress_allow, log_level=log_level)
    level = log_level or os.environ.get("HEADRACE_LOG_LEVEL")
    log_to_stderr(settings.log_level if level else "ERROR")

    from headrace.apps.catalog import digest
    from headrace.cli.batch_attempts import find_attempts
    from headrace.dsl.workflow_file import read_workflow, source_of
    from headrace.main import service

    content = read_workflow(file)
    with ExitStack() as stack:
        requests = stack.enter_context(tempfile.TemporaryFile())
        where = "-" if str(output) == "-" else os.path.realpath(output)
        if where == os.path.realpath(lines):
            raise BadUsage(f"{output}: is the input file")
        name = str(uuid5(_BATCHES, "\n".join([digest(content), _copy(lines, requests), where, user])))
        database = stack.enter_context(_locked_database(settings.data / "batches", name, restart=restart))
        # a separate database, so that no server on this data folder and no other batch drives these runs
        own = settings.model_copy(update={"database_url": f"sqlite:///{database.absolute()}"})
        results = stack.enter_context(_results(output))

        async def work() -> int:
            async with service(own) as running:
                release = await running.apps.publish(source_of(file), content)
                batch_runner = running.batch_runner
                attempts = await find_attempts(batch_runner, name)
                if attempts:
                    attempts = await _continued(running, attempts, concurrency, rpm, retry=retry_failed)
                elif retry_failed:
                    raise BadUsage("--retry-failed: this batch was not run before (FILE, LINES, OUTPUT, --user)")
                else:
                    batch = await _new(running, release, name, requests, user, concurrency, rpm)
                    if batch is None:
                        raise BadUsage(f'{lines}: has no lines. Each must be a JSON object: {{"inputs": {{...}}}}')
                    attempts = [batch]
                return await _write(batch_runner, attempts, results)

        try:
            failures = wait_for(_until_interrupted(work()))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    if failures:
        sys.exit(FAILED)


async def _until_interrupted(work: Coroutine[Any, Any, int]) -> int:
    """Does the work; Ctrl-C (or SIGTERM) cancels it, even if the parent process made it ignored (as a shell script does
    for its background jobs). The results so far are kept, and the same command continues from there."""
    task = asyncio.current_task()
    if sys.platform != "win32" and task is not None:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signal_number, task.cancel)
    return await work


def _copy(lines: Path, file: IO[bytes]) -> str:
    """Copies the lines to a file, because stdin can be read only once and others may change; returns their digest."""
    with ExitStack() as stack:
        source = cast("IO[bytes]", sys.stdin.buffer) if str(lines) == "-" else stack.enter_context(lines.open("rb"))
        shutil.copyfileobj(source, file, 1024 * 1024)
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


@contextmanager
def _locked_database(folder: Path, name: str, *, restart: bool) -> Generator[Path]:
    """The database of a batch, locked. BadUsage if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / f"{name}.db"
    # a lock that is released however the process ends, on every system
    with closing(sqlite3.connect(folder / f"{name}.lock", timeout=0, isolation_level=None)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise OSError(f"{folder / name}.lock: {error}") from error
            raise BadUsage("another process is running this batch") from error
        if restart:
            for suffix in ("", "-wal", "-shm"):
                database.with_name(database.name + suffix).unlink(missing_ok=True)
        yield database


@contextmanager
def _results(output: Path) -> Generator[IO[bytes]]:
    """Where results are written; a file is moved into place once it is complete."""
    if str(output) == "-":
        yield sys.stdout.buffer
        return
    if output.exists() and not output.is_file():  # a device or a pipe, which must not be replaced
        with output.open("wb") as file:
            yield file
        return
    partial = output.with_name(output.name + ".partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(os.path.realpath(output))


async def _continued(
    running: Service, attempts: Sequence[Batch], concurrency: int, rpm: int | None, *, retry: bool
) -> list[Batch]:
    """The attempts, of which the last one continues, or with `retry` a new one begins."""
    from headrace.cli.batch_attempts import retry_failed

    batch_runner, last = running.batch_runner, attempts[-1]
    done = (await batch_runner.lines.progress(last)).over
    if done < last.total:
        say(f"The batch continues: {done} of {last.total} lines are done.")
        return [*attempts[:-1], await batch_runner.set_pace(last, concurrency, rpm)]
    if retry and (new := await retry_failed(batch_runner, attempts, running.run_service.environment.clock())):
        lines = "line that failed is" if new.total == 1 else "lines that failed are"
        say(f"{new.total} {lines} run again.")
        return [*attempts, await batch_runner.set_pace(new, concurrency, rpm)]
    total = attempts[0].total
    hint = "No line failed that can be run again." if retry else "(--retry-failed, --restart run lines again.)"
    say(f"The batch is complete: {total} of {total} lines are done. {hint}")
    return [*attempts]


async def _new(
    running: Service, release: Release, name: str, requests: IO[bytes], user: str, concurrency: int, rpm: int | None
) -> Batch | None:
    """A new batch; None if there are no lines."""
    from headrace.api.dify.message_requests import line_reader
    from headrace.batches import Spool, read_lines
    from headrace.conversations.messages import Chats
    from headrace.ports import Batch

    batch_runner = running.batch_runner
    start_of(release.flow)  # raises BadUsage if there is none
    end_user = await running.apps.end_user(release.app, user)
    resolve = partial(running.files.resolve, app=release.app.id)
    accept = line_reader(release, end_user, Chats(running.run_service), resolve)
    with tempfile.TemporaryFile() as file:
        lines = Spool(file)
        requests.seek(0)
        async with aclosing(read_lines(requests, accept)) as read:
            async for line in read:
                lines.append(line)
        if not lines:
            return None
        now = running.run_service.environment.clock()
        new = Batch(name, release.app.id, release.version.id, user, len(lines), now, concurrency, rpm)
        return await batch_runner.add(new, lines)


async def _write(batch_runner: BatchRunner, attempts: Sequence[Batch], file: IO[bytes]) -> int:
    """Writes the results as they arrive; returns how many lines failed."""
    from headrace.api.http.responses import encode
    from headrace.cli.batch_attempts import results_of
    from headrace.kernel.summary import ENDED_WELL

    batch, lines_written, failures = attempts[0], 0, 0
    try:
        async with (
            _progress_display(batch_runner, attempts[-1]),
            aclosing(results_of(batch_runner, attempts)) as results,
        ):
            async for result in results:
                file.write(encode(result.wire()) + b"\n")
                file.flush()
                lines_written += 1
                failures += result.status not in ENDED_WELL
    except asyncio.CancelledError:
        say(f"Interrupted after {lines_written} of {batch.total} results; the same command continues from there.")
        raise
    say(f"{batch.total} lines: {batch.total - failures} succeeded, {failures} failed.")
    return failures


@asynccontextmanager
async def _progress_display(batch_runner: BatchRunner, batch: Batch) -> AsyncGenerator[None]:
    """Shows the progress: a bar on a terminal, else a line now and then."""
    display = asyncio.create_task((_bar if sys.stderr.isatty() else _lines)(batch_runner, batch))
    try:
        yield
    finally:
        display.cancel()
        with suppress(asyncio.CancelledError):
            await display


async def _lines(batch_runner: BatchRunner, batch: Batch) -> None:
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        progress = await batch_runner.lines.progress(batch)
        say(f"{progress.over} of {batch.total} lines, {progress.failed} failed")


async def _bar(batch_runner: BatchRunner, batch: Batch) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failed]}[/red] failed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True, transient=True) as bar:
        task = bar.add_task("", total=batch.total, failed=0)
        while True:
            progress = await batch_runner.lines.progress(batch)
            bar.update(task, completed=progress.over, failed=progress.failed)
            await asyncio.sleep(_SCREEN_SECONDS)
