"""Delivers callbacks: tells whoever asked for it that a run ended or paused.

A callback comes into being in the transaction that ends its run, so a crash loses none. It is delivered at least once,
under one id however often it is tried (`webhook-id`).

Of several processes on one database one sends each: it claims what is due before it sends it.

Receivers do not hold each other up: each has a few tries under way at once and a queue of its own. What is too much for
its queue is put off in the store, for about as long as the receiver seems to need for what comes before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from headrace import __version__
from headrace.background import Periodic, back_off, cancel
from headrace.errors import HeadraceError, NodeError, StoreError
from headrace.ports import CALLBACK, Callback, Callbacks, Claims
from headrace.ports.services import Http, HttpRequest
from headrace.runs.service import RunService
from headrace.webhooks.delivery_policy import DeliveryPolicy
from headrace.webhooks.payload import message, signature, signing_secret

logger = logging.getLogger(__name__)

_PAGE = 200  # callbacks asked of the store at once
_GATHER_SECONDS = 0.02  # runs often end together
_LINE_SECONDS = 0.25  # how often the store is asked while callbacks are put off
_LONGEST_LINE = 300.0  # seconds that one is put off at most: a slow receiver may have become quick
_LONGEST_PAUSE = 60.0  # seconds between tries to write down what became of a callback
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 15.0
_TRY_SECONDS = 45.0  # for one try in all: the head of an answer may drip
_ANSWER = 16 * 1024  # bytes of an answer that are read
_HOPELESS = frozenset({"EgressRefused", "InvalidURLError"})  # trying again would not change it
_GONE = 410


@dataclass(slots=True)
class _Receiver:
    """A host that callbacks go to. `held`: those of them in its queue; `room`: for tries under way; `seconds`: how long
    a try takes, as far as is known; `line_until`: when those that were put off will have had their turn, if so."""

    room: asyncio.Semaphore
    held: int = 0
    seconds: float = 0.05
    line_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a try went. `error` is None where it was delivered; `final`: it is not to be tried again."""

    status: int | None = None
    error: str | None = None
    final: bool = False


