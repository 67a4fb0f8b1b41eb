"""Logs as JSON lines on stderr; each names the application and the environment."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
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


def configure(levels: Mapping[str, str], environment: str) -> None:
    """`levels`: by the name of a logger; "" is the root."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(environment))
    logging.basicConfig(handlers=[handler], force=True)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
