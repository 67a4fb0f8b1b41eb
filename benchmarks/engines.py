"""The engine alone: the cost of a trivial node, compared with LangGraph, Burr and graphon."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.peers import HERE, Missing, environment, python_for_graphon
from benchmarks.table import Row, Target, figure, number, ratio

CONTESTANTS = HERE / "contestants"
MEMORY, SQLITE, FULL_SYNC = "Headrace", "Headrace, SQLite", "Headrace, full sync"
PEERS = ("graphon", "LangGraph", "Burr")
SAVING_PEERS = ("LangGraph", "Burr")  # graphon leaves its state to the application that embeds it
GROUP = "Engine: the time that a trivial node takes"
IN_MEMORY = {"Burr": 0.4, "LangGraph": 0.07, "graphon": 0.05}  # the most that a node may take, of the peer's
SAVED = {"Burr": 0.24, "LangGraph": 0.035}
_ROUNDS = {"rounds": 3.0, "waiting_rounds": 5.0}
MISSED = "each node is two events, which are applied, encoded and appended"


class Contestant:
    """A process that runs graphs on request (see contestants/contest.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.version: str = self._answer()["version"]

    @property
    def memory(self) -> float:
        """Resident, in MB."""
        return machine.resident_mb(self._process.pid)

    def ask(self, shape: str, nodes: int, times: int) -> list[float]:
        """Milliseconds a node of each run. Raises Missing if it does not support the shape."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"shape": shape, "nodes": nodes, "times": times}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "skipped" in answer:
            raise Missing(answer["skipped"])
        return answer["ms"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"contestant ended with {self._process.wait()}")
        return json.loads(line)


@contextmanager
def contestant(python: Path | str, script: str, *arguments: str) -> Iterator[Contestant]:
    command = [str(python), str(CONTESTANTS / script), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Contestant(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def measure(quick: bool) -> list[Row]:
    """Every contestant takes its turn in every round; a figure is the median of the rounds."""
    rounds, times = (3, 3) if quick else (9, 5)
    with ExitStack() as stack:
        here: dict[str, Contestant] = {}
        other_versions: dict[str, str] = {}
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name, how in ((MEMORY, "memory"), (SQLITE, "sqlite"), (FULL_SYNC, "full-sync")):
            data = Path(folder) / how
            data.mkdir()
            here[name] = stack.enter_context(contestant(sys.executable, "with_headrace.py", how, str(data)))
        for name in (*PEERS, *(f"{name}, SQLite" for name in SAVING_PEERS)):
            try:
                here[name] = stack.enter_context(_peer(name, folder))
            except (Missing, RuntimeError) as reason:
                other_versions[name] = f"({reason})"

        figures = {shape: _rounds(here, shape, 100, rounds, times) for shape in ("chain", "fan_out")}
        ours = {MEMORY: here[MEMORY], SQLITE: here[SQLITE], FULL_SYNC: here[FULL_SYNC]}
        waiting = _rounds(ours, "waiting_fan_out", 100, rounds, times)
        inside = {shape: _rounds(ours, shape, 2000, 3, 3) for shape in ("rounds", "waiting_rounds")}
        leftovers = _left_behind(here[SQLITE])
        long = {name: list(_alternating(here[name], 3 if quick else 7)) for name in (MEMORY, SQLITE)}
        versions = {name: f"{name} {peer.version}" for name, peer in here.items() if name in PEERS}

    rows: list[Row] = []
    for shape, what in (("chain", "chain of 100"), ("fan_out", "fan-out of 100")):
        of = figures[shape]
        for name, most in IN_MEMORY.items():
            label = f"{what}, in memory, of {versions.get(name, name)}'s"
            rows += _beside_peer(label, of, MEMORY, name, name, Target(most), other_versions)
        for name, most in SAVED.items():
            label = f"{what}, SQLite, of {name}'s with SQLite"
            rows += _beside_peer(label, of, SQLITE, f"{name}, SQLite", name, Target(most), other_versions)
        what_syncs = f"{what}, waiting for the disk at each commit, of SQLite's without"
        rows.append(ratio(GROUP, what_syncs, pairs(of, FULL_SYNC, SQLITE), "ms", "without"))
    what = "fan-out of 100 that each wait a turn, SQLite, of that in memory"
    note = "one task per node, started once its start is in the journal"
    rows.append(ratio(GROUP, what, pairs(waiting, SQLITE, MEMORY), "ms", "in memory", note=note))
    for shape, what in (("rounds", ""), ("waiting_rounds", " that wait a turn")):
        what = f"parallel iteration over 1,000 items, a node of the 2 inside{what}"
        for name, how in ((MEMORY, "in memory"), (SQLITE, "SQLite")):
            reference = [median(figures["chain"][name])] * len(inside[shape][name])
            pairs_of = list(zip(inside[shape][name], reference, strict=True))
            rows.append(
                ratio(GROUP, f"{what}, {how}, of a node of a chain", pairs_of, "ms", "chain", Target(_ROUNDS[shape]))
            )
    what = "memory (RSS) that an iteration over 50,000 items takes beyond one over 1,000, SQLite"
    rows.append(Row(GROUP, what, leftovers, "MB", Target(50), note="includes its items and results"))
    what = "a node of a 10,000-node chain, of one of a 100-node chain"
    for name, how in ((MEMORY, "in memory"), (SQLITE, "SQLite")):
        rows.append(figure(GROUP, f"{what}, {how}", long[name], "x", Target(1.5)))
    return rows


def pairs(of: dict[str, list[float]], ours: str, theirs: str) -> list[tuple[float, float]]:
    return list(zip(of[ours], of[theirs], strict=True))


def _beside_peer(
    what: str, of: dict[str, list[float]], ours: str, theirs: str, name: str, target: Target, versions: dict[str, str]
) -> list[Row]:
    """The cost of a node, of the peer's; none where the peer does not have the shape."""
    if theirs in versions:
        return [Row(GROUP, what, None, "x", target, note=f"{versions[theirs]}; Headrace {number(median(of[ours]))} ms")]
    if theirs not in of:
        return []
    return [ratio(GROUP, what, pairs(of, ours, theirs), "ms", name, target, missed=MISSED)]


@contextmanager
def _peer(which: str, folder: str) -> Iterator[Contestant]:
    name, _, saving = which.partition(", ")
    if name == "graphon":
        python = environment(".venv-peers-graphon", "peers-graphon-requirements.txt", python_for_graphon())
    else:
        python = environment(".venv-peers", "peers-requirements.txt", sys.executable)
    with contestant(python, f"with_{name.lower()}.py", *(("sqlite", folder) if saving else ())) as peer:
        yield peer


def _rounds(
    contestants: dict[str, Contestant], shape: str, nodes: int, rounds: int, times: int
) -> dict[str, list[float]]:
    """Each contestant's median of each round."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    able: dict[str, Contestant] = {}
    for name, peer in contestants.items():
        with suppress(Missing):
            peer.ask(shape, nodes, 2)  # warm
            able[name] = peer
    for _ in range(rounds):
        for name, peer in able.items():
            figures[name].append(median(peer.ask(shape, nodes, times)))
    return {name: figures[name] for name in able}


def _left_behind(engine: Contestant) -> float:
    """The growth of the process in MB from an iteration of few rounds to one of many."""
    engine.ask("rounds", 2000, 3)
    before = engine.memory
    engine.ask("rounds", 100_000, 1)
    return engine.memory - before


def _alternating(engine: Contestant, rounds: int) -> Iterator[float]:
    """How many times a node of the long chain costs that of a short one, measured right before and after."""
    engine.ask("chain", 10_000, 1)
    for _ in range(rounds):
        before = engine.ask("chain", 100, 20)
        (long,) = engine.ask("chain", 10_000, 1)
        yield long / median(before + engine.ask("chain", 100, 20))
