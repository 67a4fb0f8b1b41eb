"""Recorded answers of a real Dify, replayed against a served Headrace."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.conformance import compare, peers
from tests.serve.process import Serve

RUNS = pathlib.Path(__file__).parent / "runs"
CASES = sorted(case.name for case in RUNS.iterdir())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    environ = {
        "OPENAI_API_COMPATIBLE_BASE_URL": "http://127.0.0.1:8901/v1",
        "OPENAI_API_COMPATIBLE_API_KEY": "none",
        "HEADRACE_EGRESS_ALLOW": "127.0.0.1:8900",
    }
    servers = peers.start()
    with Serve(tmp_path_factory.mktemp("served"), [RUNS / case / "dsl.yml" for case in CASES], environ) as serve:
        yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("case", CASES)
def test_the_recorded_answer(served: Serve, case: str):
    assert compare.replay(RUNS / case, served.url, served.keys[case]) is None
