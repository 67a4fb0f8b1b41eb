"""The process that reads one document: it gets its bytes, and writes `+text` or `-error`."""

from __future__ import annotations

import sys

from headrace.adapters.documents.bounds import Budget, Unreadable
from headrace.adapters.documents.formats import FORMATS, read


def main() -> None:
    name, characters, cells, seconds, memory = sys.argv[1:]
    _confine(int(memory), float(seconds))
    data = sys.stdin.buffer.read()
    budget = Budget(characters=int(characters), cells=int(cells), seconds=float(seconds))
    try:
        answer = "+" + read(FORMATS[name], data, budget)
    except Unreadable as error:
        answer = f"-{error}"
    sys.stdout.buffer.write(answer.encode("utf-8", "replace"))


def _confine(memory: int, seconds: float) -> None:
    """Limits memory and CPU time, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cpu = int(seconds) + 2
    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, cpu)):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, hard))


if __name__ == "__main__":
    main()
