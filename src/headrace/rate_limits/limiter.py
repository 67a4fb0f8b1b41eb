"""Counts requests and runs against the limits of plans."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.errors import RequestError
from headrace.kernel.events import RunId
from headrace.ports import App, Bucket, Buckets, Principal, Slot, Taken
from headrace.rate_limits.plans import Plan, PlanFile

MB = 1024 * 1024
_DAY = 86400
_SLOT_SECONDS = 0.2  # after which to try again for a concurrent run: when one ends is not known


class AppliedPlan(NamedTuple):
    """A plan that applies to a call, and its owner: `scope` is workspace, app or key."""

    scope: str
    id: str
    plan: Plan

    @property
    def owner(self) -> str:
        return f"workspace '{self.id}'" if self.scope == "workspace" else f"this {self.scope}"


class LimitState(NamedTuple):
    """A limit that applied to a call: how much it allows in how many seconds (0: at once), how much is left, and after
    how many seconds all of it is available again."""

    kind: str
    limit: int
    window: int
    left: int
    reset: float


@dataclass(slots=True)
class Call:
    """A call: who makes it, for which app, and which limits applied."""

    principal: Principal | None = None
    app: App | None = None
    limits: list[LimitState] = field(default_factory=list[LimitState])


CURRENT_CALL: ContextVar[Call | None] = ContextVar("call", default=None)
"""The call that is being handled, where there are limits."""


def caller() -> str | None:
    """The id of the current call's principal; None where there are no limits."""
    call = CURRENT_CALL.get()
    return call.principal.id if call is not None and call.principal is not None else None


class LimitReached(RequestError):
    """429: a plan allows no more; after `wait` seconds it may."""

    def __init__(self, message: str, code: str, wait: float) -> None:
        self.wait = min(max(0.0, wait), float(_DAY))
        super().__init__(message, code, 429, {"Retry-After": str(max(1, math.ceil(self.wait - 1e-6)))})


class _Kind(NamedTuple):
    name: str
    code: str
    window: int  # seconds; 0: at once
    noun: str
    when: str


_REQUESTS = _Kind("requests", "rate_limit_error", 60, "request", "a minute")
_RUNS = _Kind("runs", "too_many_requests", _DAY, "run", "a day")
_AT_ONCE = _Kind("concurrent-runs", "too_many_requests", 0, "run", "at once")


class _Limit(NamedTuple):
    kind: _Kind
    applied: AppliedPlan
    most: int

    @property
    def name(self) -> str:
        return f"{self.kind.name}:{self.applied.scope}:{self.applied.id}"

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.name, self.most, self.most / self.kind.window)

    @property
    def slot(self) -> Slot:
        return Slot(self.name, self.most)

    def state(self, bucket: Taken) -> LimitState:
        window = self.kind.window
        remaining = min(self.most, max(0, math.floor(bucket.left + 1e-6)))
        reset = (self.most - bucket.left) * window / self.most if window else 0.0 if bucket.taken else _SLOT_SECONDS
        return LimitState(self.kind.name, self.most, window, remaining, reset)

    def error(self, wait: float) -> LimitReached:
        kind = self.kind
        allowed = f"{self.most} {kind.noun}{'s' if self.most > 1 else ''} {kind.when}"
        message = f"Too many requests: the plan of {self.applied.owner} allows {allowed}. Please try again later."
        return LimitReached(message, kind.code, wait)


