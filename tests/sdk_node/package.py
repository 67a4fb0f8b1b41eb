"""The package of the Node SDK: installed, built and packed once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
SDK = ROOT / "sdks" / "node"
_HERE = pathlib.Path(__file__).parent
_STAMP = SDK / "node_modules" / ".installed"


def missing() -> str | None:
    """Why the package cannot be tested here; None if it can."""
    lacking = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"THE NODE SDK IS NOT TESTED: there is no {' and no '.join(lacking)} on PATH" if lacking else None


def run(
    *command: str | pathlib.Path, cwd: pathlib.Path = SDK, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def check_run(*command: str | pathlib.Path, cwd: pathlib.Path = SDK, environ: Mapping[str, str] | None = None) -> str:
    """The output of a command; AssertionError with all its output if it fails."""
    result = run(*command, cwd=cwd, environ=environ)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@contextmanager
def alone() -> Generator[None]:
    """Prevents other sessions from building while this one tests its build."""
    with (pathlib.Path(tempfile.gettempdir()) / f"headrace-client-node-{os.getuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install() -> None:
    """`npm ci`, if the installed packages are not those of the lock file."""
    locked = hashlib.sha256((SDK / "package-lock.json").read_bytes()).hexdigest()
    if not _STAMP.exists() or _STAMP.read_text() != locked:
        check_run("npm", "ci", "--no-audit", "--no-fund")
        _STAMP.write_text(locked)


def pack(folder: pathlib.Path) -> pathlib.Path:
    """Builds the package and packs it into a folder; returns the tarball."""
    packages: Any = json.loads(check_run("npm", "pack", "--json", "--silent", "--pack-destination", folder))
    return folder / packages[0]["filename"]


def outcomes(servers: Mapping[str, Any], certificates: pathlib.Path) -> dict[str, str | None]:
    """Runs all tests of the package. The errors by the tests' names; None for a test that passed. `certificates` is a
    folder with ca.pem, server.pem and client.pem."""
    check_run(SDK / "node_modules" / ".bin" / "tsc", "-p", "tsconfig.test.json")
    server_variables = {f"HEADRACE_TEST_{name.upper()}": json.dumps(server) for name, server in servers.items()}
    environ = {"HEADRACE_ROOT": str(ROOT), "HEADRACE_PYTHON": sys.executable, **server_variables}
    environ["HEADRACE_TEST_TLS"] = str(certificates)
    files = sorted((SDK / "build" / "test").glob("*.test.js"))
    reporter = ("--test-reporter", (_HERE / "reporter.mjs").as_uri(), "--test-reporter-destination", "stdout")
    result = run("node", "--test", "--test-timeout=300000", *reporter, *files, environ=environ)
    results: dict[str, str | None] = {}
    for line in result.stdout.splitlines():
        test: Any = json.loads(line)
        results[test["name"]] = None if test["passed"] else test["error"] or "skipped"
    assert results, f"no test was run\n{result.stdout}\n{result.stderr}"
    return results
