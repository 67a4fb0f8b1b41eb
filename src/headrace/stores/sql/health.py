"""Whether the database can be read and written: as the last reads and writes went.

It is logged once when the database goes and once when it is back, however many callers notice.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

logger = logging.getLogger(__name__)

Access = Literal["read", "written"]


class Health:
    """Outcomes of reads and writes, from any thread. `name` is the database's, without its password."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failing: dict[Access, str] = {}  # with the reason
        self._since = 0.0
        self._lock = threading.Lock()

    @property
    def problem(self) -> str | None:
        """Why the database cannot be read or written just now, as it says itself; None where it can."""
        with self._lock:
            return next(iter(self._failing.values()), None)

    def succeeded(self, access: Access) -> None:
        if not self._failing:  # on the path of every commit
            return
        with self._lock:
            if self._failing.pop(access, None) is None or self._failing:
                return
            seconds = time.monotonic() - self._since
        logger.warning("%s can be read and written again, after %.0f s", self._name, seconds)

    def failed(self, access: Access, reason: str) -> None:
        """A read or write failed for what the database is to blame for."""
        with self._lock:
            first = not self._failing
            self._failing[access] = reason
            if first:
                self._since = time.monotonic()
        if first:
            logger.error("%s cannot be %s, and is tried again until it can: %s", self._name, access, reason)
