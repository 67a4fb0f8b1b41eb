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
    made = prefix + node
    assert graph.split(made) == (prefix, node)
    assert graph.node_of(made) == node
    assert graph.is_top_level(made) is (not rounds)
    assert graph.containers(made) == containers
    assert graph.rounds(made) == [(container, index) for container, (_, index) in zip(containers, rounds, strict=True)]
    assert all(graph.is_inside(made, container) for container in containers)
    assert not graph.is_inside(made, made)
