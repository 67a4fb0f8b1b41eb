"""Delivers callbacks: signed POST requests when a run ends or pauses.

A callback is added in the transaction that ends its run, so a crash loses none. It is delivered at least once, under
one id however often it is tried (`webhook-id`). Of several processes on one database one sends it: it claims what is
due before it sends it.

Receivers do not delay each other: each has a few attempts at once and a queue of its own. What does not fit into its
queue is postponed in the store, for about as long as the receiver seems to need for what comes before.

The first attempt is made where the run has ended; a timer brings the moment of the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.background import Batched, Periodic, back_off, background, cancel
from headrace.errors import HeadraceError, NodeError, StoreError
from headrace.frozen import frozen
from headrace.ports import CALLBACK, MAILTO, Callback, Callbacks, Claims, HandledElsewhere, Signal, Timer, TimerKind
from headrace.ports.mail import MailError
from headrace.ports.services import Http
from headrace.runs.reader import RunView
from headrace.runs.service import RunService
from headrace.webhooks.delivery_policy import DeliveryPolicy
from headrace.webhooks.payload import message, request_of, signing_secret
from headrace.webhooks.receivers import Receiver, Receivers

if TYPE_CHECKING:
    from headrace.webhooks.form_mail import FormMails

logger = logging.getLogger(__name__)

_PAGE = 200  # callbacks read from the store at once
_GATHER_SECONDS = 0.02  # runs often end together
_RELEASE_SECONDS = 0.25  # until claims are given up, of many callbacks together
_POSTPONED_SECONDS = 0.25  # how often the store is polled while callbacks are postponed
_LONGEST_PAUSE = 60.0  # seconds between attempts to save the result of an attempt
_ATTEMPT_SECONDS = 45.0  # for one attempt in all: a response may arrive byte by byte
_PERMANENT = frozenset({"EgressRefused", "InvalidURLError"})  # errors that a retry would not change
_GONE = 410
_NO_MAIL = "no e-mail can be sent: set HEADRACE_SMTP_URL, HEADRACE_SMTP_FROM and HEADRACE_PUBLIC_URL"


@frozen
class _Outcome:
    """The result of an attempt. `error` is None if the callback was delivered; `final`: it is not tried again."""

    status: int | None = None
    error: str | None = None
    final: bool = False


class WebhookSender:
    """Delivers the callbacks that are due. `run` continues until it is cancelled.

    `secret` is the installation's own: the apps' signing secrets are derived from it. `watch` is called with every
    callback after an attempt. `mails` sends those that are e-mails.
    """

    def __init__(
        self,
        run_service: RunService,
        callbacks: Callbacks,
        claims: Claims,
        http: Http,
        secret: bytes,
        policy: DeliveryPolicy | None = None,
        watch: Callable[[Callback], None] | None = None,
        mails: FormMails | None = None,
    ) -> None:
        self.callbacks = callbacks
        self._run_service = run_service
        self._http = http
        self._secret = secret
        self._policy = policy or DeliveryPolicy()
        self._watch = watch
        self._mails = mails
        self._clock = run_service.environment.clock
        self._claims = claims
        self._claims_to_release: set[str] = set()  # claims to be released
        self._room = asyncio.Semaphore(self._policy.concurrency)
        self._receivers = Receivers(self._policy)
        self._deliveries: dict[str, asyncio.Task[None]] = {}  # by the callback's id
        self._to_resend: set[str] = set()  # of these: to be sent again unless they are delivered now
        self._postponed_until = 0.0
        self._timers = run_service.timers
        self._starting = asyncio.Lock()
        self._handling = Batched(self._start_rows, _PAGE)
        self._releasing = Periodic("releasing callbacks", self._release_claims, delay=_RELEASE_SECONDS)
        look_seconds = self._timers.look_seconds(self._policy.poll_seconds)
        self._polling = Periodic("looking for due callbacks", self._poll, look_seconds, delay=_GATHER_SECONDS)
        self._wire = run_service.environment.bus.wire
        self._wire.on_signal(Signal.CALLBACK, lambda _: self.wake())

    def signing_secret(self, app: str) -> str:
        """The secret of an app's callbacks, always the same: see `payload.signing_secret`."""
        return signing_secret(self._secret, app)

    def wake(self) -> None:
        """Something may be due: a run with a callback has ended or paused."""
        self._polling.wake()

    async def resend(self, callback: Callback) -> Callback:
        """Makes a callback due now, whatever its status, with all its attempts again. One that is being tried at this
        moment is due again only if that fails."""
        again = self._due(callback)
        if callback.status == "pending" and callback.id in self._deliveries:
            self._to_resend.add(callback.id)
        else:
            await self.callbacks.save_callback(again)
            self._set_timer(again)
            self._wire.signal(Signal.CALLBACK)  # this process may deliver none
        return again

    def _due(self, callback: Callback) -> Callback:
        return replace(callback, status="pending", attempts=0, next_at=self._clock(), delivered_at=None)

    async def run(self) -> None:
        """Delivers until cancelled. Attempts that are interrupted are repeated by the next process."""
        try:
            async with (
                self._timers.serving(TimerKind.CALLBACK, self),
                background("releasing callbacks", self._releasing.run()),
            ):
                await self._polling.run()
        finally:
            await cancel(*self._deliveries.values())
            await self._release()

    async def handle(self, row: str) -> None:
        """Makes the attempt at a callback that is due, or leaves it to the time to which it is postponed."""
        self.wake()  # others that are due need not wait for an engine that brings many timers one after the other
        await self._handling.get(row)
        if (delivery := self._deliveries.get(row)) is not None:
            await asyncio.wait([delivery])
        callback = await self.callbacks.find_callback(row)
        if callback is not None and self._is_due(callback):
            raise HandledElsewhere(f"another process delivers the callback {row}")

    async def _start_rows(self, rows: Sequence[str]) -> Mapping[str, None]:
        callbacks = await asyncio.gather(*map(self.callbacks.find_callback, rows))
        async with self._starting:
            await self._release()
            await self._start_all(callback for callback in callbacks if callback and self._is_due(callback))
        return {}

    def _is_due(self, callback: Callback) -> bool:
        return callback.status == "pending" and callback.next_at is not None and callback.next_at <= self._clock()

    # ------------------------------------------------------------------------------------------------------ polling

    async def _poll(self) -> float | None:
        """Starts what is due. Returns when to poll again."""
        if await self._start_due():
            return 0.0
        postponed = self._postponed_until > self._clock()
        return min(_POSTPONED_SECONDS, self._policy.poll_seconds) if postponed else None

    async def _start_due(self) -> bool:
        """Starts or postpones what is due. True if there may be more of it."""
        async with self._starting:
            await self._release()
            before = set(self._deliveries)  # still due in the store, even if their attempt ends during the query
            due = await self.callbacks.due_callbacks(self._clock(), len(before) + _PAGE)
            return await self._start_all(callback for callback in due if callback.id not in before) >= _PAGE

    async def _start_all(self, callbacks: Iterable[Callback]) -> int:
        """Starts or postpones callbacks, except for those that are being delivered. Returns how many
        there were."""
        new, now = [callback for callback in callbacks if callback.id not in self._deliveries], self._clock()
        names = await self._claims.claim([_claim(callback) for callback in new])
        postponed_callbacks: list[Callback] = []
        for callback in new:
            if _claim(callback) not in names:
                continue
            receiver = self._receivers.of(callback.url)
            if receiver.queued < self._policy.backlog:
                self._start(callback, receiver)
            else:
                at = self._receivers.postponed_to(receiver, now)
                self._postponed_until = max(self._postponed_until, at)
                postponed_callbacks.append(replace(callback, next_at=at))
        try:
            await asyncio.gather(*map(self._postpone, postponed_callbacks))
        finally:
            self._claims_to_release.update(map(_claim, postponed_callbacks))
            await self._release()
        return len(new)

    async def _postpone(self, callback: Callback) -> None:
        # another process may have delivered it between the query and the claim
        record = await self.callbacks.find_callback(callback.id)
        if record is not None and record.status == "pending" and record.attempts == callback.attempts:
            await self.callbacks.save_callback(callback)

    async def _release_claims(self) -> None:
        async with self._starting:
            await self._release()

    async def _release(self) -> None:
        """Releases the claims of ended deliveries; later if the store is unavailable."""
        if not self._claims_to_release:
            return
        names = set(self._claims_to_release)
        try:
            await self._claims.release(names)
        except StoreError as error:
            logger.log(error.level, "callbacks cannot be released: %s", error)
        else:
            self._claims_to_release -= names

    def _start(self, callback: Callback, receiver: Receiver) -> None:
        receiver.queued += 1
        task = asyncio.create_task(self._deliver(callback, receiver), name=f"callback {callback.id}")
        self._deliveries[callback.id] = task
        task.add_done_callback(_log_failure)

    # ---------------------------------------------------------------------------------------------------- delivering

    async def _deliver(self, queued: Callback, receiver: Receiver) -> None:
        """Tries a callback once, and saves the result."""
        try:
            async with receiver.room, self._room:
                callback = await self.callbacks.find_callback(queued.id)  # it may have changed while it was queued
                if callback is None or callback.status != "pending" or callback.next_at is None:
                    return
                if callback.next_at > self._clock():
                    return
                began = time.monotonic()
                outcome = await self._try(callback)
                receiver.seconds += 0.2 * (time.monotonic() - began - receiver.seconds)
            callback = self._after(callback, outcome)
            await self._save(callback)
            while callback.status != "delivered" and callback.id in self._to_resend:
                self._to_resend.discard(callback.id)
                callback = self._due(callback)
                await self._save(callback)
        finally:
            self._claims_to_release.add(_claim(queued))
            self._releasing.wake()
            self._to_resend.discard(queued.id)
            del self._deliveries[queued.id]
            self._receivers.leave(queued.url, receiver)

    def _after(self, callback: Callback, outcome: _Outcome) -> Callback:
        """The callback after an attempt."""
        now, attempts = self._clock(), callback.attempts + 1
        new = replace(callback, attempts=attempts, last_status=outcome.status, last_error=outcome.error, next_at=None)
        if outcome.error is None:
            return replace(new, status="delivered", delivered_at=now)
        if outcome.final or attempts > len(self._policy.back_off):
            return replace(new, status="failed")
        return replace(new, next_at=now + self._policy.spread(self._policy.back_off[attempts - 1]))

    async def _save(self, callback: Callback) -> None:
        """Saves the result of an attempt; until that succeeds there is no other attempt."""
        failures = 0
        while True:
            try:
                await self.callbacks.save_callback(callback)
                break
            except StoreError as error:
                failures += 1
                logger.log(error.level, "cannot save callback %s: %s", callback.id, error)
                await asyncio.sleep(back_off(failures, self._policy.poll_seconds, _LONGEST_PAUSE))
        if self._watch:
            self._watch(callback)
        if callback.status == "failed":
            logger.warning("callback %s of run %s failed: %s", callback.id, callback.run, callback.last_error)
        self._set_timer(callback)

    def _set_timer(self, callback: Callback) -> None:
        if callback.next_at is not None:
            self._timers.set(Timer(TimerKind.CALLBACK, callback.id, callback.next_at, callback.app, callback.run))

    async def _try(self, callback: Callback) -> _Outcome:
        try:
            view = await self._run_service.get(callback.run)
            if view is None:
                return _Outcome(error="the run, or its app, is gone", final=True)
            if callback.url.startswith(MAILTO):
                return await self._mail(callback, view)
            body = message(callback, view)
        except StoreError:
            raise  # not an attempt: it is made once the store can be read
        except HeadraceError as error:  # its secrets are unknown, so they cannot be masked
            return _Outcome(error=f"the run's workflow cannot be loaded: {error}")
        except Exception as error:
            # a bug, which must neither end the loop nor be retried without a pause; the log has the traceback
            logger.exception("callback %s of run %s cannot be built", callback.id, callback.run)
            return _Outcome(error=f"the message cannot be made: {type(error).__name__}")
        return await self._post(callback, body)

    async def _mail(self, callback: Callback, view: RunView) -> _Outcome:
        if self._mails is None:
            return _Outcome(error=_NO_MAIL, final=True)
        try:
            await self._mails.send(callback, view)
        except MailError as error:
            return _Outcome(error=str(error), final=error.final)
        return _Outcome()

    async def _post(self, callback: Callback, body: bytes) -> _Outcome:
        secret = self.signing_secret(callback.app)
        request = request_of(callback, body, int(self._clock()), secret)
        try:
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                response = await self._http.send(request)
        except NodeError as error:
            return _Outcome(error=str(error), final=error.kind in _PERMANENT)
        except TimeoutError:
            return _Outcome(error=f"timed out: no whole answer within {_ATTEMPT_SECONDS:g} s")
        if 200 <= response.status < 300:
            return _Outcome(response.status)
        return _Outcome(response.status, f"the receiver answered {response.status}", response.status == _GONE)


def _claim(callback: Callback) -> str:
    return f"{CALLBACK}{callback.id}"


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        if isinstance(error, StoreError):
            logger.log(error.level, "%s was postponed: %s", task.get_name(), error)
        else:
            logger.error("%s was postponed: %s", task.get_name(), error, exc_info=error)
