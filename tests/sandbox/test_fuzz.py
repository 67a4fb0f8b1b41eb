"""Generated programs come to the same in the sandbox as in plain Python. `make fuzz` is the long form."""

import asyncio
import json

import pytest

from headrace.adapters.sandbox import LocalSandbox
from tests.sandbox.fuzz import differing, outside, program, single

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALONE, IN_BATCHES = range(20), range(100_000, 100_100)


async def test_programs_come_to_the_same_as_code_nodes(sandbox: LocalSandbox) -> None:
    texts = [program(seed) for seed in ALONE]
    first, second = [await asyncio.to_thread(outside, texts) for _ in range(2)]
    same = [seed for seed, one, other in zip(ALONE, first, second, strict=True) if one == other]
    assert len(same) > 0.8 * len(ALONE)  # the others show an address, or the order of a set
    for seed in same:
        assert await sandbox.run("python3", single(seed), {}, 20) == {"results": first[seed]}, seed


async def test_many_programs_come_to_the_same(sandbox: LocalSandbox) -> None:
    seeds = [IN_BATCHES[at : at + 50] for at in range(0, len(IN_BATCHES), 50)]
    assert [seed for batch in seeds for seed in await differing(sandbox, batch)] == []


async def test_the_programs_are_worth_comparing() -> None:
    """Most of their statements come to a value, the others to many kinds of errors."""
    results = await asyncio.to_thread(outside, [program(seed) for seed in IN_BATCHES])
    notes = [note for result in results for note in result]
    errors = [note[0] for note in notes if isinstance(note, list) and str(note[0]).endswith("Error")]
    assert len(notes) > 3 * len(results)
    assert 0.1 < len(errors) / len(notes) < 0.7
    assert {"TypeError", "ValueError", "KeyError", "IndexError", "ZeroDivisionError"} <= set(errors)
    assert len({json.dumps(note) for note in notes}) > len(notes) / 3


async def test_a_difference_is_found(sandbox: LocalSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.sandbox.fuzz.outside", lambda programs, before=0: [["other"] for _ in programs])
    assert await differing(sandbox, range(3)) == [0, 1, 2]
