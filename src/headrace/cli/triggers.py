"""`headrace triggers`: lists, pauses and fires triggers. Works on a data folder with or without a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli import subscriptions
from headrace.cli.apps import json_option
from headrace.cli.catalog import find_app, installation, when
from headrace.cli.inputs import json_object
from headrace.cli.shared import BadUsage, data_option, say, table, wait_for

if TYPE_CHECKING:
    from headrace.main import Service
    from headrace.triggers import ServedTrigger
    from headrace.triggers.listing import TriggerLine
    from headrace.values import Value


@click.group()
def triggers() -> None:
    """Lists, pauses, resumes and fires the triggers of served apps.

    APP is an app's id, its file or its name, and NODE the id or the title of a trigger in it. A server that runs on the
    same data folder notices within a second.
    """


for command in (subscriptions.subscribe, subscriptions.subscriptions, subscriptions.refresh, subscriptions.unsubscribe):
    triggers.add_command(command)


@triggers.command("list", short_help="Lists the triggers of an app, or of all.")
@click.argument("app", required=False)
@json_option
@data_option
def list_(app: str | None, as_json: bool, data: Path | None) -> None:
    """Lists the triggers of an APP, or of all apps: the URLs of webhooks, and when schedules are due.

    Anyone who knows the URL of a webhook can start runs. Set HEADRACE_PUBLIC_URL to see the whole URL.
    """

    async def work() -> None:
        from headrace.triggers.listing import trigger_lines

        async with installation(data) as running:
            apps = None if app is None else [await find_app(running, app)]
            lines = await trigger_lines(running.triggers, await running.triggers.triggers(apps))
            base_url = running.settings.public_url
        if as_json:
            click.echo(json.dumps([_line_json(line, base_url) for line in lines], ensure_ascii=False, indent=2))
        elif lines:
            head = ("APP", "NODE", "KIND", "STATUS", "URL OR NEXT TIME", "LAST RUN")
            click.echo(table([head, *(_row(line, base_url) for line in lines)]))
        else:
            say("No app that is served has triggers.")

    wait_for(work())


@triggers.command(short_help="Pauses a trigger.")
@click.argument("app")
@click.argument("node")
@data_option
def pause(app: str, node: str, data: Path | None) -> None:
    """Pauses the trigger NODE of an APP: a webhook responds with 404, a schedule starts nothing."""
    wait_for(_pause(app, node, data, paused=True))


@triggers.command(short_help="Resumes a trigger.")
@click.argument("app")
@click.argument("node")
@data_option
def resume(app: str, node: str, data: Path | None) -> None:
    """Resumes the trigger NODE of an APP. What a schedule has missed in the meantime does not start a run."""
    wait_for(_pause(app, node, data, paused=False))


async def _pause(app: str, node: str, data: Path | None, *, paused: bool) -> None:
    async with installation(data) as running:
        trigger = await _find(running, app, node)
        await running.triggers.pause(trigger, paused=paused)
    say(f"{'Paused' if paused else 'Resumed'} '{trigger.title}' ({trigger.node}) of {trigger.app.name}.")


@triggers.command(short_help="Starts a run at a trigger.")
@click.argument("app")
@click.argument("node")
@click.option(
    "--inputs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON object: of a webhook `headers`, `query_params` and `body`, of another trigger what it outputs.",
)
@data_option
def fire(app: str, node: str, inputs: Path | None, data: Path | None) -> None:
    """Starts a run at the trigger NODE of an APP, as if it had fired, and prints the id of the run.

    A server on the same data folder runs it within seconds; without one, the next that is started.
    """
    fields = json_object("--inputs", inputs)

    async def work() -> str:
        async with installation(data) as running:
            trigger = await _find(running, app, node)
            return (await running.triggers.fire(trigger, trigger.inputs_of(fields))).run

    click.echo(wait_for(work()))


async def _find(running: Service, app: str, node: str) -> ServedTrigger:
    """BadUsage if there is no such trigger, or more than one with this title."""
    triggers = await running.triggers.triggers([await find_app(running, app)])
    matches = [trigger for trigger in triggers if trigger.node == node]
    matches = matches or [trigger for trigger in triggers if trigger.title == node]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(f"{trigger.node} ({trigger.title})" for trigger in matches or triggers) or "none"
    problem = f"'{node}' names {len(matches)} triggers" if matches else f"{app} has no trigger '{node}'"
    raise BadUsage(f"{problem}; there are: {names}")


def _row(line: TriggerLine, base_url: str) -> tuple[str, ...]:
    trigger, run = line.trigger, line.last_run
    node = trigger.node if trigger.title == trigger.node else f"{trigger.title} ({trigger.node})"
    last = "" if run is None else f"{when(run.created_at)} {run.status}"
    return (trigger.app.name, node, trigger.trigger.kind, line.status, _place(line, base_url), last)


def _place(line: TriggerLine, base_url: str) -> str:
    if line.path is not None:
        return base_url + line.path
    return _local(line) or ("" if line.schedule is None else str(line.schedule))


def _local(line: TriggerLine) -> str | None:
    """When a schedule is due, in its own time zone."""
    if line.schedule is None or line.next_at is None:
        return None
    local = line.schedule.local(line.next_at)
    return f"{local:%Y-%m-%d %H:%M} {line.schedule.timezone}"


def _line_json(line: TriggerLine, base_url: str) -> dict[str, Value]:
    trigger, run = line.trigger, line.last_run
    return {
        "id": trigger.id,
        "app_id": trigger.app.id,
        "app": trigger.app.name,
        "node_id": trigger.node,
        "title": trigger.title,
        "kind": trigger.trigger.kind,
        "status": line.status,
        "url": None if line.path is None else base_url + line.path,
        "schedule": None if line.schedule is None else line.schedule.expression,
        "timezone": None if line.schedule is None else line.schedule.timezone,
        "next_at": None if line.next_at is None else int(line.next_at),
        "last_run": None if run is None else {"id": run.run, "status": run.status, "created_at": int(run.created_at)},
    }
