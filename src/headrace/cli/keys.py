"""`headrace keys`: API keys. Works on a data folder with or without a running server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.apps import json_option
from headrace.cli.catalog import choose, find_app, installation, when
from headrace.cli.shared import BadUsage, data_option, say, table, wait_for

if TYPE_CHECKING:
    from headrace.access.keys import Rights
    from headrace.main import Service
    from headrace.ports import AuditEntry, Key
    from headrace.values import Value

_CLI = "cli"  # the actor in the audit log
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_LONGEST = 100 * 365 * 24 * 3600
_PAGE = 1000


class Duration(click.ParamType[float]):
    """A duration, in seconds: 90s, 15m, 12h, 30d, 4w."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d{1,9})([smhdw])", str(value).strip().lower(), re.ASCII)
        seconds = int(match[1]) * _UNITS[match[2]] if match else _LONGEST + 1
        if seconds > _LONGEST:
            self.fail(f"{str(value)[:50]!r} is not a duration; write it as 90s, 15m, 12h, 30d or 4w", param, ctx)
        return float(seconds)


@click.group()
def keys() -> None:
    """Creates, lists, rotates and revokes API keys.

    APP is an app's id, its file or its name. KEY is a key, its id or its prefix. Only a key's hash is stored, so the
    key is shown once, when it is created. A server that runs on the same data folder notices within a second.
    """


@keys.command(short_help="Creates a key for an app, a workspace or knowledge bases.")
@click.argument("app", required=False)
@click.option("--workspace", metavar="NAME", help="Create a key of this workspace, instead of an app's own.")
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--permission",
    "permissions",
    multiple=True,
    type=click.Choice(("run", "read", "manage")),
    help="A permission of the key; repeatable. Required for a workspace's key. An app's own key has all of them.",
)
@click.option("--app", "apps", multiple=True, metavar="APP", help="Only for this app; repeatable.")
@click.option(
    "--knowledge", is_flag=True, help="Create a knowledge key, for the knowledge bases of the workspace and no app."
)
@click.option(
    "--expires", type=Duration(), help="How long the key is valid, such as 30d; without it, the key does not expire."
)
@data_option
def create(
    app: str | None,
    workspace: str | None,
    name: str,
    permissions: tuple[str, ...],
    apps: tuple[str, ...],
    knowledge: bool,
    expires: float | None,
    data: Path | None,
) -> None:
    """Creates a key for an APP, for a workspace or, with --knowledge, for the knowledge bases of one, and prints it."""
    if knowledge and (app is not None or apps or permissions):
        raise BadUsage("--knowledge goes with --workspace only: the key opens knowledge bases, and no app")
    if not knowledge and (app is None) == (workspace is None):
        raise BadUsage("name an APP, for a key of its own, or a workspace with --workspace")
    if app is not None and apps:
        raise BadUsage("--app goes with --workspace: an app's own key is for no other")
    if workspace is not None and not permissions and not knowledge:
        raise BadUsage("name the key's permissions: --permission run, read or manage, once for each")

    from headrace.access.keys import KNOWLEDGE, Rights

    async def work() -> str:
        async with installation(data) as running:
            if knowledge:
                rights = Rights(workspace or running.settings.workspace, frozenset({KNOWLEDGE}))
            else:
                rights = await _rights(running, app, workspace, permissions, apps)
            until = None if expires is None else time.time() + expires
            return (await running.apps.access.create(rights, _CLI, name=name, expires_at=until))[1]

    click.echo(wait_for(work()))


async def _rights(
    running: Service, app: str | None, workspace: str | None, permissions: Sequence[str], apps: Sequence[str]
) -> Rights:
    from headrace.access.keys import Rights

    if app is not None:
        app_record = await find_app(running, app)
        rights = Rights(app_record.workspace, app=app_record.id)
        return rights._replace(permissions=frozenset(permissions)) if permissions else rights
    assert workspace is not None
    workspace_apps = await running.apps.catalog.apps(workspace)
    if not workspace_apps:
        say(f"There are no apps in the workspace '{workspace}' yet (see `headrace serve --workspace`).")
    app_ids = frozenset(choose(workspace_apps, name).id for name in apps)
    return Rights(workspace, frozenset(permissions), app_ids or None)


@keys.command("list", short_help="Lists the keys of an app, of a workspace, or all.")
@click.argument("app", required=False)
@click.option("--workspace", metavar="NAME", help="Only the keys of this workspace.")
@json_option
@data_option
def list_(app: str | None, workspace: str | None, as_json: bool, data: Path | None) -> None:
    """Lists the keys of an APP, or of all apps: their prefixes, never the keys."""

    async def work() -> None:
        async with installation(data) as running:
            only = await find_app(running, app) if app is not None else None
            keys = await running.apps.catalog.keys(only.id if only else None)
            names = {app_record.id: app_record.name for app_record in await running.apps.catalog.apps()}
        keys = [key for key in keys if workspace is None or key.workspace == workspace]
        if as_json:
            click.echo(json.dumps([_shown(key, names) for key in keys], ensure_ascii=False, indent=2))
        elif keys:
            head = ("ID", "KEY", "NAME", "WORKSPACE", "APPS", "PERMISSIONS", "CREATED", "LAST USED", "")
            click.echo(table([head, *(_row(key, names) for key in keys)]))
        else:
            say("There are no keys yet." if workspace is None else f"There are no keys in the workspace '{workspace}'.")

    wait_for(work())


