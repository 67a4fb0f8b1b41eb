"""What the suite logs: no line of it may hold a key or a secret. `tests/conftest.py` looks at every line of this
process, `Serve` and `Server` at those of the servers that they start.

A line of this process is looked at as it was meant, before anything is scrubbed: our code is not to rely on that. A
server's is looked at as it was written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from headrace.telemetry.scrubbing import secrets_in

_FORMS = re.compile(
    r"\b(?:app|ws)-[A-Za-z0-9_-]{32}(?![A-Za-z0-9_-])"  # a key
    r"|\bwhsec_[A-Za-z0-9+/]{24,}"  # what callbacks are signed with
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"  # a signed JWT
    r"|\bBearer [A-Za-z0-9._~+/-]{16,}"
    r"|[?&]sign=[A-Za-z0-9_=-]{16,}"  # opens a file
)
_WELCOME = re.compile(r"    (?:key|call)   ?\S")  # is told on purpose, to who has started the server, and is no log
_library = logging.getLogRecordFactory()
_records: list[tuple[logging.LogRecord, str]] = []


def listen() -> None:
    """Every record that is made in this process is kept, until `told` asks for it."""

    def logged_record(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = _library(*arguments, **named)
        stack = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        _records.append((record, stack))
        return record

    logging.setLogRecordFactory(logged_record)


def take_lines() -> list[str]:
    """What has been logged since the last call: each record with all that it says."""
    lines = [f"{record.getMessage()} {vars(record)} {stack}" for record, stack in _records]
    _records.clear()
    return lines


def secrets_of(environ: Mapping[str, str], files: Iterable[str | Path] = ()) -> set[str]:
    """What a server is not to log: secrets of its environment, and of the workflow files it serves."""
    secrets = secrets_in(environ)
    for file in files:
        path = Path(file)
        if path.suffix in (".yml", ".yaml") and path.is_file():
            document = yaml.safe_load(path.read_text("utf-8"))
            variables = (document.get("workflow") or {}).get("environment_variables") or []
            secrets |= {str(variable["value"]) for variable in variables if variable.get("value_type") == "secret"}
    return {secret for secret in secrets if len(secret) >= 8}


def revealing(lines: Iterable[str], secrets: Iterable[str] = ()) -> list[str]:
    """The lines that hold a key or a secret."""
    known = list(secrets)
    return [
        line
        for line in lines
        if not _WELCOME.match(line) and (_FORMS.search(line) or any(secret in line for secret in known))
    ]
