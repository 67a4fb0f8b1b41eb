"""For all tests: none of them may make anybody log a key."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests import logged


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "logs_secrets: logs what looks like a key, to see what becomes of it")
    logged.listen()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    found = logged.revealing(logged.told())
    if item.get_closest_marker("logs_secrets") is None:
        assert not found, "a key or a secret was logged"
