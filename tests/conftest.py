"""For all tests: none of them may make anybody log a key, and none may leave anything that goes on after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests import leftovers, logged

_LEFT = pytest.StashKey[list[str]]()

# A change is judged by the same examples each time; new ones are looked for wherever CI is not set.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "logs_secrets: logs what looks like a key, to see what becomes of it")
    logged.listen()
    leftovers.reset_signals()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    lines: list[str] = []
    if leftovers.kill_children(lines.append) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    session.config.stash[_LEFT] = lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_LEFT, []):
        terminalreporter.write_line(line, red=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    leftovers.watch_the_end(sys.__stderr__ or sys.stderr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    yield
    if nextitem is None or nextitem.path != item.path:
        leftovers.forget_applications()
    found = logged.revealing(logged.told())
    if item.get_closest_marker("logs_secrets") is None:
        assert not found, "a key or a secret was logged"
