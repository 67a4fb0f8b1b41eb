from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.api.serving import Scripted, Serving, ask, boom, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Serving]:
    """A server with no apps yet."""
    async with serving(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def scripts() -> Generator[None]:
    """What scripted nodes do, fresh for every test."""
    Scripted.scripts.clear()
    Scripted.scripts.update(boom=boom, ask=ask)
    yield
    Scripted.scripts.clear()
