"""What is served: apps and their versions.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from headrace.access.keys import APP_PREFIX, ITSELF, Access, Rights, can_access, digest
from headrace.cache import MAX_AGE_SECONDS, Cache
from headrace.dsl.load import inspect, load
from headrace.errors import InvalidParam, LoadError, NotFound, Problem, RequestError
from headrace.frozen import frozen
from headrace.node import Flow, Registry
from headrace.ports import WORKSPACE, App, Catalog, EndUser, Principal, Version
from headrace.values import Value

logger = logging.getLogger(__name__)

_REMEMBERED = 10_000  # apps, workspaces, end users
_NAME = "own_name"  # in an app's settings: the name that it was given, instead of the file's
_FILE = "file_sha256"  # in an app's settings: the digest of its file when it was last served
_TRIGGERS = "has_triggers"  # in an app's settings: true if its current version has triggers


@frozen
class Release:
    """An app in one of its versions, ready to run."""

    app: App
    version: Version
    flow: Flow


@frozen
class Published:
    """A content that has become a version, or was one before (`new` is False). `problems` are those that do not keep
    it from running. `release.app` has the current version."""

    release: Release
    new: bool
    problems: Sequence[Problem]


class Apps:
    """Publishes workflow files, and finds apps and versions. `access` has the keys for them.

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
        self._publishing = asyncio.Lock()  # one at a time reads and then writes, within this process
        self._flows: dict[str, tuple[Version, Flow]] = {}  # by version id; a version never changes
        self.known_names: set[str] = set()  # names and ids of apps that need not be loaded here
        self.access = Access(catalog, clock)
        self._apps: Cache[App | None] = Cache(_REMEMBERED, MAX_AGE_SECONDS)
        self._by_workspace: Cache[list[App]] = Cache(_REMEMBERED, MAX_AGE_SECONDS)
        self._end_users: Cache[EndUser] = Cache(_REMEMBERED)  # by app and session; they never change
        self.on_change: Callable[[], None] | None = None  # called when this process has changed an app

    async def publish(
        self, source: str, content: str, workspace: str = WORKSPACE, *, flow: Flow | None = None
    ) -> Release:
        """Serves a file's content under its source, which is another app in every workspace. LoadError if it cannot be
        loaded: then nothing changes. `flow` is the loaded content, where the caller has it.

        A changed file becomes the current version, whatever was current before. A file that is as it was when it was
        last served changes nothing: what was pinned, rolled back to or published since then stays current.
        """
        if flow is None:
            flow = await asyncio.to_thread(load, content, self.registry, source)
        async with self._publishing:
            return await self._publish(source, content, workspace, flow)

    async def _publish(self, source: str, content: str, workspace: str, flow: Flow) -> Release:
        app = await self.catalog.app_of_source(source, workspace)
        file_digest = digest(content)
        if app is not None and app.settings.get(_FILE) == file_digest:
            release = await self.version(app, app.version)
            if release.version.digest != file_digest:
                logger.info("%s is unchanged; version %d stays the current one", source, release.version.number)
            return await self._marked(release)
        app_id = app.id if app else str(uuid.uuid4())
        version, new = await self._versioned(app_id, content)
        kept_settings = {key: app.settings[key] for key in (_NAME,) if key in app.settings} if app else {}
        app_record = App(
            app_id,
            str(kept_settings.get(_NAME, flow.name)),
            flow.mode,
            source,
            version.id,
            flow.description,
            app.created_at if app else version.created_at,
            {**_settings_of(flow), **kept_settings, _FILE: file_digest},
            workspace,
        )
        if new:
            await self.catalog.add_version(version)  # first: an app's current version is always there
        if app is not None:
            await self.catalog.save_app(app_record)
        elif (await self.catalog.add_app(app_record)).id != app_id:  # another process was first
            await self.catalog.remove_app(app_id)
            return await self._publish(source, content, workspace, flow)
        else:
            await self._keep_key(app_record, self.own_key(app_record))
        self._flows[version.id] = (version, flow)
        self._invalidate()
        return Release(app_record, version, flow)

    async def publish_version(self, app: App, content: str, *, current: bool = True) -> Published:
        """Adds a content to an app's versions, unless it is one already; makes it the current one if `current`.
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
        return Published(Release(app, version, flow), new, problems)

    async def pin(self, app: App, version: str) -> Release:
        """Makes a version the one that the app's calls run. NotFound if the app has none of that id; LoadError if it
        does not load any more."""
        async with self._publishing:
            version_record, flow = await self._version(app.id, version)
            return Release(await self._make_current(app.id, version_record, flow), version_record, flow)

    async def roll_back(self, app: App) -> Release:
        """Makes the version before the current one, by their numbers, the current one. 409 `no_earlier_version` if
        there is none."""
        async with self._publishing:
            versions = await self.catalog.versions(app.id)
            current = (await self._app(app.id)).version
            at = next((index for index, version in enumerate(versions) if version.id == current), len(versions))
            if at + 1 >= len(versions):
                raise RequestError("The current version is the first one.", "no_earlier_version", 409)
            earlier, flow = await self._version(app.id, versions[at + 1].id)
            return Release(await self._make_current(app.id, earlier, flow), earlier, flow)

    async def preview(self, app: App, content: str) -> tuple[Version, bool]:
        """(the version that an app would have or has with this content, whether it would be a new one)."""
        return await self._versioned(app.id, content)

    async def _versioned(self, app: str, content: str) -> tuple[Version, bool]:
        """(the version of an app that has this content, whether it is a new one). Its id follows from the content, so
        that two processes that publish it at once make one."""
        versions = await self.catalog.versions(app)
        content_digest = digest(content)
        for version in versions:
            if version.digest == content_digest:
                return version, False
        id_ = str(uuid.uuid5(uuid.UUID(app), content_digest))
        number = 1 + max((version.number for version in versions), default=0)
        return Version(id_, app, number, content_digest, content, self._clock()), True

    async def _make_current(self, app: str, version: Version, flow: Flow) -> App:
        record = await self._app(app)
        own_settings = {key: record.settings[key] for key in (_FILE, _NAME) if key in record.settings}
        settings = {**_settings_of(flow), **own_settings}
        new_record = replace(
            record,
            name=str(own_settings.get(_NAME, flow.name)),
            mode=flow.mode,
            version=version.id,
            description=flow.description,
            settings=settings,
        )
        if new_record != record:
            await self.catalog.save_app(new_record)
        self._invalidate()
        return new_record

    async def _marked(self, release: Release) -> Release:
        """An app whose triggers are known; they are not if it was published by a version that did not run them."""
        if has_triggers(release.app) or not release.flow.triggers:
            return release
        app = replace(release.app, settings={**release.app.settings, _TRIGGERS: True})
        await self.catalog.save_app(app)
        self._invalidate()
        return replace(release, app=app)

    async def _app(self, app_id: str) -> App:
        app = await self.catalog.app(app_id)
        if app is None:
            raise _no_app(app_id)
        return app

    async def rename(self, app: App, name: str) -> App:
        """Gives an app a name that its file does not change."""
        async with self._publishing:
            record = await self._app(app.id)
            new_record = replace(record, name=name, settings={**record.settings, _NAME: name})
            await self.catalog.save_app(new_record)
            self._invalidate()
            return new_record

    async def remove(self, app: App) -> bool:
        """Removes an app with its keys and versions; see `Catalog.remove_app`."""
        is_removed = await self.catalog.remove_app(app.id)
        self._invalidate()
        return is_removed

    # ----------------------------------------------------------------------------------------------------- finding

    async def find(self, app: str) -> App | None:
        """An app by its id, at most `MAX_AGE_SECONDS` old."""
        return await self._apps.get(app, lambda: self.catalog.app(app))

    async def current(self, app_id: str) -> Release:
        """An app in its current version. NotFound if there is none of that id."""
        app = await self._app(app_id)
        return await self.version(app, app.version)

    async def version(self, app: App, version: str) -> Release:
        """An app in one of its versions. NotFound if it has none of that id."""
        return Release(app, *await self._version(app.id, version))

    async def learn_names(self) -> None:
        """Learns the names of all apps, whichever process serves them."""
        self.known_names.update(name for app in await self.catalog.apps() for name in (app.name, app.id))

    def knows(self, name: str) -> bool:
        """Whether there is an app of this name or id, as far as this process knows."""
        return name in self.known_names or any(
            name in (flow.name, version.app) for version, flow in self._flows.values()
        )

    async def flow(self, app: str, version: str) -> Flow:
        """What a run of an app's version executes. NotFound if it was removed, LoadError if it no longer loads."""
        return (await self._version(app, version))[1]

    async def _version(self, app: str, version_id: str) -> tuple[Version, Flow]:
        entry = self._flows.get(version_id)
        if entry is None and (version := await self.catalog.version(version_id)) is not None and version.app == app:
            entry = version, load(version.content, self.registry, f"version {version.number}")
            self._flows[version_id] = entry
        if entry is None or entry[0].app != app:
            raise NotFound(f"Workflow not found with id: {version_id}")
        return entry

    async def end_user(self, app: App, session: str) -> EndUser:
        """The end user that a call's `user` names; a new one is stored."""
        return await self._end_users.get(
            (app.id, session), lambda: self.catalog.end_user(app.id, session, self._clock())
        )

    # ------------------------------------------------------------------------------------------------------- access

    async def app_for(self, principal: Principal, app_id: str | None = None) -> Release:
        """The app that a principal calls, in its current version: the one with the id that it names, or else the only
        one that it can access. NotFound if there is none with that id, or none that it can access; InvalidParam where
        it has to name one."""
        id_ = app_id or principal.app or await self._only(principal)
        app = await self._apps.get(id_, lambda: self.catalog.app(id_))
        if app is None or not can_access(principal, app):
            raise _no_app(id_)
        return Release(app, *await self._version(app.id, app.version))

    async def accessible_apps(self, principal: Principal) -> Sequence[App]:
        """The apps that a principal may call."""
        apps = await self._by_workspace.get(principal.workspace, lambda: self.catalog.apps(principal.workspace))
        return [app for app in apps if can_access(principal, app)]

    async def _only(self, principal: Principal) -> str:
        if principal.apps is not None and len(principal.apps) == 1:
            return next(iter(principal.apps))
        apps = await self.accessible_apps(principal)
        if not apps:
            raise InvalidParam("This key cannot access any app.")
        if len(apps) > 1:
            raise InvalidParam(f"This key can access {len(apps)} apps; choose one with the Headrace-App header.")
        return apps[0].id

    def _invalidate(self) -> None:
        self._apps.invalidate()
        self._by_workspace.invalidate()
        if self.on_change is not None:
            self.on_change()

    # ------------------------------------------------------------------------------------------------------ own keys

    def own_key(self, app: App, number: int = 0) -> str:
        """One of the keys that an app is shown with, derived so that it need not be stored. The first is created with
        the app; the next replaces it once it is revoked or rotated."""
        return APP_PREFIX + self.derived(f"key {number} of {app.id}")[:32]

    def derived(self, name: str) -> str:
        """43 characters for URLs that follow from a name, and that nobody without the secret can guess."""
        derived_key = hmac.new(self._secret, name.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(derived_key).decode().rstrip("=")

    async def working_key(self, app: App) -> str:
        """A key to show for an app: the first of its own keys that is valid and not about to expire."""
        for number in itertools.count():
            key = self.own_key(app, number)
            record = await self.catalog.key_of(digest(key))
            if record is None:
                await self._keep_key(app, key)
                return key
            if record.live(self._clock()) and record.replaced_by is None:
                return key
        raise AssertionError("counting does not end")

    async def _keep_key(self, app: App, key: str) -> None:
        await self.access.keep(key, Rights(app.workspace, app=app.id), ITSELF)


def has_triggers(app: App) -> bool:
    """Whether the current version of an app has triggers; the app need not be loaded for it."""
    return bool(app.settings.get(_TRIGGERS))


def _settings_of(flow: Flow) -> Mapping[str, Value]:
    return {**flow.settings, _TRIGGERS: True} if flow.triggers else flow.settings


def _no_app(app: str) -> NotFound:
    return NotFound(f"App not found with id: {app}")
