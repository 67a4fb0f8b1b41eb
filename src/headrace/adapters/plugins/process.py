"""A running plugin: a process that serves any number of requests at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from headrace.adapters.plugins.protocol import LONGEST_LINE, Heartbeat, Lines, Log, SessionEvent, output_of
from headrace.errors import HeadraceError
from headrace.frozen import frozen
from headrace.kernel.secrets import SecretMask

logger = logging.getLogger(__name__)

HOST_ERROR = "PluginDaemonInnerError"  # Dify's name for failures that are not the plugin's own
START_SECONDS = 120.0  # until the first heartbeat
HEARTBEAT_SECONDS = 120.0  # after which a silent process counts as dead
STOP_SECONDS = 3.0  # until a process that does not end is killed
LARGEST_RESULT = 128 * 1024 * 1024  # bytes of all lines of a call
MOST_DROPPED = 500  # sessions that have not ended although nobody waits for them; a plugin serves 1000 at once
_DROPPED_SECONDS = 10.0  # that such a session may take to end once nothing else uses the process
_LOGGED_LINE = 4096  # bytes
_LOGGED_LINES = 1000  # a minute
_SHOWN_LINES = 5  # of stderr in an error message
_OUT, _ERR = 1, 2


class PluginError(HeadraceError):
    """A call failed. `error_type` is the name of the plugin's exception, or `HOST_ERROR`."""

    def __init__(self, message: str, error_type: str = HOST_ERROR) -> None:
        self.error_type = error_type
        super().__init__(message)