class WebhookSender:
    """Delivers the callbacks that are due. `run` goes on until it is cancelled.

    `secret` is the installation's own: the apps' signing secrets are derived from it. `watch` is told of every callback
    that was tried, as it stands then.
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
    ) -> None:
        self.callbacks = callbacks
        self._run_service = run_service
        self._http = http
        self._secret = secret
        self._policy = policy or DeliveryPolicy()
        self._watch = watch
        self._clock = run_service.environment.clock
        self._claims = claims
        self._unclaimed: set[str] = set()  # claims that are to be released
        self._room = asyncio.Semaphore(self._policy.concurrency)
        self._receivers: dict[str, _Receiver] = {}
        self._held: dict[str, asyncio.Task[None]] = {}  # by the callback's id
        self._wanted: set[str] = set()  # of those held: to be sent again unless they are delivered now
        self._line_until = 0.0
        self._looking = Periodic(
            "looking for due callbacks", self._look, self._policy.poll_seconds, delay=_GATHER_SECONDS
        )

    # ------------------------------------------------------------------------------------------------------ outside

    def signing_secret(self, app: str) -> str:
        """What the callbacks of an app's runs are signed with, always the same: see `message.signing_secret`."""
        return signing_secret(self._secret, app)

    def wake(self) -> None:
        """Says that something may be due: a run with a callback has ended or paused."""
        self._looking.wake()

    async def resend(self, callback: Callback) -> Callback:
        """Makes a callback due now, whatever became of it, with all its tries before it again. One that is being tried
        at this very moment is due again only if that comes to nothing."""
        again = self._due(callback)
        if callback.status == "pending" and callback.id in self._held:
            self._wanted.add(callback.id)
        else:
            await self.callbacks.save_callback(again)
            self.wake()
        return again

    def _due(self, callback: Callback) -> Callback:
        return replace(callback, status="pending", attempts=0, next_at=self._clock(), delivered_at=None)

    async def run(self) -> None:
        """Delivers until cancelled. Tries then under way are made again by whoever delivers next."""
        try:
            await self._looking.run()
        finally:
            await cancel(*self._held.values())

    async def _look(self) -> float | None:
        """Starts what is due. Returns when to look again."""
        if await self._take_up():
            return 0.0
        return min(_LINE_SECONDS, self._policy.poll_seconds) if self._line_until > self._clock() else None

    # ----------------------------------------------------------------------------------------------------- taking up

    async def _take_up(self) -> bool:
        """Holds what is due. True if there may be more of it."""
        await self._release()
        now = self._clock()
        before = set(self._held)  # still due; and what ends while the store is asked may be told as it was
        due = await self.callbacks.due_callbacks(now, len(before) + _PAGE)
        fresh = [callback for callback in due if callback.id not in before and callback.id not in self._held]
        claimed = await self._claims.claim([_claim(callback) for callback in fresh])
        put_off: list[Callback] = []
        for callback in fresh:
            if _claim(callback) not in claimed:
                continue
            receiver = self._receiver(callback.url)
            if receiver.held < self._policy.backlog:
                self._hold(callback, receiver)
            else:
                put_off.append(replace(callback, next_at=self._turn(receiver, now)))
        try:
            await asyncio.gather(*map(self._put_off, put_off))
        finally:
            self._unclaimed.update(map(_claim, put_off))
            await self._release()
        return len(fresh) >= _PAGE

    async def _put_off(self, callback: Callback) -> None:
        # another process may have delivered it between the look and the claim
        found = await self.callbacks.find_callback(callback.id)
        if found is not None and found.status == "pending" and found.attempts == callback.attempts:
            await self.callbacks.save_callback(callback)

    async def _release(self) -> None:
        """Gives back what is not worked at any more; later where the store is away."""
        if not self._unclaimed:
            return
        names = set(self._unclaimed)
        try:
            await self._claims.release(names)
        except StoreError as error:
            logger.log(error.level, "callbacks cannot be released: %s", error)
        else:
            self._unclaimed -= names

    def _turn(self, receiver: _Receiver, now: float) -> float:
        """When a callback for which there is no room in the queue will have its turn."""
        each = receiver.seconds / self._policy.per_receiver
        receiver.line_until = max(receiver.line_until, now + receiver.held * each) + each
        turn = min(receiver.line_until, now + _LONGEST_LINE)
        self._line_until = max(self._line_until, turn)
        return turn

    def _receiver(self, url: str) -> _Receiver:
        name = _host(url)
        found = self._receivers.get(name)
        if found is None:
            found = self._receivers[name] = _Receiver(asyncio.Semaphore(self._policy.per_receiver))
        return found

    def _hold(self, callback: Callback, receiver: _Receiver) -> None:
        receiver.held += 1
        task = asyncio.create_task(self._deliver(callback, receiver), name=f"callback {callback.id}")
        self._held[callback.id] = task
        task.add_done_callback(_report)

    # ---------------------------------------------------------------------------------------------------- delivering

    async def _deliver(self, held: Callback, receiver: _Receiver) -> None:
        """Tries a callback once, and notes how it went."""
        try:
            async with receiver.room, self._room:
                callback = await self.callbacks.find_callback(held.id)  # as it stands now: it may have waited for long
                if callback is None or callback.status != "pending" or callback.next_at is None:
                    return
                if callback.next_at > self._clock():
                    return
                began = time.monotonic()
                outcome = await self._try(callback)
                receiver.seconds += 0.2 * (time.monotonic() - began - receiver.seconds)
            callback = self._after(callback, outcome)
            await self._note(callback)
            while callback.status != "delivered" and callback.id in self._wanted:
                self._wanted.discard(callback.id)
                callback = self._due(callback)
                await self._note(callback)
        finally:
            self._unclaimed.add(_claim(held))
            self._wanted.discard(held.id)
            del self._held[held.id]
            receiver.held -= 1
            if not receiver.held:
                del self._receivers[_host(held.url)]

    def _after(self, callback: Callback, outcome: _Outcome) -> Callback:
        """The callback after a try."""
        now, attempts = self._clock(), callback.attempts + 1
        told = replace(callback, attempts=attempts, last_status=outcome.status, last_error=outcome.error, next_at=None)
        if outcome.error is None:
            return replace(told, status="delivered", delivered_at=now)
        if outcome.final or attempts > len(self._policy.back_off):
            return replace(told, status="failed")
        return replace(told, next_at=now + self._policy.spread(self._policy.back_off[attempts - 1]))

    async def _note(self, callback: Callback) -> None:
        """Writes down what became of a try; until that is done it is not made again."""
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
        if callback.next_at is not None and (left := callback.next_at - self._clock()) < self._policy.poll_seconds:
            asyncio.get_running_loop().call_later(max(0.0, left), self.wake)

    async def _try(self, callback: Callback) -> _Outcome:
        try:
            view = await self._run_service.get(callback.run)
            if view is None:
                return _Outcome(error="the run, or its app, is gone", final=True)
            body = message(callback, view)
        except StoreError:
            raise  # no try at all: it is made once the store can be read
        except HeadraceError as error:  # its secrets are not known, so nothing of it may be told
            return _Outcome(error=f"the run's workflow cannot be loaded: {error}")
        except Exception as error:
            # a bug, which must neither end the loop nor be retried without a pause; the log has the traceback
            logger.exception("callback %s of run %s cannot be made", callback.id, callback.run)
            return _Outcome(error=f"the message cannot be made: {type(error).__name__}")
        return await self._post(callback, body)

    async def _post(self, callback: Callback, body: bytes) -> _Outcome:
        at = int(self._clock())
        headers = (
            ("Content-Type", "application/json"),
            ("User-Agent", f"Headrace/{__version__}"),
            ("webhook-id", callback.id),
            ("webhook-timestamp", str(at)),
            ("webhook-signature", signature(self.signing_secret(callback.app), callback.id, at, body)),
        )
        request = HttpRequest(
            "POST",
            callback.url,
            headers,
            body,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            max_size=_ANSWER,
            cut_off=True,
            follow_redirects=False,
        )
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                answer = await self._http.send(request)
        except NodeError as error:
            return _Outcome(error=str(error), final=error.kind in _HOPELESS)
        except TimeoutError:
            return _Outcome(error=f"timed out: no whole answer within {_TRY_SECONDS:g} s")
        if 200 <= answer.status < 300:
            return _Outcome(answer.status)
        return _Outcome(answer.status, f"the receiver answered {answer.status}", answer.status == _GONE)


def _claim(callback: Callback) -> str:
    return f"{CALLBACK}{callback.id}"


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        if isinstance(error, StoreError):
            logger.log(error.level, "%s was put off: %s", task.get_name(), error)
        else:
            logger.error("%s was put off: %s", task.get_name(), error, exc_info=error)


def _host(url: str) -> str:
    """Whom a URL leads to, as far as callbacks may hold each other up."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return url
