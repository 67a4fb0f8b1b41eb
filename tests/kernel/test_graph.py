"""Paths: made of containers, rounds and nodes, and taken apart into them again."""

import pytest

from headrace.kernel import graph


@pytest.mark.parametrize(
    ("rounds", "node"),
    [([], "llm"), ([("it", 3)], "llm"), ([("it", 3), ("loop", 0)], "end"), ([("a[1", 12)], "b[")],
)
def test_a_path_is_taken_apart_into_what_it_was_made_of(rounds: list[tuple[str, int]], node: str) -> None:
    prefix, containers = "", list[str]()
    for container, index in rounds:
        containers.append(prefix + container)
        prefix = graph.round_path(prefix + container, index)
    path = prefix + node
    assert graph.split(path) == (prefix, node)
    assert graph.node_of(path) == node
    assert graph.is_top_level(path) is (not rounds)
    assert graph.containers(path) == containers
    assert graph.rounds(path) == [(container, index) for container, (_, index) in zip(containers, rounds, strict=True)]
    assert all(graph.is_inside(path, container) for container in containers)
    assert not graph.is_inside(path, path)
