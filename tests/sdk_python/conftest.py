from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cli.flows import knowledge_key
from tests.sdk_contract.dify_server import Dify
from tests.sdk_contract.fault_server import Faults
from tests.sdk_contract.serving import Running
from tests.sdk_python.clients import Fault, Maker
from tests.server.process import Serve

_FLOWS = pathlib.Path(__file__).parent.parent / "sdk_contract" / "flows"
_RECORDED = pathlib.Path(__file__).parent.parent / "conformance" / "runs"


@pytest.fixture(scope="package")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    files = [
        *sorted(_FLOWS.glob("*.yml")),
        *(_RECORDED / name / "dsl.yml" for name in ("19_chain20_template", "16_fail_code")),
    ]
    folder = tmp_path_factory.mktemp("served")
    with Serve(folder, files, options=["--demo-model"]) as server:  # its demo model embeds
        server.keys["knowledge"] = knowledge_key(folder / "data")
        yield server


@pytest.fixture(scope="package")
def dify() -> Iterator[str]:
    with Running(Dify().app()) as server:
        yield server.url


def _faults(upstream: str | None) -> Iterator[Fault]:
    with Running(Faults(upstream).app()) as server:
        fault = Fault(server.url)
        yield fault
        fault.close()


@pytest.fixture(scope="package")
def fault() -> Iterator[Fault]:
    """A fault server without an upstream."""
    yield from _faults(None)


@pytest.fixture(scope="package")
def faulty_headrace(headrace: Serve) -> Iterator[Fault]:
    yield from _faults(headrace.url)


@pytest.fixture(scope="package")
def faulty_dify(dify: str) -> Iterator[Fault]:
    yield from _faults(dify)


@pytest.fixture(params=["sync", "async"])
async def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Maker]:
    for name in ("API_KEY", "API_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    maker = Maker(request.param)
    yield maker
    await maker.close()
