"""The triggers of what is served, and the runs that they start."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID, uuid5

from headrace.apps.catalog import Release, has_triggers
from headrace.cache import MAX_AGE_SECONDS, Cache
from headrace.errors import LoadError, NotFound
from headrace.frozen import frozen
from headrace.kernel.events import RunId
from headrace.node import Config
from headrace.nodes.trigger import Trigger
from headrace.ports import App, Principal, RunFilter, TriggerState
from headrace.ports.journal import ListedRun
from headrace.runs.service import RunService, Submission, SubmittedRun
from headrace.values import Value

logger = logging.getLogger(__name__)

USER = "DEFAULT-USER"
"""The end user of runs that a trigger starts, as in Dify."""
_WEBHOOK_ID = 24  # characters, as in Dify
_REMEMBERED = 10_000
_JUST_SERVED = 10.0  # seconds: a schedule that another process has begun since the apps were read is not forgotten


@frozen
class ServedTrigger:
    """A trigger of an app's current version. Its id follows from the app's and the node's, so that it stays the same
    when the file is served again."""

    release: Release
    node: str

    @property
    def app(self) -> App:
        return self.release.app

    @property
    def id(self) -> str:
        return str(uuid5(UUID(self.app.id), f"trigger {self.node}"))

    @property
    def trigger(self) -> Trigger[Config]:
        node = self.release.flow.nodes[self.node]
        assert isinstance(node, Trigger)
        return node

    @property
    def title(self) -> str:
        return self.release.flow.graph.nodes[self.node].title or self.node

    @property
    def source(self) -> str:
        """`RunQueued.source` of its runs."""
        return f"{self.trigger.type}:{self.node}"

    def inputs_of(self, fields: Mapping[str, Value]) -> Mapping[str, Value]:
        """The inputs of a run that is started by hand: for a webhook, the parts of a request."""
        return {"webhook_data": dict(fields)} if self.trigger.kind == "webhook" else fields


class TriggerService:
    """Finds triggers, keeps their states, and starts runs."""

    def __init__(self, run_service: RunService) -> None:
        self.run_service = run_service
        self.store = run_service.triggers
        self.clock = run_service.environment.clock
        self._apps = run_service.apps
        self._webhooks: dict[str, tuple[str, str]] = {}  # (app, node) by the webhook's id
        self._index: Cache[bool] = Cache(1, MAX_AGE_SECONDS)  # whether these are up to date
        self._states: Cache[TriggerState] = Cache(_REMEMBERED, MAX_AGE_SECONDS)
        self._unloadable: set[str] = set()  # ids of versions

    # ------------------------------------------------------------------------------------------------------ finding

    async def triggers(self, apps: Iterable[App] | None = None) -> list[ServedTrigger]:
        """The triggers of these apps, or of all; those of apps that can no longer be loaded are left out."""
        triggers: list[ServedTrigger] = []
        for app in await self._apps.catalog.apps() if apps is None else apps:
            if has_triggers(app):
                triggers += await self._of_app(app)
        return triggers

    async def _of_app(self, app: App) -> list[ServedTrigger]:
        try:
            release = await self._apps.version(app, app.version)
        except (LoadError, NotFound) as error:
            if app.version not in self._unloadable:
                self._unloadable.add(app.version)
                logger.error("the triggers of %s are off: %s", app.source, error)
            return []
        return [ServedTrigger(release, node) for node in release.flow.triggers]

    async def forget_removed(self, apps: Iterable[App], schedules: Collection[ServedTrigger]) -> None:
        """Forgets the schedules of these apps that are none of these: one that is served again later begins anew. Those
        of apps that cannot be loaded here are kept, since another process may run them."""
        still_served, loadable = (
            {trigger.id for trigger in schedules},
            {app.id for app in apps if app.version not in self._unloadable},
        )
        before = self.clock() - _JUST_SERVED
        for state in await self.store.scheduled_triggers():
            if state.id not in still_served and state.app in loadable and state.handled < before:
                await self.store.advance_trigger(state.id, state.app, "", self.clock())

    async def find(self, trigger: str) -> ServedTrigger | None:
        """A trigger by its id."""
        return next((item for item in await self.triggers() if item.id == trigger), None)

    async def find_webhook(self, webhook: str) -> ServedTrigger | None:
        """A webhook by the id in its URL. An unknown one costs no more than a look at the database every half second,
        however many requests there are."""
        if webhook not in self._webhooks:
            await self._index.get("webhooks", self._update_index)
        app_id, node = self._webhooks.get(webhook, ("", ""))
        app = await self._apps.find(app_id) if app_id else None
        if app is None:
            return None
        return next((trigger for trigger in await self._of_app(app) if trigger.node == node), None)

    async def _update_index(self) -> bool:
        triggers = await self.triggers()
        self._webhooks = {
            self.webhook_id(trigger): (trigger.app.id, trigger.node)
            for trigger in triggers
            if trigger.trigger.kind == "webhook"
        }
        return True

    def webhook_id(self, trigger: ServedTrigger) -> str:
        """The id in the URL of a webhook: anyone who knows it may start runs."""
        return self._apps.derived(f"webhook {trigger.app.id} {trigger.node}")[:_WEBHOOK_ID]

    def path(self, trigger: ServedTrigger) -> str | None:
        """The path of a webhook's URL; None for other triggers."""
        return f"/triggers/webhook/{self.webhook_id(trigger)}" if trigger.trigger.kind == "webhook" else None

    def invalidate(self) -> None:
        """An app has changed."""
        self._index.invalidate()

    # ------------------------------------------------------------------------------------------------------- states

    async def states(self, triggers: Sequence[ServedTrigger]) -> Mapping[str, TriggerState]:
        """The states of triggers by id, as they are now."""
        states = await self.store.trigger_states([trigger.id for trigger in triggers])
        return {trigger.id: states.get(trigger.id) or TriggerState(trigger.id, trigger.app.id) for trigger in triggers}

    async def is_paused(self, trigger: ServedTrigger) -> bool:
        """Whether a trigger is paused, or was half a second ago."""

        async def load() -> TriggerState:
            return (await self.states([trigger]))[trigger.id]

        return (await self._states.get(trigger.id, load)).paused

    async def pause(self, trigger: ServedTrigger, *, paused: bool) -> None:
        """Pauses a trigger, or resumes it. What a schedule has missed in the meantime does not start a run."""
        await self.store.pause_trigger(trigger.id, trigger.app.id, paused=paused, at=self.clock())
        self._states.invalidate()
        if self._apps.on_change is not None:
            self._apps.on_change()  # the timer is to look again

    async def last_run(self, trigger: ServedTrigger) -> ListedRun | None:
        """The newest run that a trigger started."""
        newest = RunFilter(trigger.app.id, source=trigger.source, limit=1, counted=False)
        _, runs = await self.run_service.runs.list_runs(newest)
        return runs[0] if runs else None

    # -------------------------------------------------------------------------------------------------------- firing

    async def count_request(self, trigger: ServedTrigger) -> None:
        """Counts a request to a trigger against the plan of its app. LimitReached if that allows no more."""
        if (limiter := self.run_service.limiter) is not None:
            app = trigger.app
            await limiter.request(Principal(trigger.id, app.workspace, frozenset({"run"}), app=app.id), app)

    async def fire(
        self,
        trigger: ServedTrigger,
        inputs: Mapping[str, Value],
        run: RunId | None = None,
        *,
        trace: str | None = None,
        key: str | None = None,
    ) -> SubmittedRun:
        """Starts a run at a trigger; once this returns, it is durable. With the id of a run that exists, returns
        that one. `key` is the id of the principal that started it, if it was not the trigger itself."""
        end_user = await self._apps.end_user(trigger.app, USER)
        submission = Submission(
            trigger.release,
            USER,
            inputs,
            end_user=end_user,
            source=trigger.source,
            start=trigger.node,
            trace=trace,
            key=key,
        )
        return await self.run_service.submit(submission, run)
