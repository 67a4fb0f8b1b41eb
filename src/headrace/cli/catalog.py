"""Shared by `apps` and `keys`: the catalog of a data folder, on which a server may be running."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.shared import BadUsage, log_to_stderr, settings_of

if TYPE_CHECKING:
    from headrace.main import Service
    from headrace.ports import App


@asynccontextmanager
async def installation(data: Path | None, *, create: bool = False) -> AsyncGenerator[Service]:
    """The service of a data folder, without a worker. BadUsage if there is no folder, unless `create`."""
    settings = settings_of(data=data)
    log_to_stderr("WARNING")
    if not create and not settings.data.is_dir():
        raise BadUsage(f"{settings.data}: no such folder. Serve a file first, or name another folder with --data.")

    from headrace.main import service

    async with service(settings, work=False) as running:
        yield running


async def find_app(running: Service, name: str) -> App:
    """The app with this id, file or name. BadUsage if there is none, or more than one."""
    return choose(await running.apps.catalog.apps(), name)


def choose(apps: Sequence[App], name: str) -> App:
    """As `find_app`, among these."""
    path = os.path.abspath(name)
    for matching in (
        [app for app in apps if app.id == name],
        [app for app in apps if app.source in (path, name)],
        [app for app in apps if app.name == name],
    ):
        if len(matching) == 1:
            return matching[0]
        if matching:
            these = ", ".join(f"{app.id} ({app.source})" for app in matching)
            raise BadUsage(f"'{name}' names {len(matching)} apps; choose one by its id: {these}")
    raise BadUsage(f"no app has the id, file or name '{name}' (see `headrace apps list`)")


def when(seconds: float) -> str:
    """A local time, to the second."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
