"""When a call of a model may begin: at once, or within limits (`concurrency.ModelLimits`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeAlias

Slot: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[None]]
"""A call of a provider's model takes place within it."""


def unlimited(provider: str, model: str) -> AbstractAsyncContextManager[None]:
    return nullcontext()
