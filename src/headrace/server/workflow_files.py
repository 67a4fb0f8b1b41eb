"""The workflow files that a server publishes: at its start, and when they change."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from headrace.apps.catalog import Release
from headrace.background import Periodic
from headrace.cache import FileState, file_state
from headrace.errors import LoadError, Problem
from headrace.frozen import frozen
from headrace.main import Service

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".yml", ".yaml", ".ifpkg"})
"""Of the workflow files in a folder."""
_SECONDS = 0.5  # between two looks at the files; a change is published once it is the same in two of them


@frozen
class WorkflowFile:
    """A file to serve. `name` identifies its app instead of the path."""

    path: Path
    name: str | None = None


@frozen
class WorkflowFolder:
    """A folder to serve. With a `name`, its files' apps are identified by that and their own name, not their path."""

    path: Path
    name: str | None = None


def files_in(folders: Iterable[WorkflowFolder], named_files: Iterable[WorkflowFile] = ()) -> list[WorkflowFile]:
    """The workflow files in folders, by name; not those in folders inside, nor hidden ones, nor those that are
    `named_files` besides."""
    others = {os.path.abspath(file.path) for file in named_files}
    return [
        WorkflowFile(path, folder.name and f"{folder.name}/{path.name}")
        for folder in folders
        for path in sorted(folder.path.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        if os.path.abspath(path) not in others
    ]


async def publish_all(
    running: Service, files: Sequence[WorkflowFile], folders: Sequence[WorkflowFolder]
) -> list[tuple[Path, Release]]:
    """Publishes files, and those of folders. LoadError if a file that was named cannot be loaded; one of a folder is
    reported, and the others are served."""
    releases: list[tuple[Path, Release]] = []
    problems: list[Problem] = []
    for file in files:
        try:
            releases.append((file.path, await running.publish(file.path, file.name)))
        except LoadError as error:
            problems += [Problem(f"{error.source}: {problem}") for problem in error.problems]
    if problems:
        raise LoadError("serve", problems)
    for file in files_in(folders, files):
        try:
            releases.append((file.path, await running.publish(file.path, file.name)))
        except LoadError as error:
            _log_problems("%s is not published: %s", file.path, error)
    return releases


class Watch:
    """Publishes files that change after this was made, and new files of folders. `on_published` gets the path, what it
    has become, and whether the app is new. Unless the files are `published` at the start, those that have changed since
    they were are published, too.

    It looks at the files again and again, because notifications of the system are not sent for every kind of mount.
    """

    def __init__(
        self,
        running: Service,
        files: Sequence[WorkflowFile],
        folders: Sequence[WorkflowFolder],
        *,
        published: bool = True,
    ) -> None:
        self._running = running
        self._files = files
        self._folders = folders
        self._unreadable: set[Path] = set()
        self._published_states = self._states() if published else {}
        self._last_states: dict[WorkflowFile, FileState | None] = {}
        self._missing: set[WorkflowFile] = set()

    async def run(self, on_published: Callable[[Path, Release, bool], Awaitable[None]]) -> None:
        """Looks at the files until cancelled."""
        await Periodic("watching workflow files", lambda: self._look(on_published), _SECONDS).run()

    def _states(self) -> dict[WorkflowFile, FileState | None]:
        files = [*self._files]
        for folder in self._folders:
            try:
                files += files_in([folder], self._files)
            except OSError as error:  # what was served stays, and the other files are watched
                if folder.path not in self._unreadable:
                    logger.error("%s cannot be read: %s", folder.path, error.strerror)
                self._unreadable.add(folder.path)
            else:
                self._unreadable.discard(folder.path)
        return {file: file_state(file.path) for file in files}

    async def _look(self, on_published: Callable[[Path, Release, bool], Awaitable[None]]) -> None:
        states = await asyncio.to_thread(self._states)  # a mount may be slow
        for file, state in states.items():
            if state is None or state == self._published_states.get(file):
                continue
            if state != self._last_states.get(file):
                self._last_states[file] = state  # it may still be written
                continue
            publication = await self._publish(file)
            self._published_states[file] = state  # not before: a failure of the database is tried again
            if publication is not None:
                await on_published(file.path, *publication)
        self._report_missing(states)

    def _report_missing(self, states: Mapping[WorkflowFile, FileState | None]) -> None:
        """Says once that a deleted file stays served: its app has keys and runs, and a mount may have failed."""
        missing = {
            file
            for file in self._published_states
            if states.get(file) is None and file.path.parent not in self._unreadable
        }
        for file in missing & self._missing:  # at the first look, an editor may be replacing it
            del self._published_states[file]
            logger.warning("%s was deleted; its app stays served until `headrace apps remove` removes it", file.path)
        self._missing = missing

    async def _publish(self, file: WorkflowFile) -> tuple[Release, bool] | None:
        """(what the file has become, whether its app is new); None if nothing changed."""
        apps = self._running.apps
        before = {app.id: app.version for app in await apps.catalog.apps()}
        try:
            release = await self._running.publish(file.path, file.name)
        except LoadError as error:
            _log_problems("%s is not published, and what was served before stays: %s", file.path, error)
            return None
        has_changed = before.get(release.app.id) != release.version.id
        return (release, release.app.id not in before) if has_changed else None


def _log_problems(message: str, path: Path, error: LoadError) -> None:
    logger.error(message, path, "; ".join(map(str, error.problems)))
