"""What is served: apps and their versions, each to those who may call it.

A file is published under its source (where it was read from): the same source keeps its app and key, a changed content
becomes a new version, an old one can still be called by its id, and be made the current one again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headrace.access.keys import APP_PREFIX, ITSELF, Access, Rights, digest, reaches
from headrace.cache import FRESH_SECONDS, Cache
from headrace.dsl.load import inspect, load
from headrace.errors import InvalidParam, LoadError, NotFound, Problem, RequestError
from headrace.node import Flow, Registry
from headrace.ports import WORKSPACE, App, Catalog, EndUser, Principal, Version

logger = logging.getLogger(__name__)

_REMEMBERED = 10_000  # apps, workspaces, end users
_FILE = "file_sha256"  # in an app's settings: the digest of its file when it was last served


@dataclass(frozen=True, slots=True)
class Served:
    """An app in one of its versions, ready to run."""

    app: App
    version: Version
    flow: Flow


@dataclass(frozen=True, slots=True)
class Published:
    """A content that has become a version, or was one (`new` is False). `problems` are such as do not keep it from
    running. `served.app` tells which version is the current one."""

    served: Served
    new: bool
    problems: Sequence[Problem]


class Apps:
    """Publishes workflow files, and finds apps and versions. `access` knows who may call them.

    `secret` is the installation's own (32 bytes): an app's own keys are derived from it, so that they can be shown
    again although only their hashes are stored. `clock` gives seconds since the epoch.
    """

    def __init__(
        self, catalog: Catalog, registry: Registry, secret: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self.catalog = catalog
        self.registry = registry
        self._secret = secret
        self._clock = clock
        self._publishing = asyncio.Lock()  # within this process, one looks and then writes at a time
        self._flows: dict[str, tuple[Version, Flow]] = {}  # by version id; a version never changes
        self.access = Access(catalog, clock)
        self._apps: Cache[App | None] = Cache(_REMEMBERED, FRESH_SECONDS)
        self._members: Cache[list[App]] = Cache(_REMEMBERED, FRESH_SECONDS)  # by workspace
        self._end_users: Cache[EndUser] = Cache(_REMEMBERED)  # by app and session; they never change

    async def publish(self, source: str, content: str, workspace: str = WORKSPACE) -> Served:
        """Serves a file's content under its source, which is another app in every workspace. LoadError if it cannot be
        loaded: then nothing changes.

        A changed file becomes the current version, whatever was current before. A file that is as it was when it was
        last served changes nothing: what was pinned, rolled back to or published since then stays current.
        """
        flow = await asyncio.to_thread(load, content, self.registry, source)
        async with self._publishing:
            app = await self.catalog.app_of_source(source, workspace)
            wanted = digest(content)
            if app is not None and app.settings.get(_FILE) == wanted:
                served = await self.version(app, app.version)
                if served.version.digest != wanted:
                    logger.info("%s is unchanged; version %d stays the current one", source, served.version.number)
                return served
            app_id = app.id if app else str(uuid.uuid4())
            version, new = await self._versioned(app_id, content)
            described = App(
                app_id,
                flow.name,
                flow.mode,
                source,
                version.id,
                flow.description,
                app.created_at if app else version.created_at,
                {**flow.settings, _FILE: wanted},
                workspace,
            )
            if new:
                await self.catalog.add_version(version)  # first: an app's current version is always there
            await self.catalog.save_app(described)
            if app is None:
                await self._keep_key(described, self.own_key(described))
            self._flows[version.id] = (version, flow)
            self._invalidate()
            return Served(described, version, flow)

    async def publish_version(self, app: App, content: str, *, current: bool = True) -> Published:
        """Adds a content to an app's versions, or finds it there, and makes it the current one unless told otherwise.
        LoadError with all its problems if it cannot be loaded: then nothing changes."""
        flow, problems = await asyncio.to_thread(inspect, content, self.registry, "content")
        if flow is None:
            raise LoadError("content", problems)
        async with self._publishing:
            version, new = await self._versioned(app.id, content)
            if new:
                await self.catalog.add_version(version)
            self._flows[version.id] = (version, flow)
            app = await self._make_current(app.id, version, flow) if current else await self._app(app.id)
        return Published(Served(app, version, flow), new, problems)

    async def pin(self, app: App, version: str) -> Served:
        """Makes a version the one that the app's calls run. NotFound if the app has none of that id; LoadError if it
        does not load any more."""
        async with self._publishing:
            found, flow = await self._version(app.id, version)
            return Served(await self._make_current(app.id, found, flow), found, flow)

    async def roll_back(self, app: App) -> Served:
        """Makes the version before the current one, by their numbers, the current one. 409 `no_earlier_version` if
        there is none."""
        async with self._publishing:
            known = await self.catalog.versions(app.id)
            now = (await self._app(app.id)).version
            at = next((index for index, each in enumerate(known) if each.id == now), len(known))
            if at + 1 >= len(known):
                raise RequestError("The current version is the first one.", "no_earlier_version", 409)
            found, flow = await self._version(app.id, known[at + 1].id)
            return Served(await self._make_current(app.id, found, flow), found, flow)

    async def _versioned(self, app: str, content: str) -> tuple[Version, bool]:
        """(the version of an app that has this content, whether it is a new one). Its id follows from the content, so
        that two processes that publish it at once make one."""
        known = await self.catalog.versions(app)
        wanted = digest(content)
        found = next((each for each in known if each.digest == wanted), None)
        if found is not None:
            return found, False
        number = 1 + max((each.number for each in known), default=0)
        return Version(str(uuid.uuid5(uuid.UUID(app), wanted)), app, number, wanted, content, self._clock()), True

    async def _make_current(self, app: str, version: Version, flow: Flow) -> App:
        known = await self._app(app)
        settings = {**flow.settings, **{key: known.settings[key] for key in (_FILE,) if key in known.settings}}
        changed = replace(
            known,
            name=flow.name,
            mode=flow.mode,
            version=version.id,
            description=flow.description,
            settings=settings,
        )
        if changed != known:
            await self.catalog.save_app(changed)
        self._invalidate()
        return changed

    async def _app(self, app: str) -> App:
        found = await self.catalog.app(app)
        if found is None:
            raise _no_app(app)
        return found

    async def remove(self, app: App) -> bool:
        """Removes an app with its keys and versions; see `Catalog.remove_app`."""
        removed = await self.catalog.remove_app(app.id)
        self._invalidate()
        return removed

    # ----------------------------------------------------------------------------------------------------- finding

    async def find(self, app: str) -> App | None:
        """An app by its id, at most `FRESH_SECONDS` old."""
        return await self._apps.get(app, lambda: self.catalog.app(app))

    async def served(self, app: str) -> Served:
        """An app in its current version. NotFound if there is none of that id."""
        found = await self._app(app)
        return await self.version(found, found.version)

    async def version(self, app: App, version: str) -> Served:
        """An app in one of its versions. NotFound if it has none of that id."""
        return Served(app, *await self._version(app.id, version))

    async def flow(self, app: str, version: str) -> Flow:
        """What a run of an app's version executes. NotFound if it is gone, LoadError if it no longer loads."""
        return (await self._version(app, version))[1]

    async def _version(self, app: str, version: str) -> tuple[Version, Flow]:
        known = self._flows.get(version)
        if known is None:
            found = await self.catalog.version(version)
            if found is None or found.app != app:
                raise NotFound(f"Workflow not found with id: {version}")
            known = self._flows[version] = (found, load(found.content, self.registry, f"version {found.number}"))
        if known[0].app != app:
            raise NotFound(f"Workflow not found with id: {version}")
        return known

    async def end_user(self, app: App, session: str) -> EndUser:
        """The end user that a call's `user` names, made if new."""
        return await self._end_users.get(
            (app.id, session), lambda: self.catalog.end_user(app.id, session, self._clock())
        )

    # ------------------------------------------------------------------------------------------------------ opening

    async def opened(self, principal: Principal, wanted: str | None = None) -> Served:
        """The app that a principal calls, in its current version: the one of the id that it names, or else the only
        one that it may call. NotFound if there is none of that id, or none that it may call; InvalidParam where it
        should have named one."""
        app = wanted or principal.app or await self._only(principal)
        found = await self.find(app)
        if found is None or not reaches(principal, found):
            raise _no_app(app)
        return await self.version(found, found.version)

    async def reached(self, principal: Principal) -> Sequence[App]:
        """The apps that a principal may call."""
        members = await self._members.get(principal.workspace, lambda: self.catalog.apps(principal.workspace))
        return [app for app in members if reaches(principal, app)]

    async def _only(self, principal: Principal) -> str:
        if principal.apps is not None and len(principal.apps) == 1:
            return next(iter(principal.apps))
        open_ = await self.reached(principal)
        if len(open_) != 1:
            told = f"{len(open_)} apps" if open_ else "no app"
            raise InvalidParam(f"This key opens {told}: name the one that you mean in the header Headrace-App.")
        return open_[0].id

    def _invalidate(self) -> None:
        self._apps.invalidate()
        self._members.invalidate()

    # ------------------------------------------------------------------------------------------------------ own keys

    def own_key(self, app: App, number: int = 0) -> str:
        """One of the keys an app is shown with: the same whenever it is asked for, although only its hash is stored.
        The first is the one it is born with; the next takes its place once it is revoked or rotated."""
        made = hmac.new(self._secret, f"key {number} of {app.id}".encode(), hashlib.sha256).digest()
        return APP_PREFIX + base64.urlsafe_b64encode(made).decode().rstrip("=")[:32]

    async def working_key(self, app: App) -> str:
        """A key to show for an app: the first of its own keys that is good, and to stay so."""
        for number in itertools.count():
            key = self.own_key(app, number)
            found = await self.catalog.key_of(digest(key))
            if found is None:
                await self._keep_key(app, key)
                return key
            if found.live(self._clock()) and found.replaced_by is None:
                return key
        raise AssertionError("counting does not end")

    async def _keep_key(self, app: App, key: str) -> None:
        await self.access.keep(key, Rights(app.workspace, app=app.id), ITSELF)


def _no_app(app: str) -> NotFound:
    return NotFound(f"App not found with id: {app}")
