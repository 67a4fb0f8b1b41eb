"""Log lines: JSON objects, or columns for a terminal. Everything that this process logs passes through here, and is
scrubbed of secrets.

A line has `time` (ISO 8601, UTC), `level`, `logger` and `event`; `run`, `app`, `node` and `request_id` where they are
known; what the caller passed as `extra`; and the `exception` with its stack. A record may have several lines: `entries`
in `extra`, pairs of a text and what it says as items, which only JSON has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
from click import style

from headrace.telemetry.scrubbing import Scrubber

RUN: ContextVar[tuple[str, str] | None] = ContextVar("run", default=None)
"""(run, app) that a task works on; the tasks it starts inherit it."""
REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
"""The id of the request that a task answers."""

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NODE_TASK = re.compile(rf"({_UUID})/(.+)", re.DOTALL)  # the name of the task in which a driver runs a node
_RUN_IN_TEXT = re.compile(rf"\brun ({_UUID})\b")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
_OWN = frozenset({"time", "level", "logger", "run", "app"})  # made by Headrace: they contain no secrets
_COLORS = {"warning": "yellow", "error": "red", "critical": "red"}


def write_logs(level: str, form: str, scrubber: Scrubber, stream: TextIO | None = None) -> None:
    """From now on the logs of this process go to a stream (stderr). `level` is DEBUG, INFO, WARNING or ERROR; `form` is
    json or console, which has colors on a terminal unless NO_COLOR is set."""
    handler = logging.StreamHandler(stream or sys.stderr)
    colors = handler.stream.isatty() and not os.environ.get("NO_COLOR")
    handler.setFormatter(LineFormatter(form, scrubber, colors=colors))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # Headrace itself reports that it has started
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the caller learns what is wrong with a form


class LineFormatter(logging.Formatter):
    """Makes one line of a log record. `form` is json or console."""

    def __init__(self, form: str, scrubber: Scrubber, *, colors: bool = False) -> None:
        super().__init__()
        self._has_items = form == "json"
        self._render = _json if form == "json" else _colored if colors else _plain
        self._scrubber = scrubber

    def format(self, record: logging.LogRecord) -> str:
        head: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        entries: Sequence[tuple[str, Mapping[str, Any]]] | None = getattr(record, "entries", None)
        if entries is not None:
            return "\n".join(
                self._line({**head, "event": text, **(items if self._has_items else {})}) for text, items in entries
            )
        event = record.getMessage()
        line = {
            **head,
            "event": event,
            **dict(_context(event)),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return self._line(line)

    def _line(self, line: Mapping[str, Any]) -> str:
        scrubber = self._scrubber.value
        return self._render({name: value if name in _OWN else scrubber(value) for name, value in line.items()})


def _json(line: Mapping[str, Any]) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")


def _plain(line: Mapping[str, Any]) -> str:
    """Columns. Text of a caller must neither pass for a line of its own nor control the terminal."""
    rest = dict(line)
    stacks = [str(rest.pop(name)) for name in ("exception", "stack") if name in rest]
    head = f"{rest.pop('time')} [{rest.pop('level'):<8}] {_escaped(rest.pop('event'))}  [{rest.pop('logger')}]"
    return "\n".join([" ".join([head, *(f"{name}={_escaped(value)}" for name, value in rest.items())]), *stacks])


def _colored(line: Mapping[str, Any]) -> str:
    head, newline, stacks = _plain(line).partition("\n")
    return style(head, fg=_COLORS.get(line["level"])) + newline + stacks


def _escaped(value: object) -> str:
    return _CONTROL.sub(lambda control: control[0].encode("unicode_escape").decode(), str(value))


def _context(event: str) -> Iterator[tuple[str, str]]:
    """The request, run and node that the line belongs to, as the current task and the text name them."""
    if (request := REQUEST.get()) is not None:
        yield "request_id", request
    if (run := RUN.get()) is not None:
        yield "run", run[0]
        yield "app", run[1]
    if (node := _NODE_TASK.fullmatch(_task_name())) is not None:
        if run is None:
            yield "run", node[1]
        yield "node", node[2]
    elif run is None and (match := _RUN_IN_TEXT.search(event)) is not None:
        yield "run", match[1]


def _task_name() -> str:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return ""
    return task.get_name() if task else ""
