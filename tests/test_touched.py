"""How much of the source one streaming run needs: a reader who follows it has no more to read than this."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "touched.py"
MAX_MODULES, MAX_FUNCTIONS = 49, 288


def test_a_streaming_run_touches_no_more_than_it_did() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=300, check=True)
    modules, functions = (int(word) for word in done.stdout.split()[:4] if word.isdigit())
    assert 35 <= modules <= MAX_MODULES
    assert 200 <= functions <= MAX_FUNCTIONS
