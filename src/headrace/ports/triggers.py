"""What is kept of the triggers of apps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from headrace.frozen import frozen
from headrace.values import Value


@frozen
class TriggerState:
    """The state of a trigger of an app. A schedule has been `handled` up to a time, in seconds since the epoch: what
    was due by then has started a run, or is not going to. `schedule` is the one that this is true of."""

    id: str
    app: str
    paused: bool = False
    schedule: str = ""
    handled: float = 0.0


class Triggers(Protocol):
    """The states of triggers. One without a state is not paused. They are removed with their app."""

    async def trigger_states(self, ids: Collection[str]) -> Mapping[str, TriggerState]:
        """The states of these triggers, by id; those without one are left out."""
        ...

    async def scheduled_triggers(self) -> Sequence[TriggerState]:
        """The states that have a schedule, also of triggers that are no longer served."""
        ...

    async def pause_trigger(self, trigger: str, app: str, *, paused: bool, at: float) -> None:
        """Pauses a trigger, or resumes it: then its schedule is handled up to this time."""
        ...

    async def advance_trigger(self, trigger: str, app: str, schedule: str, handled: float) -> None:
        """Stores the schedule, and up to when it is handled; of the same schedule that time never decreases."""
        ...


@frozen
class PluginSubscription:
    """A subscription as plugins see it: the URL that the service sends its events to, what it was made with, and its
    properties, such as the secret that requests are signed with. `expires_at` is in seconds since the epoch; -1:
    never."""

    endpoint: str
    parameters: Mapping[str, Value] = field(default_factory=dict[str, Value])
    properties: Mapping[str, Value] = field(default_factory=dict[str, Value])
    expires_at: int = -1

    def body(self) -> dict[str, Value]:
        return {
            "endpoint": self.endpoint,
            "parameters": self.parameters,
            "properties": self.properties,
            "expires_at": self.expires_at,
        }


@frozen
class TriggerSubscription:
    """A subscription to a service whose events a plugin's `provider` (`author/plugin/provider`) understands.

    `hook` is the last part of the URL `endpoint`, to which the service sends its events. `credentials` is the name of
    the set that the plugin calls the service with, "" for the default one. A `manual` one was made at the service by
    hand; the plugin neither ends nor renews it. One that is not `active` is being made, or was interrupted while it
    was: it starts no runs. Times are in seconds since the epoch: `expires_at` is -1 and `refresh_at` None if there is
    none. `failures` counts the attempts to renew it since the last success; `error` is what went wrong last.
    """

    id: str
    workspace: str
    name: str
    provider: str
    hook: str = field(repr=False)
    endpoint: str = field(repr=False)
    created_at: float
    credentials: str = ""
    manual: bool = False
    active: bool = False
    parameters: Mapping[str, Value] = field(default_factory=dict[str, Value], repr=False)
    properties: Mapping[str, Value] = field(default_factory=dict[str, Value], repr=False)
    expires_at: int = -1
    refresh_at: float | None = None
    failures: int = 0
    error: str = ""
    claim: str = ""
    claimed_until: float = 0.0

    def for_plugin(self) -> PluginSubscription:
        return PluginSubscription(self.endpoint, self.parameters, self.properties, self.expires_at)


class SubscriptionStore(Protocol):
    """Subscriptions. Before a subscription is changed it is claimed, for longer than the change takes."""

    async def add_subscription(self, subscription: TriggerSubscription) -> bool:
        """Adds a subscription. False, and nothing is added, if its workspace has one of the same name."""
        ...

    async def find_subscription(self, subscription: str) -> TriggerSubscription | None:
        """A subscription by its id."""
        ...

    async def subscriptions(self, workspace: str | None = None) -> Sequence[TriggerSubscription]:
        """Those of a workspace, or all, by workspace and name."""
        ...

    async def due_subscriptions(self, now: float, limit: int) -> Sequence[TriggerSubscription]:
        """Those that are to be renewed and that nobody has claimed, the most urgent first."""
        ...

    async def claim_subscription(
        self, subscription: str, claim: str, now: float, until: float
    ) -> TriggerSubscription | None:
        """Claims a subscription until a time, and returns it as it is then. None if there is none, or somebody else
        has claimed it. A claim that would last more than twice as long does not count: the clock of the process that
        made it was ahead."""
        ...

    async def save_subscription(self, subscription: TriggerSubscription, claim: str) -> bool:
        """Replaces a subscription by id; its claim is what the new one says. False if it is not claimed so."""
        ...

    async def remove_subscription(self, subscription: str, claim: str) -> bool:
        """Removes a subscription. False if it is not claimed so."""
        ...
