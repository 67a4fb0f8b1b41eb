"""Dataclasses that are never changed.

`dataclass(frozen=True)` sets every field through `object.__setattr__`, and `dict[str, Value]` as a default factory goes
through the alias of a type: together they make an event five times as expensive. It also generates six methods for each
class when its module is imported, where one does: all but `__init__` can be shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, as type checkers see it. At run time assignments are not rejected."""
    defined = set(vars(cls))
    frozen_class: Any = dataclass(slots=True, repr=False, eq=False)(cls)
    compared = [one.name for one in fields(frozen_class) if one.compare]
    frozen_class.__compared__ = attrgetter(*(compared or ["__class__"]))
    for name, method in _SHARED.items():
        if name not in defined:
            setattr(frozen_class, name, method)
    return frozen_class


def _equal(self: Any, other: object) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__compared__(self) == self.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({shown})"


_SHARED: dict[str, Callable[..., Any]] = {"__eq__": _equal, "__hash__": _hash, "__repr__": _repr}


# default factories of fields of any type
new_dict: Callable[[], dict[Any, Any]] = dict
new_list: Callable[[], list[Any]] = list
new_set: Callable[[], set[Any]] = set
