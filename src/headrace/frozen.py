"""Dataclasses of which many are created for each run.

`dataclass(frozen=True)` sets every field through `object.__setattr__`, and `dict[str, Value]` as a default factory goes
through the alias of a type: together they make an event five times as expensive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, as type checkers see it. At run time assignments are not rejected."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


# default factories of fields of any type
new_dict: Callable[[], dict[Any, Any]] = dict
new_list: Callable[[], list[Any]] = list
new_set: Callable[[], set[Any]] = set
