"""A process may die at any moment while people are asked: the run ends as it would have, each form is asked once."""

from __future__ import annotations

from collections import Counter

import pytest

from headrace.engine import Driver
from headrace.kernel.events import (
    FormRequested,
    FormSubmitted,
    NodeStarted,
    NodeSucceeded,
    Record,
    RunEnded,
    RunPaused,
    RunResumed,
)
from headrace.kernel.state import State
from headrace.node import Flow
from tests.engine.nests import flow, iteration, node, queued_record
from tests.engine.test_crash import Killed, Mortal
from tests.engine.worlds import world

from .flows import human_input


def review(name: str, inside: str | None = None) -> object:
    data = human_input(form_content="")
    return node(name, data.pop("type"), inside, **data)


PARALLEL = flow(
    [review("one"), review("two"), node("slow", "slow-echo"), node("after", "slow-echo", reads=[["one", "comment"]])],
    "start>one start>two start>slow one:approve>after after>end two:approve>end slow>end",
    {"out": ["after", "r"], "two": ["two", "comment"]},
)
ROUNDS = flow(
    [iteration("it", ["start", "items"], ["ask", "comment"], is_parallel=True, parallel_nums=2), review("ask", "it")],
    "start>it it-start>ask it>end",
    {"out": ["it", "output"]},
)


async def finished(workflow: Flow, journal: Mortal) -> RunEnded:
    """Drives a run to its end, and answers the first form at each pause. A driver whose journal has died is followed by
    another, which has a journal that lives."""

    async def drive() -> State:
        try:
            return await Driver("run", workflow, world(journal)).drive()
        except Killed:
            journal.left = -1
            return await Driver("run", workflow, world(journal)).drive()

    for _ in range(20):
        state = await drive()
        if state.ended is not None:
            return state.ended
        path, form = next(iter(state.forms.items()))
        answer = FormSubmitted(path, form.request.form, "approve", {"comment": f"about {path}"})
        answers = [RunResumed(), answer]
        records = [Record("run", state.seq + index, 0.0, event) for index, event in enumerate(answers, 1)]
        try:
            await journal.append(records)
        except Killed:  # whoever sent it sees that it was not accepted, and sends it again
            journal.left = -1
            await journal.append(records)
    raise AssertionError("the run never ended")


@pytest.mark.parametrize("workflow", [PARALLEL, ROUNDS], ids=["parallel", "rounds"])
async def test_a_run_killed_before_any_append_comes_to_the_same_end(workflow: Flow) -> None:
    first = queued_record(items=["a", "b", "c"])
    whole = Mortal(10_000)
    await whole.append([first])
    expected = await finished(workflow, whole)
    for survives in range(1, 400):
        mortal = Mortal(survives)
        await mortal.append([first])
        ended = await finished(workflow, mortal)
        assert (ended.status, ended.outputs) == (expected.status, expected.outputs)
        records = await mortal.read("run")
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        for kind in (NodeStarted, NodeSucceeded, FormRequested, FormSubmitted):
            paths = Counter(record.event.path for record in records if isinstance(record.event, kind))
            assert set(paths.values()) == {1}, kind
        assert any(isinstance(record.event, RunPaused) for record in records)
        if mortal.left > 0:
            return
    raise AssertionError("the run was killed each time")