@frozen
class Command:
    """How a plugin is started. `folder` is the working directory."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


class Session:
    """A request in progress: its events, in order. `has_ended`: the plugin has sent all of them, read or not."""

    __slots__ = ("_events", "_size", "has_ended", "id")

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.has_ended = False
        self._events = asyncio.Queue[SessionEvent | PluginError]()
        self._size = 0

    def put(self, event: SessionEvent | PluginError) -> None:
        if isinstance(event, SessionEvent):
            self.has_ended = self.has_ended or event.type == "end"
            self._size += event.size
            if self._size > LARGEST_RESULT:
                event = PluginError(f"The plugin's result is larger than {LARGEST_RESULT} bytes.")
        self._events.put_nowait(event)

    async def next(self, deadline: float, seconds: float) -> SessionEvent:
        """The next event. PluginError if the process has ended, or none comes before the deadline."""
        if self._events.empty():
            try:
                async with asyncio.timeout_at(deadline):
                    event = await self._events.get()
            except TimeoutError:
                raise PluginError(f"The plugin did not finish within {seconds:g} s.") from None
        else:
            event = self._events.get_nowait()
        if isinstance(event, PluginError):
            raise event
        return event


class PluginProcess(asyncio.SubprocessProtocol):
    """The process of a plugin. `start` returns it once it is ready. `on_end` is called when it ends
    by itself after that."""

    def __init__(self, name: str, on_end: Callable[[PluginError], None]) -> None:
        self.is_over = False
        self.ended = asyncio.Event()
        self._name = name
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.SubprocessTransport | None = None
        self._sessions: dict[str, Session] = {}
        self.dropped: set[str] = set()
        self._output, self._errors = Lines(LONGEST_LINE), Lines(_LOGGED_LINE)
        self._last_lines = deque[str](maxlen=_SHOWN_LINES)
        self._lines_logged, self._minute = 0, 0
        self._secrets: set[str] = set()
        self._mask = SecretMask(())
        self._is_stopping = False
        self._problem = ""  # why it is being killed
        self._last_sign_at = self._loop.time()
        self._can_write = asyncio.Event()
        self._can_write.set()

    @classmethod
    async def start(
        cls, name: str, command: Command, on_end: Callable[[PluginError], None] = lambda error: None
    ) -> PluginProcess:
        """Starts a plugin. PluginError, with its last words, if it ends before it is ready, or takes too long."""
        loop = asyncio.get_running_loop()
        try:
            _, process = await loop.subprocess_exec(
                lambda: cls(name, on_end),
                *command.arguments,
                env=dict(command.environment),
                cwd=command.folder,
                start_new_session=True,  # a process group of its own, which is killed as a whole
            )
        except OSError as error:
            raise PluginError(f"The plugin {name} cannot be started: {error}") from error
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(process._ready)
        except TimeoutError:
            process.kill(f"did not become ready within {START_SECONDS:g} s")
            await process.ended.wait()
            raise process._error() from None
        except asyncio.CancelledError:
            process.kill("is not needed any more", expected=True)
            await process.ended.wait()
            raise
        return process

    # ------------------------------------------------------------------------------------------------- requests

    @property
    def is_usable(self) -> bool:
        """Whether it takes further requests."""
        return not (self.is_over or self._is_stopping or len(self.dropped) >= MOST_DROPPED)

    def open(self, session: str, secrets: Iterable[str] = ()) -> Session:
        """Begins to collect the events of a session. `secrets` are masked in what is logged from now on."""
        if self.is_over:
            raise self._error()
        new = {secret for secret in secrets if secret} - self._secrets
        if new:
            self._secrets |= new
            self._mask = SecretMask(self._secrets)
        new_session = self._sessions[session] = Session(session)
        return new_session

    async def send(self, line: bytes) -> None:
        """Writes a line, and waits while the plugin has too much to read. PluginError if the process has ended."""
        stdin = self._transport.get_pipe_transport(0) if self._transport is not None else None
        if self.is_over or stdin is None or stdin.is_closing():
            raise self._error()
        cast("asyncio.WriteTransport", stdin).write(line)
        if not self._can_write.is_set():
            await self._can_write.wait()

    def close(self, session: Session) -> None:
        """Ends the interest in a session. The protocol cannot stop one: if it does not end by itself soon after the
        process is needed for nothing else, the process is killed."""
        self._sessions.pop(session.id, None)
        if not session.has_ended and not self.is_over:
            self.dropped.add(session.id)
        if self.dropped and not self._sessions:
            self._loop.call_later(_DROPPED_SECONDS, self._kill_dropped)

    def mask(self, text: str) -> str:
        """The text without the secrets that the plugin knows."""
        return self._mask.text(text)

    def log(self, level: int, message: str) -> None:
        """Logs a line, without secrets, as long as there are not too many."""
        minute = int(self._loop.time() // 60)
        if minute != self._minute:
            self._lines_logged, self._minute = 0, minute
        self._lines_logged += 1
        if self._lines_logged <= _LOGGED_LINES:
            logger.log(level, "plugin %s: %s", self._name, self.mask(message[:_LOGGED_LINE]))
        elif self._lines_logged == _LOGGED_LINES + 1:
            logger.warning("plugin %s: further lines of this minute are not logged", self._name)

    # ------------------------------------------------------------------------------------------------- the end

    async def stop(self) -> None:
        """Ends the process and all that it started."""
        self._is_stopping = True
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.ended.wait()
        except TimeoutError:
            self._kill()
            await self.ended.wait()

    def kill(self, problem: str, *, expected: bool = False) -> None:
        """Kills it. `expected`: this is not a failure of the plugin."""
        self._problem = problem
        self._is_stopping = self._is_stopping or expected
        self._kill()

    def _kill_dropped(self) -> None:
        if self.dropped and not self._sessions and not self.is_over:
            logger.warning("plugin %s: killed, because it does not finish a call that was stopped", self._name)
            self.kill("did not finish a call that was stopped", expected=True)

    def _kill(self) -> None:
        """Has it killed by the process that supervises it, which knows what it has started."""
        self._signal(signal.SIGHUP, group=False)
        self._loop.call_later(STOP_SECONDS, self._signal, signal.SIGKILL)

    def _signal(self, number: signal.Signals, *, group: bool = True) -> None:
        """Sends a signal to the process group, which has the process's id as its own, or to the process alone."""
        pid = self._transport.get_pid() if self._transport is not None else None
        if pid is None or self.is_over:
            return
        try:
            os.kill(-pid if group else pid, number)
        except ProcessLookupError:
            pass  # nothing is left of it
        except PermissionError:
            logger.error("plugin %s: process %s may not be ended", self._name, pid)

    def _error(self) -> PluginError:
        """Why it has ended, with the last lines of its stderr."""
        code = self._transport.get_returncode() if self._transport is not None else None
        how = self._problem or ("ended" if code is None else _ending(code))
        last = "\n".join(self._last_lines)
        return PluginError(f"The plugin {self._name} {how}{f': {last}' if last else '.'}")

    def _finish(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        error = self._error()
        self._can_write.set()
        for session in self._sessions.values():
            session.put(error)
        if not self._ready.done():
            self._ready.set_exception(error)
        if self._transport is not None:
            self._transport.close()
        self.ended.set()
        if self._ready.exception() is None and not self._is_stopping:
            logger.warning("%s", error)
            self._on_end(error)

    # ------------------------------------------------------------------------------------- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._loop.call_later(HEARTBEAT_SECONDS, self._check_heartbeat)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._last_sign_at = self._loop.time()
        if fd == _OUT:
            for line, size in self._output.feed(data):
                self._on_output(output_of(line, size))
        elif fd == _ERR:
            for line, _ in self._errors.feed(data):
                text = self._mask.text(line.decode(errors="replace"))
                self._last_lines.append(text)
                self.log(logging.INFO, text)

    def process_exited(self) -> None:
        """What it started must not outlive it, nor keep its pipes open, even if what supervises it was killed."""
        self._signal(signal.SIGKILL)
        self._loop.call_later(STOP_SECONDS, self._finish)  # should something keep the pipes open nevertheless

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and all that it wrote is read."""
        self._finish()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A plugin without its pipes is of no use."""
        if fd == _OUT and not self.is_over:
            self._loop.call_later(STOP_SECONDS, self._kill)

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def _on_output(self, output: Any) -> None:
        match output:
            case SessionEvent(id_, type_):
                if (session := self._sessions.get(id_)) is not None:
                    session.put(output)
                elif type_ == "end":
                    self.dropped.discard(id_)
            case Heartbeat():
                if not self._ready.done():
                    self._ready.set_result(None)
            case Log(level, message):
                number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
                self.log(number, message)
            case _:
                pass

    def _check_heartbeat(self) -> None:
        if self.is_over:
            return
        silent = self._loop.time() - self._last_sign_at
        if silent >= HEARTBEAT_SECONDS:
            self.kill(f"has not sent a heartbeat for {HEARTBEAT_SECONDS:g} s")
        else:
            self._loop.call_later(HEARTBEAT_SECONDS - silent, self._check_heartbeat)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
