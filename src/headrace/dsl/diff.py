"""What differs between two workflow files: nodes and their fields, edges, variables, features.

It looks at the values as they were written, so that files with unknown node types or with mistakes can be compared,
too. Where things stand on the canvas, and notes beside the graph, are no difference. Secrets are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast

from headrace.dsl.check import identifier, mapping
from headrace.dsl.redaction import SECRET, hidden, mask_of
from headrace.dsl.yaml_reader import Document
from headrace.kernel.graph import SOURCE
from headrace.kernel.secrets import SecretMask
from headrace.node import ContainerNode, Registry
from headrace.values import Value

Kind: TypeAlias = Literal["added", "removed", "changed"]

_APART = ("graph", "features", "environment_variables", "conversation_variables")  # of `workflow`: told by themselves
_SELECTED = frozenset({"selected"})  # in a node's data: who clicked on it last
_SIZES = frozenset({"width", "height"})  # in a container's data; other nodes may mean something by them
_NAMES = ("variable", "name", "key", "case_id", "id")  # by which items of a list are known again, the first that is fit
_PLAIN = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs. `field` is a path: `model.name`, `variables[query].required`, `prompt_template[0].text`.
    `before` means nothing where it was added, `after` where it was removed."""

    field: str
    kind: Kind
    before: Value = None
    after: Value = None

    def tell(self) -> dict[str, Value]:
        told: dict[str, Value] = {"field": self.field, "change": self.kind}
        if self.kind != "added":
            told["from"] = self.before
        if self.kind != "removed":
            told["to"] = self.after
        return told


@dataclass(frozen=True, slots=True)
class Thing:
    """A node or a variable: `about` names it (id, title, type; or name). `fields` only where it changed."""

    about: Mapping[str, str]
    fields: Sequence[Change] = ()

    def tell(self) -> dict[str, Value]:
        return {**self.about, **({"fields": [each.tell() for each in self.fields]} if self.fields else {})}


@dataclass(frozen=True, slots=True)
class Things:
    """What came, what went, and what is another than it was."""

    added: Sequence[Thing] = ()
    removed: Sequence[Thing] = ()
    changed: Sequence[Thing] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def tell(self) -> dict[str, Value]:
        parts = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        return {name: [each.tell() for each in things] for name, things in parts}


@dataclass(frozen=True, slots=True)
class Link:
    """An edge, as far as it matters."""

    source: str
    handle: str
    target: str

    def tell(self) -> dict[str, Value]:
        return {"source": self.source, "source_handle": self.handle, "target": self.target}


@dataclass(frozen=True, slots=True)
class Diff:
    """All that differs. False if nothing does. `app` has whatever else the files say, with whole paths."""

    nodes: Things
    edges_added: Sequence[Link]
    edges_removed: Sequence[Link]
    environment_variables: Things
    conversation_variables: Things
    features: Sequence[Change]
    app: Sequence[Change]

    def __bool__(self) -> bool:
        variables = self.environment_variables or self.conversation_variables
        return bool(self.nodes or self.edges_added or self.edges_removed or variables or self.features or self.app)

    def tell(self) -> dict[str, Value]:
        """As JSON has it."""
        return {
            "same": not self,
            "nodes": self.nodes.tell(),
            "edges": {
                "added": [each.tell() for each in self.edges_added],
                "removed": [each.tell() for each in self.edges_removed],
            },
            "environment_variables": self.environment_variables.tell(),
            "conversation_variables": self.conversation_variables.tell(),
            "features": [each.tell() for each in self.features],
            "app": [each.tell() for each in self.app],
        }


