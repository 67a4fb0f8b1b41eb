"""Makes a case smaller as long as it still differs in the same way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from oracle.case import Case

MOST_TRIES = 150
_SHORTENED = frozenset({"value", "text", "answer", "instruction"})


def shrink(case: Case, differs: Callable[[Case], bool], tries: int = MOST_TRIES) -> Case:
    """The smallest case found for which `differs` still holds, asked at most `tries` times."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(case):
            if tries <= 0:
                return case
            tries -= 1
            if differs(candidate):
                case, smaller = candidate, True
                break
    return case


def _candidates(case: Case) -> Iterator[Case]:
    """Cases that are a little smaller, those that lack most first."""
    graph = case.document["workflow"]["graph"]
    for node in graph["nodes"]:
        if node["data"]["type"] not in ("start", "end", "answer") and not node["data"]["type"].endswith("-start"):
            yield _without(case, node["id"])
    for name, value in case.inputs.items():
        if value is not None:
            yield Case(case.document, {**case.inputs, name: None})
    for path in _removable(case.document["workflow"], ()):
        yield _changed(case, path, remove=True)
    for path, value in _simpler(case.document["workflow"], ()):
        yield _changed(case, path, value=value)


def _without(case: Case, node: str) -> Case:
    """The case without a node and all that is inside it; what followed it follows what came before it."""
    document = copy.deepcopy(dict(case.document))
    graph = document["workflow"]["graph"]
    removed_nodes = {node}
    for item in graph["nodes"]:
        if item.get("parentId") in removed_nodes:
            removed_nodes.add(item["id"])
    before = [edge for edge in graph["edges"] if edge["target"] == node]
    after = [
        edge["target"] for edge in graph["edges"] if edge["source"] == node and edge["target"] not in removed_nodes
    ]
    edges = [
        edge for edge in graph["edges"] if edge["source"] not in removed_nodes and edge["target"] not in removed_nodes
    ]
    keys = {(edge["source"], edge["sourceHandle"], edge["target"]) for edge in edges}
    types = {item["id"]: item["data"]["type"] for item in graph["nodes"]}
    for edge in before:
        for target in dict.fromkeys(after):
            if (key := (edge["source"], edge["sourceHandle"], target)) not in keys:
                keys.add(key)
                data = {**edge["data"], "targetType": types[target]}
                edges.append({**edge, "id": "-".join(key), "target": target, "data": data})
    graph["nodes"] = [item for item in graph["nodes"] if item["id"] not in removed_nodes]
    graph["edges"] = edges
    return Case(document, case.inputs)


_Path = tuple[str | int, ...]


def _removable(value: Any, path: _Path) -> Iterator[_Path]:
    """The items of lists (but for nodes and edges)."""
    match value:
        case dict():
            for name, item in value.items():
                yield from _removable(item, (*path, name))
        case list():
            for index, item in enumerate(value):
                if path[-1] not in ("nodes", "edges", "value_selector", "variable_selector"):
                    yield (*path, index)
                yield from _removable(item, (*path, index))
        case _:
            return


def _simpler(value: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """Halves in place of texts."""
    match value:
        case dict():
            for name, item in value.items():
                yield from _simpler(item, (*path, name))
        case list():
            for index, item in enumerate(value):
                if path[-1] != "edges":
                    yield from _simpler(item, (*path, index))
        case str() if len(value) > 1 and path[-1] in _SHORTENED:
            half = len(value) // 2
            yield from ((path, part) for part in (value[:half], value[half:]))
        case _:
            return


def _changed(case: Case, path: _Path, *, value: Any = None, remove: bool = False) -> Case:
    document: dict[str, Any] = copy.deepcopy(dict(case.document))
    holder: Any = document["workflow"]
    for step in path[:-1]:
        holder = holder[step]
    if remove:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return Case(document, case.inputs)