class Limiter:
    """Admits calls and runs, or raises LimitReached. `clock` gives seconds since the epoch."""

    def __init__(self, file: PlanFile, store: Buckets, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._store = store
        self._clock = clock
        self._version = file.version
        # (name, limit) of buckets that are empty until then, on the monotonic clock
        self._exhausted_until: dict[tuple[str, int], float] = {}

    async def request(self, principal: Principal, app: App | None = None) -> None:
        """Counts a request of a principal; for an app if it is for one."""
        call = CURRENT_CALL.get()
        if call is not None:
            call.principal, call.app = principal, app
        plans = self._applied(principal.workspace, app, principal.id)
        await self._pass(_limits(plans, _REQUESTS), call)

    async def admit(self, run: RunId, app: App, *, known: bool = False) -> None:
        """Counts a run of an app that the current call starts. `known`: there may be a run with this id already, which
        then does not count again."""
        plans = self._applied(app.workspace, app, caller())
        await self._pass(_limits(plans, _RUNS), CURRENT_CALL.get(), _limits(plans, _AT_ONCE), run, known=known)

    def largest_upload(self) -> int | None:
        """Bytes that a file of the current call may have; None where no plan limits that."""
        call = CURRENT_CALL.get()
        if call is None or call.principal is None:
            return None
        plans = self._applied(call.principal.workspace, call.app, call.principal.id)
        most = [plan.plan.max_upload_mb for plan in plans if plan.plan.max_upload_mb is not None]
        return int(min(most) * MB) if most else None

    def _applied(self, workspace: str, app: App | None, key: str | None) -> list[AppliedPlan]:
        plans = self._file.current()
        if self._version != self._file.version:
            self._version = self._file.version
            self._exhausted_until.clear()
        policies = [("workspace", workspace, plans.workspaces.get(workspace, plans.default))]
        if app is not None and plans.apps:
            policies.append(("app", app.id, plans.apps.get(app.id) or plans.apps.get(app.name)))
        if key is not None and plans.keys:
            policies.append(("key", key, plans.keys.get(key)))
        return [AppliedPlan(scope, name, plans.plans[plan]) for scope, name, plan in policies if plan is not None]

    async def _pass(
        self,
        limits: Sequence[_Limit],
        call: Call | None,
        slots: Sequence[_Limit] = (),
        run: RunId | None = None,
        *,
        known: bool = False,
    ) -> None:
        """Takes one of each, or raises LimitReached."""
        if not limits and not slots:
            return
        demands = [*limits, *slots]
        since = time.monotonic()  # before the store is called, which may take long
        if not known and (indexes := self._still_exhausted(limits)):
            demands = [limits[index] for index in indexes]
            results = list(indexes.values())
        elif run is None:
            results = await self._store.take([limit.bucket for limit in limits], self._clock())
        else:
            buckets = [limit.bucket for limit in limits]
            results = await self._store.admit(run, buckets, [limit.slot for limit in slots], self._clock(), known=known)
            if not results:
                return
        worst: tuple[float, _Limit] | None = None
        for limit, indexes in zip(demands, results, strict=True):
            if call is not None:
                call.limits.append(limit.state(indexes))
            if not indexes.taken:
                wait = indexes.wait if limit.kind.window else _SLOT_SECONDS
                if limit.kind.window:
                    self._exhausted_until[limit.name, limit.most] = since + wait
                if worst is None or wait > worst[0]:
                    worst = wait, limit
        if worst is not None:
            raise worst[1].error(worst[0])

    def _still_exhausted(self, limits: Sequence[_Limit]) -> Mapping[int, Taken]:
        """The limits, by index, that are known to be exhausted: a flood of calls does not reach the database."""
        outcomes: dict[int, Taken] = {}
        now = time.monotonic()
        for index, limit in enumerate(limits):
            until = self._exhausted_until.get((limit.name, limit.most))
            if until is None:
                continue
            if now < until:
                wait = until - now
                outcomes[index] = Taken(False, max(0.0, 1 - wait * limit.most / limit.kind.window), wait)
            else:
                del self._exhausted_until[limit.name, limit.most]
        return outcomes


def _limits(plans: Sequence[AppliedPlan], kind: _Kind) -> list[_Limit]:
    limits: list[_Limit] = []
    for policy in plans:
        plan = policy.plan
        if kind is _REQUESTS:
            most = plan.requests_per_minute
        elif kind is _RUNS:
            most = plan.runs_per_day
        else:
            most = plan.concurrent_runs
        if most is not None:
            limits.append(_Limit(kind, policy, most))
    return limits
