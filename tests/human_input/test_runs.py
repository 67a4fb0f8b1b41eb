"""Runs that wait for people: they pause, go on with an answer, and with its absence."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import RequestError
from headrace.kernel.events import (
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeSucceeded,
    RunPaused,
    RunResumed,
)
from headrace.ports import Storage
from headrace.runs.forms import expire_forms
from headrace.runs.service import Submission
from headrace.stores.memory import memory_storage
from headrace.stores.sql import SqlStorage
from tests.runs.service import Gate, working

from .flows import REVIEW, human_input, workflow
from .world import HOUR, Clock, People, people

Two = tuple[People, People]


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    storage = memory_storage() if request.param == "memory" else await SqlStorage.open(f"sqlite:///{tmp_path}/h.db")
    yield storage
    await storage.aclose()


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    """Two processes on one database, with one clock; nothing has passed the gate."""
    clock = Clock()
    stores = [await SqlStorage.open(f"sqlite:///{tmp_path}/h.db") for _ in range(2)]
    here, there = (people(store, clock) for store in stores)
    Gate.reset()
    for where in (here, there):
        await where.service.leases.heartbeat()
    yield here, there
    for store in stores:
        await store.aclose()


async def begin_gated(where: People) -> str:
    """Starts a run in a process; it waits for a person, and another branch of it is at the gate."""
    release = await where.service.apps.publish("flow.yml", GATED)
    run = (await where.service.submit(Submission(release, "somebody", {}))).run
    await where.until(run, FormRequested)
    async with asyncio.timeout(60):
        await Gate.begun.wait()
    return run


async def refused(answer: Any) -> str:
    with pytest.raises(RequestError) as error:
        await answer
    return f"{error.value.status} {error.value.code}"


async def test_a_run_waits_for_an_answer_and_goes_on_with_its_branch(store: Storage) -> None:
    where = people(store)
    async with working(where.service):
        run = await where.start(REVIEW, q="Once")
        paused = (await where.events(run))[-1]
        [form] = await where.forms(run)
        assert isinstance(paused, RunPaused)
        [reason] = paused.reasons
        assert (reason["TYPE"], reason["form_id"], reason["node_id"]) == ("human_input_required", form.id, "ask")
        assert (reason["form_token"], reason["expiration_time"]) == (form.token, form.expires_at)
        assert form.expires_at == where.clock() + HOUR
        await where.answer(form, comment="fine")
        ended = await where.ended(run)
        assert (ended.status, ended.outputs["action"], ended.outputs["title"]) == ("succeeded", "approve", "Approve")
        assert ended.outputs["content"] == "# Draft\nOnce\nComment: fine"
        events = await where.events(run)
        resumed, submitted, node = events[events.index(paused) + 1 :][:3]
        assert resumed == RunResumed()
        assert submitted == FormSubmitted("ask", form.id, "approve", {"comment": "fine"}, "ada")
        assert isinstance(node, NodeSucceeded)
        [form] = await where.forms(run)
        assert (form.status, form.action) == ("submitted", "approve")


async def test_an_action_without_an_edge_ends_the_run(store: Storage) -> None:
    where = people(store)
    async with working(where.service):
        run = await where.start(REVIEW)
        await where.answer((await where.forms(run))[0], "reject")
        ended = await where.ended(run)
        assert (ended.status, ended.outputs) == ("succeeded", {})


async def test_of_ten_answers_at_once_one_is_accepted(store: Storage) -> None:
    where = people(store)
    async with working(where.service):
        run = await where.start(REVIEW)
        [form] = await where.forms(run)
        answers = (where.answer(form, comment=str(number)) for number in range(10))
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        codes = Counter(outcome.code if isinstance(outcome, RequestError) else outcome for outcome in outcomes)
        assert codes == {None: 1, "human_input_form_submitted": 9}
        ended = await where.ended(run)
        assert ended.outputs["comment"] == str(outcomes.index(None))
        assert sum(isinstance(event, FormSubmitted) for event in await where.events(run)) == 1


async def test_a_form_whose_time_is_over_takes_the_branch_of_a_timeout(store: Storage) -> None:
    where = people(store)
    async with working(where.service):
        run = await where.start(REVIEW, q="Once")
        [form] = await where.forms(run)
        where.clock.now += HOUR - 2
        await expire_forms(where.service)
        assert (await where.forms(run))[0].status == "waiting"
        where.clock.now += 2
        assert await refused(where.answer(form)) == "412 human_input_form_expired"  # though nobody has noticed yet
        await expire_forms(where.service)
        ended = await where.ended(run)
        assert (ended.status, ended.outputs["action"]) == ("succeeded", "")
        assert ended.outputs["content"] == "# Draft\nOnce\nComment: {{#$output.comment#}}"
        assert FormExpired("ask", form.id, "timeout") in await where.events(run)
        assert await refused(where.answer(form)) == "412 human_input_form_expired"


async def test_a_form_that_waits_longer_than_any_may_stops_its_run(store: Storage) -> None:
    where = people(store, max_form_seconds=60)
    async with working(where.service):
        run = await where.start(REVIEW)
        [form] = await where.forms(run)
        where.clock.now += 60
        assert await refused(where.answer(form)) == "412 human_input_form_expired"
        await expire_forms(where.service)
        ended = await where.ended(run)
        assert (ended.status, ended.error) == ("stopped", "Human input global timeout at node ask")
        assert (await where.forms(run))[0].status == "expired"


async def test_forms_wait_for_ever_where_nothing_limits_them(store: Storage) -> None:
    where = people(store, max_form_seconds=0)
    async with working(where.service):
        run = await where.start(REVIEW.replace("timeout: 1\n", "timeout: 1000000\n"))
        where.clock.now += 365 * 24 * HOUR
        await expire_forms(where.service)
        await where.answer((await where.forms(run))[0])
        assert (await where.ended(run)).status == "succeeded"


async def test_the_form_of_a_stopped_run_has_expired(store: Storage) -> None:
    where = people(store)
    async with working(where.service):
        run = await where.start(REVIEW)
        [form] = await where.forms(run)
        await where.service.stop(run, "somebody")
        assert (await where.ended(run)).status == "stopped"
        assert await refused(where.answer(form)) == "412 human_input_form_expired"
        assert await store.forms.waiting_forms([form.app]) == []


async def test_an_answer_that_is_not_valid_leaves_the_form_open(store: Storage) -> None:
    where = people(store)
    async with working(where.service):
        run = await where.start(REVIEW)
        [form] = await where.forms(run)
        assert await refused(where.answer(form, "publish")) == "400 invalid_form_data"
        await where.answer(form)
        assert (await where.ended(run)).status == "succeeded"


async def test_the_time_of_people_is_not_that_of_the_run(store: Storage) -> None:
    where = people(store, max_seconds=100)
    async with working(where.service):
        run = await where.start(REVIEW)
        where.clock.now += 101
        await where.answer((await where.forms(run))[0])
        assert (await where.ended(run)).status == "succeeded"


BOTH = workflow(
    {"ask": human_input(), "other": human_input(title="Second")},
    ["s>ask", "s>other", "ask:approve>e", "other:approve>e"],
    {"first": ["ask", "comment"], "second": ["other", "comment"]},
)


async def test_forms_of_parallel_branches_wait_together(store: Storage) -> None:
    where = people(store)
    async with working(where.service):
        run = await where.start(BOTH)
        paused = await where.until(run, RunPaused)
        assert isinstance(paused.event, RunPaused)
        assert [reason["node_id"] for reason in paused.event.reasons] == ["ask", "other"]
        first, second = await where.forms(run)
        assert first.token != second.token
        await where.answer(second, comment="two")
        again = await where.until(run, RunPaused, after=paused.seq or 0)
        assert isinstance(again.event, RunPaused)
        assert [reason["form_id"] for reason in again.event.reasons] == [first.id]
        await where.answer(first, comment="one")
        assert (await where.ended(run)).outputs == {"first": "one", "second": "two"}


GATED = workflow(
    {"ask": human_input(), "g": {"type": "gate", "title": "Gate"}},
    ["s>ask", "s>g", "ask:approve>e", "g>e"],
    {"comment": ["ask", "comment"], "text": ["g", "text"]},
)


async def test_other_branches_run_on_and_take_the_answer_meanwhile(store: Storage) -> None:
    where = people(store)
    Gate.reset()
    async with working(where.service):
        run = await begin_gated(where)
        await where.answer((await where.forms(run))[0], comment="early")
        Gate.release.set()
        ended = await where.ended(run)
        assert ended.outputs == {"comment": "early", "text": "through the gate"}
        assert Gate.entered == 1
        assert not any(isinstance(event, RunPaused | RunResumed) for event in await where.events(run))


async def test_a_run_that_is_driven_elsewhere_takes_the_answer_when_it_pauses(two: Two) -> None:
    here, there = two
    async with working(there.service):
        run = await begin_gated(there)
        [form] = await here.forms(run)
        answering = asyncio.create_task(here.answer(form, comment="from here"))
        Gate.release.set()
        await answering
        async with working(here.service):
            ended = await here.ended(run)
    assert (ended.outputs["comment"], Gate.entered) == ("from here", 1)


async def test_a_run_that_is_driven_elsewhere_expires_there(two: Two) -> None:
    here, there = two
    async with working(there.service):
        run = await begin_gated(there)
        here.clock.now += HOUR
        await expire_forms(here.service)
        assert [form.status for form in await here.forms(run)] == ["waiting"]
        await expire_forms(there.service)
        assert [form.status for form in await here.forms(run)] == ["timeout"]
        Gate.release.set()
        assert (await there.ended(run)).status == "succeeded"
    assert Gate.entered == 1


async def test_more_forms_than_are_read_at_once_expire(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.runs.forms._EXPIRED_AT_ONCE", 2)
    where = people(store)
    async with working(where.service):
        runs = [await where.start(REVIEW) for _ in range(5)]
        where.clock.now += HOUR
        await expire_forms(where.service)
        assert {(await where.ended(run)).status for run in runs} == {"succeeded"}


async def test_a_worker_that_starts_lets_forms_expire_that_fell_due_before(tmp_path: Path) -> None:
    clock = Clock()
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/h.db")
    where = people(store, clock)
    async with working(where.service):
        run = await where.start(REVIEW)
    await store.aclose()
    clock.now += 2 * HOUR
    store = await SqlStorage.open(f"sqlite:///{tmp_path}/h.db")
    where = people(store, clock)
    async with working(where.service):
        ended = await where.ended(run)
    assert (ended.status, ended.outputs["action"]) == ("succeeded", "")
    await store.aclose()
