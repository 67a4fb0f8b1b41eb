"""Makes the synchronous half of the package from the asynchronous one.

python sdks/python/generate_sync.py           writes src/headrace_client/_sync
python sdks/python/generate_sync.py --check   exits with 1 if a file there is not what it would write
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent / "src" / "headrace_client"
_BY_HAND = {"__init__.py", "compat.py"}
_WORDS = {
    "_async": "_sync",
    "async def": "def",
    "async with": "with",
    "async for": "for",
    "AsyncGenerator[Event, None]": "Generator[Event, None, None]",
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "StopAsyncIteration": "StopIteration",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "between tasks": "between threads",
}
_NOTE = "# Made by generate_sync.py from _async/{name}: change that one.\n"


def synchronous(text: str) -> str:
    """A module's text without `async` and `await`."""
    text = _without_awaitables(text)
    for word, other in _WORDS.items():
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", other, text)
    text = re.sub(r"\bAsync([A-Z]\w*)", r"\1", text)
    text = re.sub(r"\bawait\s+", "", text)
    return re.sub(r"(from collections\.abc import [^\n]*?)\bAwaitable, |, Awaitable\b(?=[^\n]*\n)", r"\1", text)


def _without_awaitables(text: str) -> str:
    """`Awaitable[X]` as `X`, whatever X holds."""
    while (start := text.find("Awaitable[")) >= 0:
        place = inner = start + len("Awaitable[")
        depth = 1
        while depth:
            depth += {"[": 1, "]": -1}.get(text[place], 0)
            place += 1
        text = text[:start] + text[inner : place - 1] + text[place:]
    return text


def generated() -> dict[Path, str]:
    """The text of every file of the synchronous half that is not written by hand."""
    found: dict[Path, str] = {}
    for source in sorted((_PACKAGE / "_async").glob("*.py")):
        if source.name not in _BY_HAND:
            target = _PACKAGE / "_sync" / source.name
            found[target] = _formatted(_NOTE.format(name=source.name) + synchronous(source.read_text()), target)
    return found


def _formatted(text: str, path: Path) -> str:
    for command in (("check", "--fix", "--exit-zero", "--quiet", "--select", "I,F401"), ("format", "--quiet")):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = ran.stdout
    return text


def main(arguments: list[str]) -> int:
    made = generated()
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    left = [path for path in (_PACKAGE / "_sync").glob("*.py") if path not in made and path.name not in _BY_HAND]
    if "--check" in arguments:
        for path in (*stale, *left):
            sys.stderr.write(f"{path} is not what generate_sync.py writes\n")
        return 1 if stale or left else 0
    for path in stale:
        path.write_text(made[path])
    for path in left:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
