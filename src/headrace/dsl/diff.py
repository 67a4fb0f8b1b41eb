"""The differences between two workflow files: nodes and their fields, edges, variables, features.

The values are compared as written, so that files with unknown node types or mistakes can be compared, too. Positions on
the canvas and notes beside the graph are not compared. Secrets are masked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, cast

from headrace.dsl.check import identifier, mapping
from headrace.dsl.redaction import SECRET, hidden, mask_of
from headrace.dsl.yaml_reader import Document
from headrace.frozen import frozen
from headrace.kernel.graph import SOURCE
from headrace.kernel.secrets import SecretMask
from headrace.node import ContainerNode, Registry
from headrace.values import Value

Kind: TypeAlias = Literal["added", "removed", "changed"]

_APART = ("graph", "features", "environment_variables", "conversation_variables")  # of `workflow`: compared separately
_SELECTED = frozenset({"selected"})  # in a node's data: who clicked on it last
_SIZES = frozenset({"width", "height"})  # in a container's data; other nodes may mean something by them
_NAMES = ("variable", "name", "key", "case_id", "id")  # identify the items of a list: the first one that all items have
_PLAIN = re.compile(r"[\w-]+")


@frozen
class Change:
    """One field that differs. `field` is a path: `model.name`, `variables[query].required`, `prompt_template[0].text`.
    `before` is unused if it was added, `after` if it was removed."""

    field: str
    kind: Kind
    before: Value = None
    after: Value = None

    def to_json(self) -> dict[str, Value]:
        change: dict[str, Value] = {"field": self.field, "change": self.kind}
        if self.kind != "added":
            change["from"] = self.before
        if self.kind != "removed":
            change["to"] = self.after
        return change


@frozen
class Element:
    """A node or a variable: `about` identifies it (id, title, type; or name). `fields` only if it changed."""

    about: Mapping[str, str]
    fields: Sequence[Change] = ()

    def to_json(self) -> dict[str, Value]:
        return {**self.about, **({"fields": [change.to_json() for change in self.fields]} if self.fields else {})}


@frozen
class ElementDiff:
    """The nodes, or variables, that were added, removed and changed."""

    added: Sequence[Element] = ()
    removed: Sequence[Element] = ()
    changed: Sequence[Element] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def to_json(self) -> dict[str, Value]:
        parts = (("added", self.added), ("removed", self.removed), ("changed", self.changed))
        return {name: [element.to_json() for element in elements] for name, elements in parts}


@frozen
class Link:
    """An edge without its id."""

    source: str
    handle: str
    target: str

    def to_json(self) -> dict[str, Value]:
        return {"source": self.source, "source_handle": self.handle, "target": self.target}


@frozen
class Diff:
    """All differences; falsy if there are none. `app` has those of the rest of the file, with full paths."""

    nodes: ElementDiff
    edges_added: Sequence[Link]
    edges_removed: Sequence[Link]
    environment_variables: ElementDiff
    conversation_variables: ElementDiff
    features: Sequence[Change]
    app: Sequence[Change]

    def __bool__(self) -> bool:
        variables = self.environment_variables or self.conversation_variables
        return bool(self.nodes or self.edges_added or self.edges_removed or variables or self.features or self.app)

    def to_json(self) -> dict[str, Value]:
        return {
            "same": not self,
            "nodes": self.nodes.to_json(),
            "edges": {
                "added": [link.to_json() for link in self.edges_added],
                "removed": [link.to_json() for link in self.edges_removed],
            },
            "environment_variables": self.environment_variables.to_json(),
            "conversation_variables": self.conversation_variables.to_json(),
            "features": [change.to_json() for change in self.features],
            "app": [change.to_json() for change in self.app],
        }


def diff(old: Document, new: Document, registry: Registry) -> Diff:
    """The changes from `old` to `new`."""
    containers = {name for name, cls in registry.items() if issubclass(cls, ContainerNode)}
    mask = mask_of(old.value, new.value)
    before, after = _File(old.value, containers), _File(new.value, containers)
    old_links, new_links = before.links(), after.links()
    environment = _compare(before.variables("environment_variables"), after.variables("environment_variables"))
    conversation = _compare(before.variables("conversation_variables"), after.variables("conversation_variables"))
    return Diff(
        _masked(_compare(before.nodes(), after.nodes()), mask),
        [link for link in new_links if link not in old_links],
        [link for link in old_links if link not in new_links],
        _masked(environment, mask),
        _masked(conversation, mask),
        _masked_changes(_fields(before.features(), after.features(), ""), mask),
        _masked_changes(_fields(before.rest(), after.rest(), ""), mask),
    )


# ---------------------------------------------------------------------------------------------- elements of a file

_Elements: TypeAlias = "dict[str, tuple[dict[str, str], dict[str, Value]]]"  # (about, fields) by key


class _File:
    """The elements of a file. Values of a wrong type count as missing."""

    def __init__(self, value: dict[str, Value], containers: Collection[str]) -> None:
        self._value = value
        self._containers = containers
        self._workflow = mapping(value.get("workflow")) or {}
        self._graph = mapping(self._workflow.get("graph")) or {}

    def nodes(self) -> _Elements:
        elements: _Elements = {}
        for index, node in enumerate(_mappings(self._graph.get("nodes"))):
            data = mapping(node.get("data")) or {}
            if node.get("type") == "custom-note" or data.get("type") == "":
                continue
            id_ = identifier(node.get("id")) or f"(node {index + 1})"
            about = {"id": id_, "title": _text(data.get("title")), "type": _text(data.get("type"))}
            layout = _SELECTED | _SIZES if data.get("type") in self._containers else _SELECTED
            fields = {key: item for key, item in data.items() if key not in layout and not key.startswith("_")}
            if parent := node.get("parentId"):
                fields.setdefault("parentId", parent)
            elements[_unused(id_, elements)] = (about, fields)
        return elements

    def links(self) -> dict[Link, None]:
        """In the order of the file, without duplicates."""
        return {
            Link(
                _text(identifier(edge.get("source"))),
                identifier(edge.get("sourceHandle")) or SOURCE,
                _text(identifier(edge.get("target"))),
            ): None
            for edge in _mappings(self._graph.get("edges"))
        }

    def variables(self, kind: str) -> _Elements:
        elements: _Elements = {}
        for variable in _mappings(self._workflow.get(kind)):
            name = _text(variable.get("name"))
            fields = {key: item for key, item in variable.items() if key not in ("id", "name", "selector")}
            elements[_unused(name, elements)] = ({"name": name}, fields)
        return elements

    def features(self) -> dict[str, Value]:
        return mapping(self._workflow.get("features")) or {}

    def rest(self) -> dict[str, Value]:
        if mapping(self._value.get("workflow")) is None:
            return self._value
        return {**self._value, "workflow": {key: self._workflow[key] for key in self._workflow if key not in _APART}}


def _mappings(value: Value) -> list[dict[str, Value]]:
    items = cast("list[Value]", value) if isinstance(value, list) else []
    return [entry for item in items if (entry := mapping(item))]


def _text(value: Value) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _unused(name: str, elements: _Elements) -> str:
    """An unused key: elements of the same name are compared in the order of the file."""
    key, count = name, 1
    while key in elements:
        count += 1
        key = f"{name}\0{count}"
    return key


# ------------------------------------------------------------------------------------------------------- comparing


def _compare(old: _Elements, new: _Elements) -> ElementDiff:
    return ElementDiff(
        [Element(new[key][0]) for key in new if key not in old],
        [Element(old[key][0]) for key in old if key not in new],
        [
            Element(new[key][0], changes)
            for key in new
            if key in old and (changes := _changes(old[key][1], new[key][1]))
        ],
    )


def _changes(old: dict[str, Value], new: dict[str, Value]) -> list[Change]:
    """The changes in a node or a variable, without the values of secrets."""
    secret = SECRET in (old.get("value_type"), new.get("value_type"))
    return [
        replace(change, before=hidden(change.before), after=hidden(change.after))
        if secret and re.match(r"value\b", change.field)
        else change
        for change in _fields(old, new, "")
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
    if not any(isinstance(item, dict | list) for item in (*old, *new)):
        if len(old) != len(new) or not all(map(_equal, old, new)):
            yield Change(path, "changed", old, new)  # a selector or a list of options, shown as a whole
        return
    name = next((name for name in _NAMES if _named(old, name) and _named(new, name)), None)
    if name is not None:
        before, after = _by_name(old, name), _by_name(new, name)
        yield from _mapping_fields(before, after, path, _item)
        old_order, new_order = [key for key in before if key in after], [key for key in after if key in before]
        if old_order != new_order:
            yield Change(f"{path} (order)", "changed", cast("Value", old_order), cast("Value", new_order))
        return
    # the common beginning and end are skipped, so that an inserted item is one change
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
    """Whether every item has a value of this key, and all are different."""
    names = [_text((mapping(item) or {}).get(name)) for item in items]
    return all(names) and len(set(names)) == len(names)


def _by_name(items: list[Value], name: str) -> dict[str, Value]:
    return {_text(cast("dict[str, Value]", item)[name]): item for item in items}


def _equal(old: Value, new: Value) -> bool:
    """Equality in JSON: true is not 1, but 1.0 is; NaN equals NaN."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    return old == new or (old != old and new != new)


def _same(old: Value, new: Value) -> bool:
    """Deep equality."""
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


# --------------------------------------------------------------------------------------------------------- masking


def _masked_changes(changes: Iterator[Change] | Sequence[Change], mask: SecretMask) -> list[Change]:
    return [
        Change(mask.text(change.field), change.kind, mask.value(change.before), mask.value(change.after))
        for change in changes
    ]


def _masked(diff: ElementDiff, mask: SecretMask) -> ElementDiff:
    def masked(elements: Sequence[Element]) -> list[Element]:
        return [
            Element(
                {key: mask.text(name) for key, name in element.about.items()}, _masked_changes(element.fields, mask)
            )
            for element in elements
        ]

    return ElementDiff(masked(diff.added), masked(diff.removed), masked(diff.changed))
