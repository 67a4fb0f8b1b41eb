from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.flows import field, flow
from tests.server.process import Serve


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("served")
    with Serve(folder, [flow(folder / "echo.yml", variables=[field("query")])]) as serve:
        yield serve


@pytest.fixture(scope="package")
def description(server: Serve, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The description that the server gives of itself."""
    file = tmp_path_factory.mktemp("description") / "openapi.json"
    file.write_text(httpx.get(f"{server.url}/openapi.json", timeout=60).text)
    return file
