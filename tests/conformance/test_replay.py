"""Recorded answers of a real Dify, replayed against a served Headrace."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.conformance import compare, peers
from tests.server.process import Serve

RUNS = pathlib.Path(__file__).parent / "runs"
CASES = sorted(case.name for case in RUNS.iterdir())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serve, pathlib.Path]]:
    """A server of all cases, and the folder of the cases as they are with the peers of this test."""
    folder = tmp_path_factory.mktemp("served")
    with peers.started() as started:
        files = [started.rewritten(RUNS / case, folder / "runs") / "dsl.yml" for case in CASES]
        with Serve(folder, files, started.environ) as serve:
            yield serve, folder / "runs"


@pytest.mark.parametrize("case", CASES)
def test_the_recorded_answer(server: tuple[Serve, pathlib.Path], case: str):
    serve, runs = server
    assert compare.replay(runs / case, serve.url, serve.keys[case]) is None
