"""Servers of other projects that tests start, each from a package."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

T = TypeVar("T")


@contextmanager
def or_skipped(name: str, serving: Callable[[], AbstractContextManager[T]]) -> Generator[T]:
    """A server; the test is skipped where `serving` cannot start it, which it says by an OSError."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(serving())
        except OSError as error:
            pytest.skip(f"{name} was not tested: its server cannot be started: {error}")
        yield server
