"""For all tests: none of them may make anybody log a key, and none may leave anything that goes on after it."""

from __future__ import annotations

import functools
import gc
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest
from httpx import _config as httpx_config
from httpx._transports import default as httpx_transports
from httpx2._transports import default as httpx2_transports
from hypothesis import HealthCheck, settings
from starlette import routing as starlette_routing

from tests import forking, leftovers, logged, parallel, sqlite
from tests.postgresql import partitioned_url as partitioned_url
from tests.postgresql import pgvector_url as pgvector_url
from tests.postgresql import postgresql_server as postgresql_server
from tests.postgresql import postgresql_url as postgresql_url
from tests.s3 import s3 as s3
from tests.s3 import s3_server as s3_server
from tests.temporal_server import temporal_server as temporal_server
from tests.valkey import valkey_server as valkey_server

# Folders whose fixtures are expensive and last for the session: one process runs each, and begins it early.
WHOLE = ("product_studio", "sdk_node", "deploy", "temporal", "third_party")
LONG = (
    *WHOLE,
    "soak",
    "console",
    "oidc",
    "tests",
    "openapi_clients",
    "server",
    "sandbox",
    "telemetry",
    "cli",
    "sdk_python",
    "documents",
)

_REPORT = pytest.StashKey[Path]()
_LEFT = pytest.StashKey[list[str]]()

# Each client of httpx's reads the certificates of all authorities, in 40 ms: once is enough.
for _transports in (httpx_transports, httpx2_transports):
    _transports.create_ssl_context = functools.cache(_transports.create_ssl_context)
# A thousand apps are made, each with the same hundred and seventy routes.
starlette_routing.compile_path = functools.cache(starlette_routing.compile_path)
# Five seconds are not enough for a server on a busy machine.
for _phase in ("connect", "read", "write", "pool"):
    setattr(httpx_config.DEFAULT_TIMEOUT_CONFIG, _phase, 60.0)

# On a busy machine an example may take long: that is no failure. A change is judged by the same examples each time; new
# ones are looked for wherever CI is not set.
settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("headrace"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "headrace")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "logs_secrets: logs what looks like a key, to see what becomes of it")
    gc.disable()
    logged.listen()
    leftovers.reset_signals()
    share_caches()
    sqlite.copy_new_databases()
    handle, name = tempfile.mkstemp(prefix="headrace-leftovers-")
    os.close(handle)
    config.stash[_REPORT] = Path(name)


def share_caches() -> None:
    """The tests start hundreds of processes: none of them is to compile everything anew, or to check the same types."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["MYPY_CACHE_DIR"] = str(Path(__file__).parents[1] / "build" / "mypy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parallel.add_option(parser)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """What takes long is begun early: it is not to come last."""
    groups: dict[Path, list[int]] = defaultdict(list)
    for index, item in enumerate(session.items):
        folder = item.path.parent
        groups[folder if folder.name in WHOLE else item.path].append(index)

    def order(group: list[int]) -> int:
        folder = session.items[group[0]].path.parent.name
        return LONG.index(folder) if folder in LONG else len(LONG)

    return parallel.run(session, sorted(groups.values(), key=order))


def pytest_collection_finish() -> None:
    """What is loaded by now, thousands of tests, stays: the collector does not traverse it while they are loaded, and
    never again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    forking.close()
    report = session.config.stash[_REPORT]
    with report.open("a", encoding="utf-8") as file:
        leftovers.kill_children(lambda line: print(line, file=file, flush=True))
    if parallel.is_worker(session.config):
        return
    session.config.stash[_LEFT] = report.read_text("utf-8").splitlines()
    report.unlink()
    if session.config.stash[_LEFT] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = [report for report in terminalreporter.getreports("skipped") if "product_studio" in report.nodeid]
    for reason, count in Counter(report.longrepr[2] for report in skipped).items():
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(f"Product Studio's page was not driven in a browser: {reason} ({count} tests).")
    for line in config.stash.get(_LEFT, []):
        terminalreporter.write_line(line, red=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if parallel.is_worker(config):
        # closed with the process
        leftovers.watch_the_end(config.stash[_REPORT].open("a", encoding="utf-8"), leftovers.WORKER_GRACE)
    else:
        leftovers.watch_the_end(sys.__stderr__ or sys.stderr, leftovers.GRACE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    yield
    revealing = logged.revealing(logged.take_lines())
    if item.get_closest_marker("logs_secrets") is None:
        assert not revealing, "a key or a secret was logged"
