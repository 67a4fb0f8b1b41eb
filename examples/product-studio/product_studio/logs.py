"""Logs as JSON lines on stderr; each names the application and the environment."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

APPLICATION = "product-studio"
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """What is given as `extra` becomes fields."""

    def __init__(self, environment: str) -> None:
        super().__init__()
        self._environment = environment

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "application": APPLICATION,
            "environment": self._environment,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str, environment: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(environment))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if level != "DEBUG":
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for every request
