"""The whole test suite, as `make test` runs it: only on request, because it takes longer than all benchmarks."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks.table import Row, Target

GROUP = "Tests: all of them, with lint and types"
ROOT = Path(__file__).parents[1]


def measure(quick: bool) -> list[Row]:
    """`make quick` if `quick`."""
    command = "quick" if quick else "test"
    began = time.monotonic()
    subprocess.run(["make", command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    minutes = (time.monotonic() - began) / 60
    what = f"make {command}"
    return [Row(GROUP, what, minutes, "min", None if quick else Target(6), missed="the slowest tests start servers")]
