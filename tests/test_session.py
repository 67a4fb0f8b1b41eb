"""The suite itself: what a session inherits is not passed on, and a failure ends it, whatever the test leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPATIENT = """
from tests import leftovers
leftovers.GRACE = leftovers.WORKER_GRACE = 1.0
leftovers.PATIENCE = 0.5
"""
SERVER = """
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from tests.background import serving

def test_it():
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, name="forgotten").start()
    raise AssertionError("by force")
"""
PROCESS = """
import subprocess, sys

LEFT = []

def test_it():
    LEFT.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
"""
FIXTURES = """
import pytest, subprocess, sys
from pathlib import Path
from tests.background import child, serving
from tests.conformance import peers
from tests.native.counting import counting
from tests.sdk_contract.serving import Running
from tests.server.gated import FLOW, Peer, peer
from tests.server.process import Serve
from aiohttp import web

def test_a_server(peer: Peer):
    raise AssertionError("by force")

def test_counting():
    with counting():
        raise AssertionError("by force")

def test_recorded():
    with peers.started():
        raise AssertionError("by force")

def test_an_application():
    with Running(web.Application()):
        raise AssertionError("by force")

def test_a_process():
    with child([sys.executable, "-c", "import time; time.sleep(600)"]):
        raise AssertionError("by force")

def test_a_served_workflow(tmp_path: Path, peer: Peer):
    flow = tmp_path / "flow.yml"
    flow.write_text(FLOW.format(url=f"http://{peer.address}"))
    with Serve(tmp_path, [flow], {"HEADRACE_EGRESS_ALLOW": peer.address}):
        raise AssertionError("by force")
"""
SIGNALS = """
import subprocess, sys

def test_it():
    handled = "signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    program = f"import signal; print({handled}, signal.pthread_sigmask(0, []))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "True set()\\n"
"""
DYING = """
import os, pytest, warnings

def test_before():
    print("before")
    assert False

@pytest.mark.filterwarnings("default")
def test_it():
    warnings.warn("to be seen")
    os._exit(7)

@pytest.mark.parametrize("number", range(3))
@pytest.mark.filterwarnings("default")
def test_after(number, tmp_path):
    warnings.warn("about this")
    assert list(tmp_path.iterdir()) == []
"""


def session(
    folder: Path, test: str, *before: str, workers: int = 0, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """A session of this one test file, that is to end soon, whatever is left."""
    file = folder / "test_it.py"
    file.write_text(test)
    (folder / "impatient.py").write_text(IMPATIENT)
    plugins = ["-p", "impatient", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    # tests.conftest, which is no plugin of the suite, is imported before pytest can rewrite what it imports
    quiet = ["-q", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    command = [*before, sys.executable, "-m", "pytest", *plugins, *quiet, "-c", "pyproject.toml", f"-n{workers}"]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [*command, *options, str(file)], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_thread_that_a_failure_leaves_is_named_and_ends_with_the_session(tmp_path: Path, workers: int):
    done = session(tmp_path, SERVER, workers=workers)
    assert done.returncode == 1
    assert "AssertionError: by force" in done.stdout
    reported = done.stdout if workers else done.stderr
    assert "LEFT BEHIND: thread forgotten keeps the process:" in reported
    assert "serve_forever" in reported


@pytest.mark.parametrize("workers", [0, 1])
def test_a_process_that_is_left_is_named_and_killed(tmp_path: Path, workers: int):
    done = session(tmp_path, PROCESS, workers=workers)
    assert (done.returncode, "1 passed" in done.stdout) == (1, True)
    assert "LEFT BEHIND: process " in done.stdout
    assert "import time; time.sleep(600)" in done.stdout


def test_what_the_suite_serves_with_ends_with_a_test_that_fails(tmp_path: Path):
    done = session(tmp_path, FIXTURES)
    assert (done.returncode, "6 failed" in done.stdout) == (1, True), done.stdout
    assert "LEFT BEHIND" not in done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="NOT TESTED: signals, on Windows")
def test_signals_that_are_ignored_or_blocked_are_so_no_more(tmp_path: Path):
    block = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [2]); signal.signal(2, signal.SIG_IGN); "
    done = session(tmp_path, SIGNALS, sys.executable, "-c", block + "os.execv(sys.argv[1], sys.argv[1:])")
    assert done.returncode == 0, done.stdout


def test_a_test_that_ends_its_process_is_named_and_the_others_are_run(tmp_path: Path):
    done = session(tmp_path, DYING, workers=2)
    assert (done.returncode, "2 failed, 3 passed, 3 warnings" in done.stdout) == (1, True), done.stdout
    assert "::test_it - the process that ran this test ended with code 7" in done.stdout
    assert "Captured stdout call" in done.stdout
    assert "UserWarning: about this" in done.stdout


def test_the_first_failure_ends_a_session_of_several_processes_if_wanted(tmp_path: Path):
    done = session(tmp_path, DYING, workers=2, options=["-x"])
    assert done.returncode == 2, done.stdout
    assert "1 failed" in done.stdout
    assert "stopping after 1 failures" in done.stdout
