"""What every store of forms promises: they are what the journal's events make of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headrace.errors import SequenceConflict
from headrace.kernel.events import (
    Event,
    FormExpired,
    FormRequested,
    FormSubmitted,
    NodeStarted,
    Record,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
)
from headrace.kernel.forms import LATEST
from headrace.ports import Form, FormToken, Storage

from .examples import numbered, queued

HOUR = 3600


def request(form: str, path: str = "ask", seconds: int = HOUR, *, email: bool = False) -> FormRequested:
    mail = {"type": "email", "recipients": [{"to": "ada@example.com", "token": f"mail-{form}"}]}
    web = {"type": "webapp", "token": f"web-{form}"}
    return FormRequested(
        path, form, "Review 商", "# Draft", [], [{"id": "ok"}], {}, seconds, [mail] if email else [web]
    )


async def paused(store: Storage, run: str, *forms: FormRequested, app: str = "app", at: float = 1000.0) -> int:
    """A run that waits for forms; returns the number of its last event."""
    starts = [event for form in forms for event in (NodeStarted(form.path), form)]
    events: Sequence[Event] = [queued(run, app), RunStarted(), *starts, RunPaused()]
    await store.journal.append(numbered(run, events, at=at))
    return len(events)


async def test_a_form_is_found_by_its_id_its_token_and_its_run(store: Storage) -> None:
    await paused(store, "r1", request("f1"))
    form = Form("f1", "r1", "app", "ask", "Review 商", 4, "web-f1", 1002.0, 1002 + HOUR)
    assert await store.forms.find_form("f1") == form
    assert await store.forms.form_of("web-f1") == (form, FormToken("web-f1", "f1", "r1", "webapp"))
    assert await store.forms.forms_of("r1") == [form]
    assert await store.journal.read("r1", form.seq - 1, 1) == [Record("r1", 4, 1002.0, request("f1"))]
    for unknown in ("", "f2", "mail-f1", "\0", "\ud800"):
        assert await store.forms.find_form(unknown) is await store.forms.form_of(unknown) is None
        assert await store.forms.forms_of(unknown) == []


async def test_each_recipient_of_an_email_has_a_token(store: Storage) -> None:
    await paused(store, "r1", request("f1", email=True))
    known = await store.forms.form_of("mail-f1")
    assert known is not None
    assert (known[0].id, known[0].token) == ("f1", None)
    assert known[1] == FormToken("mail-f1", "f1", "r1", "email", "ada@example.com")


async def test_an_answer_settles_a_form(store: Storage) -> None:
    last = await paused(store, "r1", request("f1"), request("f2", "other"))
    answer = FormSubmitted("ask", "f1", "ok", {"comment": "fine"}, "ada")
    await store.journal.append(numbered("r1", [RunResumed(), answer], after=last))
    first, second = await store.forms.forms_of("r1")
    assert (first.status, first.action, first.settled_at) == ("submitted", "ok", 1000 + (last + 2) / 2)
    assert (second.status, second.action, second.settled_at) == ("waiting", None, None)
    assert [form.id for form in await store.forms.waiting_forms(["app"])] == ["f2"]


async def test_of_two_answers_one_is_accepted(store: Storage) -> None:
    last = await paused(store, "r1", request("f1"))
    answers = [[RunResumed(), FormSubmitted("ask", "f1", action, {})] for action in ("yes", "no")]
    await store.journal.append(numbered("r1", answers[0], after=last))
    with pytest.raises(SequenceConflict):
        await store.journal.append(numbered("r1", answers[1], after=last))
    [form] = await store.forms.forms_of("r1")
    assert form.action == "yes"


async def test_a_settled_form_stays_as_it_is(store: Storage) -> None:
    last = await paused(store, "r1", request("f1"))
    await store.journal.append(numbered("r1", [RunResumed(), FormExpired("ask", "f1", "timeout")], after=last))
    await store.journal.append(numbered("r1", [FormSubmitted("ask", "f1", "ok", {})], after=last + 2))
    [form] = await store.forms.forms_of("r1")
    assert (form.status, form.action) == ("timeout", None)


@pytest.mark.parametrize("reopened", [False, True])
async def test_forms_of_a_run_that_ends_expire(store: Storage, reopened: bool) -> None:
    last = await paused(store, "r1", request("f1"))
    if reopened:  # the store has written to other runs in the meantime
        await paused(store, "r2", request("f2"))
    await store.journal.append(numbered("r1", [RunEnded("stopped")], after=last))
    [form] = await store.forms.forms_of("r1")
    assert form.status == "expired"
    assert [form.id for form in await store.forms.waiting_forms(["app"])] == (["f2"] if reopened else [])


async def test_waiting_forms_are_listed_page_by_page_the_first_due_first(store: Storage) -> None:
    for number, seconds in enumerate((300, 100, 200, 100)):
        await paused(store, f"r{number}", request(f"f{number}", seconds=seconds))
    await paused(store, "r9", request("f9", seconds=1), app="other")
    pages = [await store.forms.waiting_forms(["app"], limit=3)]
    last = pages[0][-1]
    pages.append(await store.forms.waiting_forms(["app"], (last.expires_at, last.id), limit=3))
    assert [[form.id for form in page] for page in pages] == [["f1", "f3", "f2"], ["f0"]]
    assert [form.id for form in await store.forms.waiting_forms(["app", "other"], limit=2)] == ["f9", "f1"]
    assert await store.forms.waiting_forms([]) == await store.forms.waiting_forms(["app"], limit=0) == []


async def test_forms_are_due_by_their_own_time_and_by_the_global_limit(store: Storage) -> None:
    await paused(store, "r1", request("f1", seconds=10))
    await paused(store, "r2", request("f2", seconds=100), at=900.0)
    settled = await paused(store, "r3", request("f3", seconds=1))
    await store.journal.append(numbered("r3", [RunResumed(), FormExpired("ask", "f3", "timeout")], after=settled))

    async def due(now: float, created_before: float | None = None, limit: int = 100) -> list[str]:
        return [form.id for form in await store.forms.due_forms(now, created_before, limit)]

    assert await due(1001.0) == []
    assert await due(1002.0) == ["f2"]
    assert await due(1012.0) == ["f2", "f1"]
    assert await due(1012.0, limit=1) == ["f2"]
    assert await due(950.0, created_before=902.0) == ["f2"]
    assert await due(950.0, created_before=901.9) == []


async def test_a_form_that_never_expires_in_practice_is_stored(store: Storage) -> None:
    await paused(store, "r1", request("f1", seconds=10**30))
    [form] = await store.forms.forms_of("r1")
    assert form.expires_at == LATEST
