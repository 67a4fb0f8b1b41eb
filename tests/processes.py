"""The processes below this one, as the system tells of them."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def children() -> set[int]:
    """This process's living children, and theirs."""
    below: dict[int, set[int]] = {}
    for pid, state, parent in _states():
        if state != "Z":
            below.setdefault(parent, set()).add(pid)
    descendants, waiting = set[int](), [os.getpid()]
    while waiting:
        more = below.get(waiting.pop(), set())
        descendants |= more
        waiting.extend(more)
    return descendants


def zombies(parent: int) -> list[int]:
    """The dead children that a process has not buried."""
    return [pid for pid, state, of in _states() if of == parent and state == "Z"]


def _states() -> Iterator[tuple[int, str, int]]:
    """Each process, its state and its parent."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        yield int(stat.parent.name), state, int(parent)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what no event tells of."""

    def wait() -> bool:
        end = time.monotonic() + 60
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    assert await asyncio.to_thread(wait)


async def until_gone(pids: set[int]) -> None:
    await eventually(lambda: not any(map(alive, pids)))


async def until_more_than(pids: set[int], count: int) -> set[int]:
    """The children there are beyond `pids`, once they are more than `count`."""
    await eventually(lambda: len(children() - pids) > count)
    return children() - pids


async def until_one_is_busy(pids: set[int]) -> int:
    """Which of the processes, as soon as one of them has computed for a twentieth of a second."""
    begun = {pid: _ticks(pid) for pid in pids}
    busy: list[int] = []

    def one() -> bool:
        busy.extend(pid for pid in pids if _ticks(pid) - begun[pid] >= 5)
        return bool(busy)

    await eventually(one)
    return busy[0]


def _ticks(pid: int) -> int:
    try:
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    except OSError:
        return 0
