"""Frozen dataclasses compare, hash and print as those of the standard library do, although they share the methods."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any

import pytest

from headrace.frozen import frozen, new_list


@frozen
class Point:
    x: int
    y: int = 0
    secret: str = field(default="", repr=False)
    seen: list[str] = field(default_factory=new_list, compare=False)


@dataclass(frozen=True, slots=True)
class Standard:
    x: int
    y: int = 0
    secret: str = field(default="", repr=False)
    seen: list[str] = field(default_factory=new_list, compare=False)


@frozen
class Pixel(Point):
    color: str = "red"


@frozen
class Nothing:
    pass


@frozen
class Named:
    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and self.name.lower() == other.name.lower()

    def __hash__(self) -> int:
        return hash(self.name.lower())

    def __repr__(self) -> str:
        return self.name


def test_it_compares_by_the_fields_that_are_compared() -> None:
    assert Point(1, 2, "a") == Point(1, 2, "a", ["seen"])
    assert Point(1, 2, "a") != Point(1, 2, "b")
    assert Nothing() == Nothing()
    assert Nothing() != Point(1)


def test_it_equals_no_object_of_another_class() -> None:
    assert Point(1) != Pixel(1)
    assert Pixel(1) != Pixel(1, color="blue")
    assert Point(1) != (1, 0, "", [])


def test_equal_ones_have_one_hash() -> None:
    assert len({Point(1, 2), Point(1, 2, seen=["once"]), Point(1, 3), Nothing(), Nothing()}) == 3


def test_one_with_a_list_to_compare_has_no_hash() -> None:
    made: Any = frozen(make_dataclass("Listed", [("values", list)]))
    with pytest.raises(TypeError, match="unhashable"):
        hash(made([1]))


def test_it_prints_as_the_standard_librarys_do() -> None:
    assert repr(Point(1, 2, "hidden", ["x"])) == repr(Standard(1, 2, "hidden", ["x"])).replace("Standard", "Point")
    assert repr(Nothing()) == "Nothing()"


def test_one_that_contains_itself_prints() -> None:
    point = Point(1)
    point.seen.append(point)  # type: ignore[arg-type]
    assert repr(point) == "Point(x=1, y=0, seen=[...])"


def test_the_methods_that_a_class_defines_are_kept() -> None:
    assert Named("A") == Named("a")
    assert len({Named("A"), Named("a")}) == 1
    assert repr(Named("A")) == "A"


def test_it_has_slots_and_can_be_copied() -> None:
    point = Point(1, 2, "a", ["x"])
    assert not hasattr(point, "__dict__")
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == replace(point, y=2) == point
