"""Runs plugins: each in one process, which is started when it is first needed and stopped when it is idle."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from headrace.adapters.plugins.backwards import DEPTH, Backwards, Caller, Handler
from headrace.adapters.plugins.confine import PASSED_PATHS, Plan, arguments, environment, interpreter_folders
from headrace.adapters.plugins.installed import InstalledPlugin
from headrace.adapters.plugins.limits import PluginLimits
from headrace.adapters.plugins.process import HOST_ERROR, Command, PluginError, PluginProcess
from headrace.adapters.plugins.protocol import SessionEvent, request
from headrace.background import back_off
from headrace.ids import new_id
from headrace.values import Value

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between a crash and the next start
_MOST_CALLS_BACK = 1000  # of one call, at once
_TEMPORARY_SECONDS = 24 * 3600.0  # after which temporary files are removed
_FAILURES = 2  # in a row, after which calls fail until the next start is due


class PluginHost:
    """Calls plugins. `data` has a folder for each, with what it keeps and its home; `handlers` answer their calls
    back."""

    def __init__(
        self, data: Path, handlers: Mapping[str, Handler], environ: Mapping[str, str], limits: PluginLimits
    ) -> None:
        self._data = data
        self._backwards = Backwards(handlers)
        self._environ = environ
        self._limits = limits
        self.runners: dict[Path, Runner] = {}
        self._is_closed = False

    async def call(
        self, plugin: InstalledPlugin, data: Mapping[str, Value], caller: Caller, secrets: Iterable[str] = ()
    ) -> AsyncGenerator[Mapping[str, Value]]:
        """The objects that a plugin answers a request with. `secrets` are masked in errors and logs. PluginError if the
        call fails; closing the generator stops it."""
        if self._is_closed:
            raise PluginError("Headrace is shutting down.")
        runner = self.runners.setdefault(plugin.path, Runner(plugin, self._start, self._limits.idle))
        tasks = set[asyncio.Task[None]]()
        async with runner.process() as process:
            session = process.open(new_id(), secrets)
            deadline = asyncio.get_running_loop().time() + self._limits.seconds
            try:
                await process.send(request(session.id, data, caller.context.app))
                while True:
                    event = await session.next(deadline, self._limits.seconds)
                    match event.type:
                        case "stream":
                            yield event.data
                        case "end":
                            runner.failures = 0
                            return
                        case "error":
                            runner.failures = 0
                            raise _error(event, process)
                        case "invoke":
                            if len(tasks) >= _MOST_CALLS_BACK:
                                raise PluginError(f"The plugin calls back more than {_MOST_CALLS_BACK} times at once.")
                            answer = self._backwards.answer(
                                plugin, event, caller, process.send, is_model=data.get("type") == "model"
                            )
                            _answer_in_background(answer, tasks)
                        case _:
                            raise PluginError(f"The plugin sent an event of an unknown type: {event.type[:100]!r}")
            finally:
                for task in tasks:
                    task.cancel()
                process.close(session)

    async def aclose(self) -> None:
        """Ends all processes."""
        self._is_closed = True
        await asyncio.gather(*(runner.aclose() for runner in self.runners.values()))

    def home(self, plugin: InstalledPlugin) -> Path:
        """The folder that a plugin may write to."""
        return self._data / plugin.id.author / plugin.id.name / "home"

    async def _start(self, plugin: InstalledPlugin, on_end: Callable[[PluginError], None]) -> PluginProcess:
        if not plugin.python.exists():
            problem = f"The Python of the plugin {plugin.id} is missing"
            raise PluginError(f"{problem}: run `headrace plugins add {plugin.id}`.")
        home = self.home(plugin)
        temporary = home / "tmp"
        await asyncio.to_thread(_prepare, temporary)
        paths = filter(None, map(self._environ.get, PASSED_PATHS))
        plan = Plan(
            python=str(plugin.python),
            module=plugin.manifest.entrypoint,
            readable=(str(plugin.folder), *interpreter_folders(plugin.python), *paths),
            home=str(home),
            memory=self._limits.memory,
            server=os.getpid(),
        )
        variables = environment(home, temporary, plugin.python, self._environ)
        return await PluginProcess.start(plugin.id.plugin, Command(arguments(plan), variables, plugin.folder), on_end)


class Runner:
    """The process of one plugin: started when it is needed, also after a crash, and stopped when it is idle.

    Calls in progress when it crashes fail; the next one starts it again, after a pause. After two crashes without a
    call that succeeded, calls fail with the last error until the pause, which grows, is over. `failures` counts the
    crashes.
    """

    def __init__(
        self,
        plugin: InstalledPlugin,
        start: Callable[[InstalledPlugin, Callable[[PluginError], None]], Coroutine[Any, Any, PluginProcess]],
        idle: float,
    ) -> None:
        self.failures = 0
        self._plugin = plugin
        self._start = start
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self.current: PluginProcess | None = None
        self._processes = set[PluginProcess]()  # the current one, and older ones that have yet to end
        self._starting: asyncio.Task[PluginProcess] | None = None
        self._stopping = set[asyncio.Task[None]]()
        self._error: PluginError | None = None
        self._next_start = 0.0
        self._calls = 0
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def process(self) -> AsyncGenerator[PluginProcess]:
        """The process, for the duration of a call. PluginError if it cannot be started."""
        self._calls += 1
        if self._timer is not None:
            self._timer.cancel()
        try:
            yield await self._usable()
        finally:
            self._calls -= 1
            if not self._calls:
                self._timer = self._loop.call_later(self._idle, self._stop_idle)

    async def aclose(self) -> None:
        """Ends the processes."""
        if self._timer is not None:
            self._timer.cancel()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await asyncio.gather(*(process.stop() for process in self._processes), *self._stopping)
        self._processes.clear()

    async def _usable(self) -> PluginProcess:
        if self.current is not None and self.current.is_usable:
            return self.current
        if self._error is not None and self.failures >= _FAILURES and self._loop.time() < self._next_start:
            raise self._error
        if self._starting is None:
            self._starting = asyncio.create_task(self._started(), name=f"plugin {self._plugin.id}")
            self._starting.add_done_callback(_mark_as_seen)
        return await asyncio.shield(self._starting)  # also for others

    async def _started(self) -> PluginProcess:
        try:
            await asyncio.sleep(self._next_start - self._loop.time())
            self.current = await self._start(self._plugin, self._on_crash)
        except PluginError as error:
            self._on_crash(error)
            raise
        finally:
            self._starting = None
        self._processes = {self.current, *(process for process in self._processes if not process.is_over)}
        return self.current

    def _on_crash(self, error: PluginError) -> None:
        self.failures += 1
        self._error = error
        self._next_start = self._loop.time() + back_off(self.failures, _FIRST_PAUSE, _LONGEST_PAUSE)

    def _stop_idle(self) -> None:
        process, self.current = self.current, None
        if process is not None:
            task = asyncio.create_task(process.stop(), name=f"end of plugin {self._plugin.id}")
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


def _prepare(temporary: Path) -> None:
    """Creates a plugin's folder of temporary files, or removes old files from it."""
    temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    old = time.time() - _TEMPORARY_SECONDS
    for path in temporary.iterdir():
        if path.lstat().st_mtime < old:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _mark_as_seen(task: asyncio.Task[PluginProcess]) -> None:
    """An error that nobody waits for any more is not reported by asyncio."""
    if not task.cancelled():
        task.exception()


def _answer_in_background(answer: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    """Answers a call back in a task that knows how deep it is nested."""
    context = contextvars.copy_context()
    context.run(DEPTH.set, DEPTH.get() + 1)
    task = asyncio.create_task(answer, context=context)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _error(event: SessionEvent, process: PluginProcess) -> PluginError:
    """The error that a plugin reports. Its text may contain the credentials."""
    details: Any = event.data.get("args")
    if isinstance(details, dict) and (traceback := cast("dict[str, Any]", details).get("traceback")):
        process.log(logging.DEBUG, str(traceback))
    type_ = str(event.data.get("error_type") or HOST_ERROR)
    return PluginError(process.mask(str(event.data.get("message", ""))), type_)
