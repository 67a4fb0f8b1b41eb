"""`headrace serve`: serves workflow files through Dify's API until the process is stopped."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.apps.requirements import missing_requirements
from headrace.cli.inputs import example
from headrace.cli.shared import (
    BadUsage,
    check_app_name,
    data_option,
    demo_option,
    egress_option,
    level_option,
    say,
    settings_of,
    unique_paths,
    workspace_option,
)
from headrace.errors import LoadError
from headrace.telemetry.scrubbing import Scrubber, secrets_in

if TYPE_CHECKING:
    from headrace.apps.catalog import Release
    from headrace.main import Service
    from headrace.server.serve import ServedFile
    from headrace.server.workers import WorkerProcess
    from headrace.server.workflow_files import WorkflowFile, WorkflowFolder
    from headrace.settings import Settings

logger = logging.getLogger(__name__)


@click.command(short_help="Serves workflow files through Dify's API.")
@click.argument("files", nargs=-1, metavar="[FILE|FOLDER]...", type=click.Path(path_type=Path))
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME[=FILE|FOLDER]",
    help="Identify the app of a FILE, or those of a FOLDER, by this name instead of the path, which may then differ "
    "between hosts; repeatable.",
)
@click.option("--watch", is_flag=True, help="Publish files again when they change, and files that are added.")
@click.option("--host", help="Address to listen on.  [HEADRACE_HOST; default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks a free one.  [HEADRACE_PORT; default: 8040]",
)
@data_option
@workspace_option
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Written once requests are accepted: JSON with the URL and each app's key.",
)
@click.option(
    "--console/--no-console",
    default=None,
    help="Serve the console; by default not on a public address without TLS or single sign-on.  [HEADRACE_CONSOLE]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 512),
    help="Processes that serve and drive runs, on one port and one database.  [HEADRACE_WORKERS; default: 1]",
)
@click.option("--no-worker", is_flag=True, help="Accept runs, and leave them to other processes (`headrace worker`).")
@demo_option
@egress_option
@level_option
def serve(
    files: tuple[Path, ...],
    names: tuple[str, ...],
    watch: bool,
    host: str | None,
    port: int | None,
    data: Path | None,
    workspace: str | None,
    ready_file: Path | None,
    console: bool | None,
    workers: int | None,
    no_worker: bool,
    demo_model: bool | None,
    egress_allow: tuple[str, ...],
    log_level: str | None,
) -> None:
    """Serves workflow FILEs, and everything served before from the data folder, through Dify's API.

    A file that is served again keeps its app and key; if its content has changed, it becomes a new version. Of a
    FOLDER, all files *.yml, *.yaml and *.ifpkg in it are served. A FILE that cannot be loaded prevents the start; one
    in a FOLDER is reported, and the others are served.

    With --watch, a changed file becomes a new version while the server runs; if it cannot be loaded, the reason is
    logged and the version before stays. A deleted file stays served until its app is removed (`headrace apps remove`).

    With --workers, one process starts so many others, and starts one again that has died. A signal to stop reaches all.

    Stop it with Ctrl-C or SIGTERM: active runs continue when it is started again.
    """
    gc.disable()  # faster start; `server.serve` enables it again
    settings = settings_of(
        host=host,
        port=port,
        data=data,
        workspace=workspace,
        console=None if console is None else "on" if console else "off",
        workers=workers,
        demo_model=demo_model,
        egress_allow=egress_allow,
        log_level=log_level,
    )
    scrubber = prepare(settings, ready_file)
    workflows, folders = _workflows(files, names)
    from headrace.server.serve import ready_content
    from headrace.server.serve import serve as serve_until_stopped

    as_json = settings.log_format == "json"
    process: WorkerProcess | None = None
    if settings.workers > 1:
        settings, process = _forked(settings, ready_file)
        if process.number > 0:
            workflows, folders, watch = [], [], False
    until = Until()

    def on_ready(running: Service, url: str, files: Sequence[ServedFile]) -> None:
        until.serving = True
        content = ready_content(url, files)
        text = "" if as_json else _welcome(running, url, files, folders)
        if process is None:
            _say_ready(content, text)
        else:
            process.announce(json.dumps([content, text]).encode())
        for file in files if as_json else ():
            _log_missing(running, file)

    def on_changed(running: Service, url: str, file: ServedFile, new: bool) -> None:
        path, release, _ = file
        logger.info("%s: version %d of %s is served", path, release.version.number, release.app.name)
        if new and not as_json:
            say("\n".join([*_app_lines(running, url, file), ""]))
        else:
            _log_missing(running, file)

    server = serve_until_stopped(
        settings,
        workflows,
        folders,
        on_ready=on_ready,
        ready_file=ready_file if process is None else None,
        on_changed=on_changed if watch else None,
        scrubber=scrubber,
        worker=not no_worker,
        process=process,
    )
    try:
        until.run(server)
    except LoadError as error:
        raise BadUsage("\n".join(problem.message for problem in error.problems)) from error  # each names its file


def _forked(settings: Settings, ready_file: Path | None) -> tuple[Settings, WorkerProcess]:
    """(the settings of a worker, what it knows), in each of the workers; the parent does not return. It says that all
    are ready, in place of them."""
    from headrace.server.serving import write_ready_file
    from headrace.server.workers import Supervisor, load_code, reserve

    def on_ready(message: bytes) -> None:
        content, text = json.loads(message)
        if ready_file is not None:
            write_ready_file(ready_file, content)
        _say_ready(content, text)

    port = reserve(settings.host, settings.port)
    load_code()
    process = Supervisor(settings.workers, on_ready).run()
    return settings.model_copy(update={"port": port.getsockname()[1]}), process


def prepare(settings: Settings, ready_file: Path | None) -> Scrubber:
    """Begins to write logs, and warns of variables that are not settings. Returns what removes secrets from logs."""
    from headrace.cli.unknown_settings import unknown_settings
    from headrace.telemetry.logs import write_logs

    scrubber = Scrubber(secrets_in(os.environ))
    write_logs(settings.log_level, settings.log_format, scrubber)
    for name, nearest in unknown_settings(os.environ).items():
        logger.warning("%s is not a setting and is ignored%s", name, f": did you mean {nearest}?" if nearest else "")
    if ready_file is not None:
        if not ready_file.parent.is_dir():
            raise BadUsage(f"--ready-file: {ready_file.parent} is not a folder")
        ready_file.unlink(missing_ok=True)  # an old one would describe a process that has ended
    return scrubber


class Until:
    """Runs a server until a signal. While it serves, the server handles signals itself; before that they cancel it.
    After that they are ignored, because the server raises them again once it has stopped."""

    def __init__(self) -> None:
        self.serving = False

    def run(self, server: Coroutine[Any, Any, None]) -> None:
        loop_factory = None
        if sys.platform != "win32":
            import uvloop

            loop_factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(self._watch(server))

    async def _watch(self, server: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(server)

        def on_signal() -> None:
            if not self.serving:
                task.cancel()

        if sys.platform != "win32":
            for signal_number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(signal_number, on_signal)
        await asyncio.wait((task,))
        if task.cancelled():
            raise KeyboardInterrupt
        task.result()


def _workflows(files: Sequence[Path], names: Sequence[str]) -> tuple[list[WorkflowFile], list[WorkflowFolder]]:
    """(files, folders). BadUsage if a name is not valid, is given twice, or has no file or folder."""
    from headrace.server.workflow_files import WorkflowFile, WorkflowFolder

    rest = unique_paths(files)
    files_by_name: dict[str, Path] = {}
    for option in names:
        name, equals, path = option.partition("=")
        check_app_name("--name", name)
        if name in files_by_name:
            raise BadUsage(f"--name {name}: is given more than once")
        if not equals and (len(rest) != 1 or len(names) > 1):
            raise BadUsage(f"--name {option}: must be NAME=FILE, unless there is one FILE")
        files_by_name[name] = Path(path) if equals else rest.pop()
    taken_paths = {os.path.abspath(path) for path in files_by_name.values()}
    paths: list[tuple[Path, str | None]] = [(path, name) for name, path in files_by_name.items()]
    paths += [(path, None) for path in rest if os.path.abspath(path) not in taken_paths]
    folders = [WorkflowFolder(path, name) for path, name in paths if path.is_dir()]
    return [WorkflowFile(path, name) for path, name in paths if not path.is_dir()], folders


def _say_ready(content: Mapping[str, Any], text: str) -> None:
    """Says it with `text`, or, without one, as a log record. Logs may be collected and stored: they get no keys."""
    if text:
        say(text)
    else:
        apps = [{"id": app["app_id"], "name": app["name"], "file": app["file"]} for app in content["apps"]]
        logger.info("Headrace is ready at %s", content["url"], extra={"apps": apps})


def _log_missing(running: Service, file: ServedFile) -> None:
    path, release, _ = file
    for problem in missing_requirements(release.flow, running.resources):
        logger.warning("%s (%s): %s", release.app.name, path, problem)


def _welcome(running: Service, url: str, files: Sequence[ServedFile], folders: Sequence[WorkflowFolder]) -> str:
    lines = [f"Headrace is ready at {url} (API reference: {url}/docs)"]
    if running.console is not None:
        lines += ["", f"  console   {running.console.link(running.public_url)}"]
    for file in files:
        lines += ["", *_app_lines(running, url, file)]
    if not files:
        paths = ", ".join(str(folder.path) for folder in folders)
        where = f"There are no workflow files in {paths}" if folders else "Name a file"
        lines += ["", f"  No workflows are served yet. {where}; `headrace apps add FILE` adds one."]
    return "\n".join([*lines, ""])


def _app_lines(running: Service, url: str, file: ServedFile) -> list[str]:
    path, release, key = file
    lines = [f"  {release.app.name} ({path})", f"    key   {key}", f"    call  {curl(url, release, key)}"]
    return lines + [f"    note  {problem}" for problem in missing_requirements(release.flow, running.resources)]


def curl(url: str, release: Release, key: str) -> str:
    """A curl command that calls the app."""
    from headrace.conversations.messages import CHATS, COMPLETION

    body = {"inputs": example(release.flow), "response_mode": "streaming", "user": "me"}
    path = "workflows/run"
    if release.app.mode in CHATS or release.app.mode == COMPLETION:
        path = "chat-messages" if release.app.mode in CHATS else "completion-messages"
        body["query"] = "Hello"
    return " ".join(
        [
            f"curl -N {url}/v1/{path}",
            f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}",
        ]
    )
