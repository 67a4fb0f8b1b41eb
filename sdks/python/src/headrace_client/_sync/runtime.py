"""What is another thing in the asynchronous half."""

from __future__ import annotations

from threading import Lock
from time import sleep

__all__ = ["Lock", "sleep"]
