"""What people do with the forms of runs: open, answer, or let their time pass."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from typing import NamedTuple

from headrace.errors import HeadraceError, RequestError, SequenceConflict
from headrace.kernel.events import FormExpired, FormRequested, FormSubmitted, RunEnded, RunId, RunPaused, RunResumed
from headrace.kernel.forms import EXPIRED, SUBMITTED, TIMEOUT, WAITING, FormOutcome
from headrace.kernel.summary import PAUSED
from headrace.nodes.human_input.answer import Resolve, accept
from headrace.ports import Form, FormToken, HandledElsewhere, Timer, TimerKind
from headrace.runs.service import RunService
from headrace.values import Value

logger = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds for which an answer waits until other branches, driven elsewhere, have ended
_EXPIRED_AT_ONCE = 100


class TokenForm(NamedTuple):
    """A form as the holder of one of its tokens sees it; the secrets of the workflow are masked."""

    form: Form
    token: FormToken
    request: FormRequested


def form_submitted(form: str) -> RequestError:
    message = f"This form has already been submitted by another user, form_id={form}"
    return RequestError(message, "human_input_form_submitted", 412)


def form_expired(form: str) -> RequestError:
    return RequestError(f"This form has expired, form_id={form}", "human_input_form_expired", 412)


async def open_form(run_service: RunService, token: str) -> TokenForm | None:
    """The form that a token opens, in any status; None if there is none."""
    token_form = await run_service.forms.form_of(token)
    return None if token_form is None else await read_form(run_service, *token_form)


async def read_form(run_service: RunService, form: Form, token: FormToken) -> TokenForm | None:
    """A form with its content, as the holder of this token sees it; None if its run is gone."""
    request = await _request(run_service, form)
    if request is None:  # its run was deleted in the meantime
        return None
    app = await run_service.apps.find(form.app)
    run = await run_service.runs.find_run(form.run)
    if app is None or run is None:
        return None
    mask = (await run_service.apps.flow(form.app, run.version)).mask
    masked_request = mask.event(request) if mask else request
    assert isinstance(masked_request, FormRequested)
    return TokenForm(form, token, masked_request)


async def _request(run_service: RunService, form: Form) -> FormRequested | None:
    records = await run_service.environment.journal.read(form.run, form.seq - 1, 1)
    event = records[0].event if records else None
    return event if isinstance(event, FormRequested) else None


def check_waiting(run_service: RunService, form: Form) -> None:
    """412 for a form that is answered, or whose time is over, though nobody has noticed that yet."""
    if form.status == SUBMITTED:
        raise form_submitted(form.id)
    now = run_service.environment.clock()
    if form.status != WAITING or form.expires_at <= now or _is_over(run_service, form, now):
        raise form_expired(form.id)


def _is_over(run_service: RunService, form: Form, now: float) -> bool:
    """Whether a form waits for longer than any may."""
    limit = run_service.environment.limits.max_form_seconds
    return 0 < limit <= now - form.created_at


async def submit_form(
    run_service: RunService, token_form: TokenForm, action: str, inputs: dict[str, Value], user: str, resolve: Resolve
) -> None:
    """Answers a form, once: the run continues with the branch of the action. `resolve` finds the files. 400
    `invalid_form_data`, after which the form still waits; 412 if it does not."""
    form = token_form.form
    check_waiting(run_service, form)
    request = await _request(run_service, form)  # not masked: an option may have a secret in it
    if request is None:
        raise form_expired(form.id)
    data = await accept(request, action, inputs, resolve)
    recipient = token_form.token.recipient
    await _settle(run_service, form, FormSubmitted(form.node, form.id, action, data, user, recipient))


async def expire_forms(run_service: RunService) -> None:
    """Lets the runs continue whose forms nobody has answered in time, and ends those that have waited too long."""
    limit, names = run_service.environment.limits.max_form_seconds, set[str]()
    while True:
        now = run_service.environment.clock()
        due = await run_service.forms.due_forms(now, now - limit if limit else None, _EXPIRED_AT_ONCE)
        new = [form for form in due if form.id not in names]
        names.update(form.id for form in new)
        await asyncio.gather(*(_try_to_expire(run_service, form, now) for form in new))
        if len(new) < _EXPIRED_AT_ONCE:
            return


async def expire_form(run_service: RunService, name: str) -> None:
    """Lets the run of a form continue, or ends it, if nobody has answered in time. `HandledElsewhere` while another
    process drives the run."""
    form = await run_service.forms.find_form(name)
    if form is None or form.status != WAITING:
        return
    now = run_service.environment.clock()
    due_at = form_due_at(run_service, form.created_at, form.expires_at)
    if now < due_at:
        run_service.timers.set(Timer(TimerKind.FORM, form.id, due_at, form.app, form.run))
    elif not await _expire(run_service, form, now):
        raise HandledElsewhere(f"another process drives the run {form.run}")


def form_due_at(run_service: RunService, created_at: float, expires_at: float) -> float:
    """When a form stops waiting, if nobody answers."""
    limit = run_service.environment.limits.max_form_seconds
    return min(expires_at, created_at + limit) if limit > 0 else expires_at


async def _try_to_expire(run_service: RunService, form: Form, now: float) -> None:
    try:
        await _expire(run_service, form, now)
    except HeadraceError as error:
        logger.error("run %s: the form %s cannot expire yet: %s", form.run, form.id, error)


async def _expire(run_service: RunService, form: Form, now: float) -> bool:
    status = EXPIRED if _is_over(run_service, form, now) else TIMEOUT
    try:
        return await _settle(run_service, form, FormExpired(form.node, form.id, status), wait=False)
    except RequestError:  # it was answered just now
        return True


async def _settle(run_service: RunService, form: Form, outcome: FormOutcome, *, wait: bool = True) -> bool:
    """Records what has come of a form, in the journal and by it in the table. 412 if something else was faster. Unless
    it is to `wait`, nothing is recorded for a run that another process drives, which does so itself: then False."""
    run, has_waited = form.run, False
    while True:
        current = await run_service.forms.find_form(form.id)
        if current is None or current.status not in (WAITING, SUBMITTED):
            raise form_expired(form.id)
        if current.status == SUBMITTED:
            raise form_submitted(form.id)
        driver = run_service.driving.get(run)
        if driver is not None:
            if await driver.settle(outcome):
                return True
            await asyncio.sleep(0.01)  # another process has written to the run, and the driver ends
            continue
        last = (await run_service.environment.journal.last_sequences([run])).get(run, 0)
        summary = await run_service.runs.find_run(run)
        paused = summary is not None and summary.status == PAUSED
        if not paused and not wait:
            return False
        if not paused and not has_waited:
            has_waited = await _until_paused(run_service, run, last)
            continue
        with suppress(SequenceConflict):  # another record was faster: read again
            await run_service.append(run, last, *([RunResumed(), outcome] if paused else [outcome]))
            return True


async def _until_paused(run_service: RunService, run: RunId, after: int) -> bool:
    """Waits until a run that another process drives has paused, or for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE), aclosing(run_service.follow(run, after, on_pause=True)) as records:
            async for record in records:
                if isinstance(record.event, RunPaused | RunEnded):
                    break
    return True
