from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.certificates import Authority
from tests.cli.flows import knowledge_key
from tests.sdk_contract.dify_datasets import KNOWLEDGE_KEY
from tests.sdk_contract.dify_server import Dify, cases, key_of
from tests.sdk_contract.fault_server import fault_servers
from tests.sdk_contract.serving import Running
from tests.sdk_node import package
from tests.server.process import Serve

_FLOWS = package.ROOT / "tests" / "sdk_contract" / "flows"


@pytest.fixture(scope="package", autouse=True)
def node() -> Iterator[None]:
    if (reason := package.missing()) is not None:
        pytest.skip(reason)
    with package.alone():
        package.install()
        yield


@pytest.fixture(scope="package")
def tarball(node: None, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return package.pack(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="package")
def project(tarball: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A project of a user who has installed the package."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"name": "shop", "private": true}')
    package.check_run("npm", "install", "--offline", "--no-audit", "--no-fund", tarball, cwd=folder)
    return folder


@pytest.fixture(scope="package")
def headrace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("served")
    with Serve(folder, sorted(_FLOWS.glob("*.yml")), options=["--demo-model"]) as server:  # its demo model embeds
        server.keys["knowledge"] = knowledge_key(folder / "data")
        yield server


@pytest.fixture(scope="package")
def dify() -> Iterator[str]:
    with Running(Dify().app()) as server:
        yield server.url


@pytest.fixture(scope="package")
def faults() -> Iterator[str]:
    """Starts a fault server for each request."""
    with Running(fault_servers()) as server:
        yield server.url


@pytest.fixture(scope="package")
def outcomes(
    tarball: pathlib.Path, headrace: Serve, dify: str, faults: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str | None]:
    """What became of each test of the package (the tarball has been built, so it is)."""
    certificates = tmp_path_factory.mktemp("tls")
    authority = Authority(certificates)
    authority.issue("server")
    authority.issue("client")
    return package.outcomes(
        {
            "headrace": {
                "url": headrace.url,
                "apps": list(headrace.apps.values()),
                "knowledge_key": headrace.keys["knowledge"],
            },
            "dify": {"url": dify, "keys": {case: key_of(case) for case in cases()} | {"knowledge": KNOWLEDGE_KEY}},
            "faults": {"url": faults},
        },
        certificates,
    )