def diff(old: Document, new: Document, registry: Registry) -> Diff:
    """What was done to `old` that made it `new`."""
    containers = {name for name, cls in registry.items() if issubclass(cls, ContainerNode)}
    mask = mask_of(old.value, new.value)
    before, after = _File(old.value, containers), _File(new.value, containers)
    links = before.links(), after.links()
    return Diff(
        _masked(_things(before.nodes(), after.nodes()), mask),
        [each for each in links[1] if each not in links[0]],
        [each for each in links[0] if each not in links[1]],
        _masked(_things(before.variables("environment_variables"), after.variables("environment_variables")), mask),
        _masked(_things(before.variables("conversation_variables"), after.variables("conversation_variables")), mask),
        _hidden(_fields(before.features(), after.features(), ""), mask),
        _hidden(_fields(before.rest(), after.rest(), ""), mask),
    )


# ------------------------------------------------------------------------------------------------- what a file holds

_Known: TypeAlias = "dict[str, tuple[dict[str, str], dict[str, Value]]]"  # by its key: what names it, what it says


class _File:
    """A file's values, taken apart. What is not of the form it should be counts as not there."""

    def __init__(self, value: dict[str, Value], containers: Collection[str]) -> None:
        self._value = value
        self._containers = containers
        self._workflow = mapping(value.get("workflow")) or {}
        self._graph = mapping(self._workflow.get("graph")) or {}

    def nodes(self) -> _Known:
        known: _Known = {}
        for index, node in enumerate(_mappings(self._graph.get("nodes"))):
            data = mapping(node.get("data")) or {}
            if node.get("type") == "custom-note" or data.get("type") == "":
                continue
            id_ = identifier(node.get("id")) or f"(node {index + 1})"
            about = {"id": id_, "title": _text(data.get("title")), "type": _text(data.get("type"))}
            layout = _SELECTED | _SIZES if data.get("type") in self._containers else _SELECTED
            said = {key: item for key, item in data.items() if key not in layout and not key.startswith("_")}
            if parent := node.get("parentId"):
                said.setdefault("parentId", parent)
            known[_free(id_, known)] = (about, said)
        return known

    def links(self) -> dict[Link, None]:
        """In the order of the file; one that stands twice counts once."""
        return {
            Link(
                _text(identifier(edge.get("source"))),
                identifier(edge.get("sourceHandle")) or SOURCE,
                _text(identifier(edge.get("target"))),
            ): None
            for edge in _mappings(self._graph.get("edges"))
        }

    def variables(self, kind: str) -> _Known:
        known: _Known = {}
        for each in _mappings(self._workflow.get(kind)):
            name = _text(each.get("name"))
            said = {key: item for key, item in each.items() if key not in ("id", "name", "selector")}
            known[_free(name, known)] = ({"name": name}, said)
        return known

    def features(self) -> dict[str, Value]:
        return mapping(self._workflow.get("features")) or {}

    def rest(self) -> dict[str, Value]:
        if mapping(self._value.get("workflow")) is None:
            return self._value
        return {**self._value, "workflow": {key: self._workflow[key] for key in self._workflow if key not in _APART}}


def _mappings(value: Value) -> list[dict[str, Value]]:
    return [each for item in cast("list[Value]", value) if (each := mapping(item))] if isinstance(value, list) else []


def _text(value: Value) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _free(name: str, known: _Known) -> str:
    """A key that is not taken: of things with one name each is compared to its like in the order of the file."""
    key, count = name, 1
    while key in known:
        count += 1
        key = f"{name}\0{count}"
    return key


# ------------------------------------------------------------------------------------------------------- comparing


def _things(old: _Known, new: _Known) -> Things:
    return Things(
        [Thing(new[key][0]) for key in new if key not in old],
        [Thing(old[key][0]) for key in old if key not in new],
        [
            Thing(new[key][0], fields)
            for key in new
            if key in old and (fields := _said_otherwise(old[key][1], new[key][1]))
        ],
    )


def _said_otherwise(old: dict[str, Value], new: dict[str, Value]) -> list[Change]:
    """What differs in a node or a variable. Of a value that is or was a secret only that it differs is told."""
    secret = SECRET in (old.get("value_type"), new.get("value_type"))
    return [
        replace(each, before=hidden(each.before), after=hidden(each.after))
        if secret and re.match(r"value\b", each.field)
        else each
        for each in _fields(old, new, "")
    ]


