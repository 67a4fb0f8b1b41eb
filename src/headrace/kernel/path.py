"""Paths: the names of a run's nodes. This is the only module that knows how they are written.

The path of a top-level node is its id. `it[3]/llm` is the node `llm` in round 3 of the container `it`; containers nest:
`it[3]/loop[0]/llm`. A path that ends in `]/` (`it[3]/`) names the round itself and is the prefix of all paths in it.
"""

from __future__ import annotations

from typing import TypeAlias

NodeId: TypeAlias = str
Path: TypeAlias = str

ROUND_END = "]/"
"""Ends the part of a path that names a round; no node id contains it (see `dsl.check`)."""


def is_top_level(path: Path) -> bool:
    return ROUND_END not in path


def split(path: Path) -> tuple[Path, NodeId]:
    """(the round that the node is in, the node's id); the round is empty at the top level."""
    round_, end, node = path.rpartition(ROUND_END)
    return round_ + end, node


def node_of(path: Path) -> NodeId:
    """The id of the node that a path ends with."""
    return path.rpartition(ROUND_END)[2]


def round_path(container: Path, index: int) -> Path:
    """The path of a container's round."""
    return f"{container}[{index}{ROUND_END}"


def rounds(path: Path) -> list[tuple[Path, int]]:
    """The rounds that a path leads through, as (container, index), the outermost first."""
    found: list[tuple[Path, int]] = []
    end = path.find(ROUND_END)
    while end >= 0:
        begin = path.rindex("[", 0, end)
        found.append((path[:begin], int(path[begin + 1 : end])))
        end = path.find(ROUND_END, end + 1)
    return found


def containers(path: Path) -> list[Path]:
    """The containers that a path leads through, the outermost first."""
    return [container for container, _ in rounds(path)]


def is_inside(path: Path, container: Path) -> bool:
    """Whether a path leads through a round of this container."""
    return path.startswith(f"{container}[")
