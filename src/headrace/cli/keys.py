"""`headrace keys`: who may call an app. Works on a data folder while a server runs on it, and while none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.apps import json_option
from headrace.cli.catalog import find_app, installation, when
from headrace.cli.shared import Bad, data_option, say, table, wait_for

if TYPE_CHECKING:
    from headrace.main import Service
    from headrace.ports import Key


@click.group()
def keys() -> None:
    """Makes, lists and revokes API keys.

    APP is an app's id, its file or its name. Only a key's hash is stored, so it is shown once, when it is made. A
    server that runs on the same data folder follows within a second.
    """


@keys.command()
@click.argument("app")
@data_option
def create(app: str, data: Path | None) -> None:
    """Makes a new key for an APP, and prints it."""

    async def work() -> str:
        async with installation(data) as running:
            found = await find_app(running, app)
            key = running.apps.new_key()
            await running.apps.add_key(found, key)
            return key

    click.echo(wait_for(work()))


@keys.command("list", short_help="Lists the keys of an app, or of all.")
@click.argument("app", required=False)
@json_option
@data_option
def list_(app: str | None, as_json: bool, data: Path | None) -> None:
    """Lists the keys of an APP, or of all: their beginnings, never the keys."""

    async def work() -> None:
        async with installation(data) as running:
            only = await find_app(running, app) if app is not None else None
            known = await running.apps.catalog.keys(only.id if only else None)
            names = {each.id: each.name for each in await running.apps.catalog.apps()}
        if as_json:
            shown = [
                {
                    "id": key.id,
                    "prefix": key.prefix,
                    "app_id": key.app,
                    "app": names.get(key.app, ""),
                    "created_at": int(key.created_at),
                    "revoked_at": None if key.revoked_at is None else int(key.revoked_at),
                }
                for key in known
            ]
            click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        elif known:
            rows = [
                (
                    key.id,
                    f"{key.prefix}…",
                    names.get(key.app, ""),
                    when(key.created_at),
                    f"revoked {when(key.revoked_at)}" if key.revoked_at is not None else "",
                )
                for key in known
            ]
            click.echo(table([("ID", "KEY", "APP", "SINCE", ""), *rows]))
        else:
            say("There is no key yet.")

    wait_for(work())


@keys.command(short_help="Revokes a key.")
@click.argument("key")
@data_option
def revoke(key: str, data: Path | None) -> None:
    """Revokes a KEY, given whole, by its id or by its beginning (as `keys list` shows it)."""

    async def work() -> None:
        async with installation(data) as running:
            found = await _find_key(running, key)
            await running.apps.revoke(found.id)
        say(f"Revoked {found.prefix}… ({found.id}).")

    wait_for(work())


async def _find_key(running: Service, named: str) -> Key:
    """The live key that somebody means. Bad where there is none, or more than one begins like that."""
    from headrace.apps import digest

    named = named.rstrip("…")
    known = await running.apps.catalog.keys()
    hashed = digest(named)
    found = [key for key in known if named in (key.id, key.prefix) or key.digest == hashed]
    live = [key for key in found if key.revoked_at is None]
    if len(live) == 1:
        return live[0]
    if live:
        these = ", ".join(key.id for key in live)
        raise Bad(f"{len(live)} keys begin with '{named}'; say which by its id: {these}")
    # what somebody took for a key is not repeated: it may be one
    raise Bad("that key is revoked already" if found else "no such key (see `headrace keys list`)")
