"""`headrace apps`: the served apps. Works on a data folder with or without a running server."""

from __future__ import annotations

import json
from pathlib import Path

import click

from headrace.cli.catalog import find_app, installation, when
from headrace.cli.shared import check_app_name, data_option, say, table, wait_for

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def apps() -> None:
    """Lists, adds and removes served apps.

    APP is an app's id, its file (or `--name`) or its name. A server that runs on the same data folder notices within a
    second.
    """


@apps.command("list")
@json_option
@data_option
def list_(as_json: bool, data: Path | None) -> None:
    """Lists the apps."""

    async def work() -> None:
        async with installation(data) as running:
            apps = await running.apps.catalog.apps()
        if as_json:
            output = [
                {
                    "app_id": app.id,
                    "name": app.name,
                    "mode": app.mode,
                    "file": app.source,
                    "workflow_id": app.version,
                    "created_at": int(app.created_at),
                }
                for app in apps
            ]
            click.echo(json.dumps(output, ensure_ascii=False, indent=2))
        elif apps:
            head = ("ID", "NAME", "MODE", "FILE")
            click.echo(table([head, *((app.id, app.name, app.mode, app.source) for app in apps)]))
        else:
            say("No apps are served yet: `headrace apps add FILE`.")

    wait_for(work())


@apps.command(short_help="Adds a workflow file, or its new version.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Identify the app by this name instead of the file's path (see `headrace serve`).")
@data_option
def add(file: Path, name: str | None, data: Path | None) -> None:
    """Adds a workflow FILE, or publishes its changed content as a new version.

    Prints the app as JSON, with the fields that `serve --ready-file` writes.
    """
    from headrace.apps.requirements import missing_requirements
    from headrace.dsl.workflow_file import read_workflow

    if name is not None:
        check_app_name("--name", name)
    read_workflow(file)  # a mistyped name must not create a data folder

    async def work() -> None:
        async with installation(data, create=True) as running:
            release = await running.publish(file, name)
            key = await running.apps.working_key(release.app)
            for problem in missing_requirements(release.flow, running.resources):
                say(f"note: {problem}")
        output = {
            "file": release.app.source,
            "name": release.app.name,
            "mode": release.app.mode,
            "app_id": release.app.id,
            "workflow_id": release.version.id,
            "version": release.version.number,
            "key": key,
        }
        click.echo(json.dumps(output, ensure_ascii=False, indent=2))

    wait_for(work())


@apps.command()
@click.argument("app")
@data_option
def remove(app: str, data: Path | None) -> None:
    """Removes an APP with its versions and keys. Its runs stay in the journal."""

    async def work() -> None:
        async with installation(data) as running:
            app_record = await find_app(running, app)
            await running.apps.remove(app_record)
        say(f"Removed '{app_record.name}' ({app_record.id}).")

    wait_for(work())


@apps.command()
@click.argument("app")
@json_option
@data_option
def versions(app: str, as_json: bool, data: Path | None) -> None:
    """Lists the versions of an APP, newest first.

    An old one can be called by its id: POST /v1/workflows/ID/run.
    """

    async def work() -> None:
        async with installation(data) as running:
            app_record = await find_app(running, app)
            versions = await running.apps.catalog.versions(app_record.id)
        if as_json:
            output = [
                {
                    "workflow_id": version.id,
                    "number": version.number,
                    "current": version.id == app_record.version,
                    "sha256": version.digest,
                    "created_at": int(version.created_at),
                }
                for version in versions
            ]
            click.echo(json.dumps(output, indent=2))
            return
        rows = [
            (
                str(version.number),
                version.id,
                when(version.created_at),
                "current" if version.id == app_record.version else "",
            )
            for version in versions
        ]
        click.echo(table([("VERSION", "WORKFLOW ID", "CREATED", ""), *rows]))

    wait_for(work())
