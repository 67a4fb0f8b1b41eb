"""Lines of log: JSON objects, or columns for a terminal. All that the standard library's loggers are told goes through
here, and nothing leaves unscrubbed.

A line has `time` (ISO 8601, UTC), `level`, `logger` and `event`, and where they are known `run`, `app`, `node` and
`request_id`; `exception` has the stack.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO

import orjson
import structlog

from headrace.telemetry.scrubbing import Scrubber

RUN: ContextVar[tuple[str, str] | None] = ContextVar("run", default=None)
"""(run, app) that a task works on; the tasks it starts inherit it."""
REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
"""The id of the request that a task answers."""

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NODE_TASK = re.compile(rf"({_UUID})/(.+)", re.DOTALL)  # what a driver calls the task of a node
_NAMES_A_RUN = re.compile(rf"\brun ({_UUID})\b")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FIRST = ("time", "level", "logger", "event", "request_id", "run", "app", "node")
_OWN = ("_record", "_from_structlog")  # the library's, on their way through


def write_logs(level: str, form: str, scrubber: Scrubber, stream: TextIO | None = None) -> None:
    """Logs of this process go to a stream (stderr) from now on. `level` is DEBUG, INFO, WARNING or ERROR; `form` is
    json or console."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(form, scrubber, colors=handler.stream.isatty()))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level.upper() != "DEBUG":
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # that it has started, we say ourselves


def formatter(form: str, scrubber: Scrubber, *, colors: bool = False) -> logging.Formatter:
    """Makes lines of the standard library's log records. `form` is json or console."""

    def scrubbed(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        ordered = {name: event[name] for name in _FIRST if name in event}
        ordered |= {name: value for name, value in event.items() if name not in ordered and name not in _OWN}
        told = {name: scrubber.value(value) for name, value in ordered.items()}
        if form != "json":  # a caller's path must not pass for a line of its own, nor speak to the terminal
            told["event"] = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(told["event"]))
        return told

    if form == "json":
        renderer: Any = structlog.processors.JSONRenderer(serializer=_json)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors,
            timestamp_key="time",
            sort_keys=False,
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,  # a pretty one would show local variables
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _placed,
        ],
        processors=[structlog.processors.format_exc_info, scrubbed, renderer],
    )


def _json(event: Mapping[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8", "replace")


def _placed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Adds where it happened: told by the task that logs, and by the text."""
    if (request := REQUEST.get()) is not None:
        event.setdefault("request_id", request)
    if (run := RUN.get()) is not None:
        event.setdefault("run", run[0])
        event.setdefault("app", run[1])
    if (found := _NODE_TASK.fullmatch(_task())) is not None:
        event.setdefault("run", found[1])
        event.setdefault("node", found[2])
    elif (named := _NAMES_A_RUN.search(str(event["event"]))) is not None:
        event.setdefault("run", named[1])
    return event


def _task() -> str:
    """The name of the task that runs."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return ""
    return task.get_name() if task else ""