def _shown(key: Key, names: Mapping[str, str]) -> dict[str, Value]:
    from headrace.access.keys import in_order

    return {
        "id": key.id,
        "prefix": key.prefix,
        "name": key.name,
        "workspace": key.workspace,
        "app_id": key.app,
        "app": names.get(key.app, "") if key.app is not None else None,
        "apps": None if key.apps is None else sorted(key.apps),
        "permissions": in_order(key.permissions),
        "created_at": int(key.created_at),
        "expires_at": _whole(key.expires_at),
        "revoked_at": _whole(key.revoked_at),
        "replaced_by": key.replaced_by,
        "last_used_at": _whole(key.used_at),
    }


def _row(key: Key, names: Mapping[str, str]) -> tuple[str, ...]:
    from headrace.access.keys import in_order

    app_ids = [key.app] if key.app is not None else sorted(key.apps or ())
    return (
        key.id,
        f"{key.prefix}…",
        key.name,
        key.workspace,
        ", ".join(names.get(app_id, app_id) for app_id in app_ids) or "all",
        " ".join(map(str, in_order(key.permissions))),
        when(key.created_at),
        when(key.used_at) if key.used_at is not None else "",
        _end(key),
    )


def _end(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {when(key.revoked_at)}"
    if key.expires_at is None:
        return ""
    note = "rotated, " if key.replaced_by is not None else ""
    return f"{note}{'until' if key.live(time.time()) else 'expired'} {when(key.expires_at)}"


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


@keys.command(short_help="Replaces a key.")
@click.argument("key")
@click.option("--overlap", type=Duration(), default="24h", help="How long the old key stays valid.  [default: 24h]")
@data_option
def rotate(key: str, overlap: float, data: Path | None) -> None:
    """Creates a key with the permissions of KEY, and prints it. The old one stays valid for a while, so that clients
    can switch."""

    async def work() -> str:
        async with installation(data) as running:
            key_record = await _find_key(running, key)
            successor, secret = await running.apps.access.rotate(key_record, _CLI, overlap)
            old = await running.apps.catalog.find_key(key_record.id)
        until = when(old.expires_at) if old is not None and old.expires_at is not None else "now"
        say(
            f"{key_record.prefix}… ({key_record.id}) is valid until {until}; "
            f"its successor is {successor.prefix}… ({successor.id})."
        )
        return secret

    click.echo(wait_for(work()))


@keys.command(short_help="Revokes a key.")
@click.argument("key")
@data_option
def revoke(key: str, data: Path | None) -> None:
    """Revokes a KEY, given in full, by its id or by its prefix (see `keys list`)."""

    async def work() -> None:
        async with installation(data) as running:
            key_record = await _find_key(running, key)
            await running.apps.access.revoke(key_record, _CLI)
        say(f"Revoked {key_record.prefix}… ({key_record.id}).")

    wait_for(work())


@keys.command(short_help="Shows the audit log of a workspace's keys.")
@click.option("--workspace", metavar="NAME", help="The workspace.  [HEADRACE_WORKSPACE; default: default]")
@click.option("--limit", type=click.IntRange(1, _PAGE), default=50, help="How many entries.  [default: 50]")
@json_option
@data_option
def audit(workspace: str | None, limit: int, as_json: bool, data: Path | None) -> None:
    """Shows who created, rotated and revoked the keys of a workspace, newest first."""

    async def work() -> None:
        async with installation(data) as running:
            entries = await running.apps.catalog.audit(workspace or running.settings.workspace, limit=limit)
            apps = {app.id: app.name for app in await running.apps.catalog.apps()}
            keys = {key.id: _named(key, apps) for key in await running.apps.catalog.keys()}
        if as_json:
            output = [{"at": entry.at, **_entry(entry)} for entry in entries]
            click.echo(json.dumps(output, ensure_ascii=False, indent=2))
        elif entries:
            rows = [
                (when(entry.at), entry.action, entry.key, keys.get(entry.key, ""), keys.get(entry.by, entry.by))
                for entry in entries
            ]
            click.echo(table([("AT", "ACTION", "KEY", "OF", "BY"), *rows]))
        else:
            say("There are no entries yet.")

    wait_for(work())


def _named(key: Key, apps: Mapping[str, str]) -> str:
    """A key as people know it: its own name, and the app or the workspace that it is of."""
    owner = apps.get(key.app, "a removed app") if key.app is not None else f"workspace {key.workspace}"
    return f"{key.name} ({owner})" if key.name else owner


def _entry(change: AuditEntry) -> dict[str, Value]:
    return {
        "id": change.id,
        "workspace": change.workspace,
        "action": change.action,
        "key_id": change.key,
        "by": change.by,
        "about": dict(change.about),
    }


async def _find_key(running: Service, name: str) -> Key:
    """The active key with this id, prefix or secret. BadUsage if none or several match."""
    from headrace.access.keys import digest

    name = name.rstrip("…")
    keys = await running.apps.catalog.keys()
    key_digest = digest(name)
    matching = [key for key in keys if name in (key.id, key.prefix) or key.digest == key_digest]
    live = [key for key in matching if key.revoked_at is None]
    if len(live) == 1:
        return live[0]
    if live:
        these = ", ".join(key.id for key in live)
        raise BadUsage(f"{len(live)} keys begin with '{name}'; choose one by its id: {these}")
    # the message does not repeat the argument, which may be a key
    raise BadUsage("that key is revoked already" if matching else "no such key (see `headrace keys list`)")