def _fields(old: Value, new: Value, path: str) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _mapping_fields(cast("dict[str, Value]", old), cast("dict[str, Value]", new), path, _step)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_fields(cast("list[Value]", old), cast("list[Value]", new), path)
    elif not _equal(old, new):
        yield Change(path, "changed", old, new)


def _mapping_fields(
    old: Mapping[str, Value], new: Mapping[str, Value], path: str, step: Callable[[str, str], str]
) -> Iterator[Change]:
    for key in (*old, *(key for key in new if key not in old)):
        where = step(path, key)
        if key not in new:
            yield Change(where, "removed", old[key])
        elif key not in old:
            yield Change(where, "added", after=new[key])
        else:
            yield from _fields(old[key], new[key], where)


def _list_fields(old: list[Value], new: list[Value], path: str) -> Iterator[Change]:
    if not any(isinstance(each, dict | list) for each in (*old, *new)):
        if len(old) != len(new) or not all(map(_equal, old, new)):
            yield Change(path, "changed", old, new)  # a selector, a list of options: to be read as a whole
        return
    name = next((name for name in _NAMES if _named(old, name) and _named(new, name)), None)
    if name is not None:
        before, after = _by_name(old, name), _by_name(new, name)
        yield from _mapping_fields(before, after, path, _item)
        stood, stands = [key for key in before if key in after], [key for key in after if key in before]
        if stood != stands:
            yield Change(f"{path} (order)", "changed", cast("Value", stood), cast("Value", stands))
        return
    # what the lists begin and end with alike stays out, so that an item put between is one change
    shorter = min(len(old), len(new))
    head = next((i for i in range(shorter) if not _same(old[i], new[i])), shorter)
    rest = shorter - head
    tail = next((i for i in range(rest) if not _same(old[-1 - i], new[-1 - i])), rest)
    for index in range(head, max(len(old), len(new)) - tail):
        where = _item(path, str(index))
        if index >= len(new) - tail:
            yield Change(where, "removed", old[index])
        elif index >= len(old) - tail:
            yield Change(where, "added", after=new[index])
        else:
            yield from _fields(old[index], new[index], where)


def _named(items: list[Value], name: str) -> bool:
    """Whether every item has a name of this kind, and each another."""
    names = [_text((mapping(each) or {}).get(name)) for each in items]
    return all(names) and len(set(names)) == len(names)


def _by_name(items: list[Value], name: str) -> dict[str, Value]:
    return {_text(cast("dict[str, Value]", each)[name]): each for each in items}


def _equal(old: Value, new: Value) -> bool:
    """As JSON would see it: true is not 1, but 1.0 is; and a NaN is like another."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    return old == new or (old != old and new != new)


def _same(old: Value, new: Value) -> bool:
    """Whether nothing below differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast("dict[str, Value]", old), cast("dict[str, Value]", new)
        return before.keys() == after.keys() and all(_same(before[key], after[key]) for key in before)
    if isinstance(old, list) and isinstance(new, list):
        items = cast("list[Value]", old), cast("list[Value]", new)
        return len(items[0]) == len(items[1]) and all(map(_same, *items))
    return _equal(old, new)


def _step(path: str, key: str) -> str:
    if not _PLAIN.fullmatch(key):
        return _item(path, repr(key))
    return f"{path}.{key}" if path else key


def _item(path: str, key: str) -> str:
    return f"{path}[{key}]"


# ---------------------------------------------------------------------------------------------------------- hiding


def _hidden(changes: Iterator[Change] | Sequence[Change], mask: SecretMask) -> list[Change]:
    return [
        Change(mask.text(each.field), each.kind, mask.value(each.before), mask.value(each.after)) for each in changes
    ]


def _masked(things: Things, mask: SecretMask) -> Things:
    def told(all_: Sequence[Thing]) -> list[Thing]:
        return [
            Thing({key: mask.text(name) for key, name in each.about.items()}, _hidden(each.fields, mask))
            for each in all_
        ]

    return Things(told(things.added), told(things.removed), told(things.changed))
