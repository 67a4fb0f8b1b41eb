from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases.peer import Peer
from tests.cli.flows import knowledge_key
from tests.server.process import Serve

FLOWS = Path(__file__).parent / "flows"


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Peer() as peer:
        environ = {
            "OPENAI_API_COMPATIBLE_API_KEY": "none",
            "OPENAI_API_COMPATIBLE_BASE_URL": f"{peer.url}/v1",
        }
        folder = tmp_path_factory.mktemp("served")
        with Serve(folder, sorted(FLOWS.glob("*.yml")), environ) as serve:
            serve.keys["knowledge"] = knowledge_key(folder / "data")
            yield serve
