"""Generated programs in the sandbox against the same programs in plain Python outside it.

    python -m tests.sandbox.fuzz [--count 20000] [--first 0]      also `make fuzz`

Prints a seed for each program that comes to something else, and exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from headrace.adapters.sandbox import LocalSandbox
from headrace.errors import NodeError
from tests.sandbox.programs import program

BATCH = 50
AT_ONCE = 2
AGAIN = 12  # of two orders of a set, plain Python shows one 3 times in a row in every fourth program
# A program that runs others: each in names of its own, and what escapes it is its result.
RUN_ALL = """
import json
def main(programs):
    results = []
    for text in programs:
        names = {'__name__': 'program', '__builtins__': __builtins__}
        try:
            exec(compile(text, 'program.py', 'exec'), names)
            results.append(names['program']([]))
        except Exception as error:
            results.append([type(error).__name__, str(error)])
    return {'results': results}
"""
# Objects that are there before move those that come after to other addresses, which the order of a set may follow.
_OUTSIDE = (
    RUN_ALL
    + """
import sys
before = [iter([]) for _ in range(int(sys.argv[1]))]
json.dump(main(json.load(sys.stdin)), sys.stdout)
"""
)


def single(seed: int) -> str:
    """The program as a code node has it."""
    return program(seed) + "\ndef main():\n    return {'results': program([])}\n"


def outside(programs: Sequence[str], before: int = 0) -> list[Any]:
    """What plain Python makes of them, in an environment as the sandbox has it, with so many objects made before."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _OUTSIDE, str(before)],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "UTC", "LC_ALL": "C.UTF-8"},
        timeout=300,
    )
    return json.loads(done.stdout)["results"]


async def inside(sandbox: LocalSandbox, programs: Sequence[str]) -> list[Any]:
    """What the sandbox makes of them, in one process."""
    return (await sandbox.run("python3", RUN_ALL, {"programs": list(programs)}, 120))["results"]


async def differing(sandbox: LocalSandbox, seeds: Sequence[int]) -> list[int]:
    """The seeds whose programs come to something else in the sandbox.

    Those that differ in a batch are run alone, and outside several times: a program that shows an address, or the order
    of a set, never comes to the same."""
    programs = [program(seed) for seed in seeds]
    expected = await asyncio.to_thread(outside, programs)
    try:
        results = await inside(sandbox, programs)
    except NodeError as error:
        results = [str(error)] * len(programs)
    differing_seeds: list[int] = []
    for seed, wanted, result in zip(seeds, expected, results, strict=True):
        if wanted != result:
            alone = [await asyncio.to_thread(outside, [program(seed)], before) for before in range(AGAIN)]
            if all(other == alone[0] for other in alone) and await inside(sandbox, [program(seed)]) != alone[0]:
                differing_seeds.append(seed)
    return differing_seeds


async def _main(first: int, count: int) -> int:
    sandbox = LocalSandbox(concurrent=AT_ONCE * 4)
    room = asyncio.Semaphore(AT_ONCE)
    begun = time.monotonic()

    async def batch(seeds: range) -> list[int]:
        async with room:
            return await differing(sandbox, seeds)

    try:
        batches = [range(at, min(at + BATCH, first + count)) for at in range(first, first + count, BATCH)]
        seeds = [seed for part in await asyncio.gather(*map(batch, batches)) for seed in part]
    finally:
        await sandbox.aclose()
    for seed in seeds:
        sys.stdout.write(f"seed {seed} comes to something else in the sandbox\n")
    sys.stdout.write(
        f"{count} programs, {len(seeds)} differ, {time.monotonic() - begun:.0f} s, {os.cpu_count()} cores\n"
    )
    return 1 if seeds else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args()
    sys.exit(asyncio.run(_main(options.first, options.count)))
