"""`headrace triggers subscribe` and the like: subscriptions to services, by means of plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.apps import json_option
from headrace.cli.catalog import installation, when
from headrace.cli.inputs import json_object
from headrace.cli.shared import data_option, say, table, wait_for

if TYPE_CHECKING:
    from headrace.ports import TriggerSubscription
    from headrace.values import Value

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_workspace = click.option(
    "--workspace", metavar="NAME", help="Workspace of the apps.  [HEADRACE_WORKSPACE; default: default]"
)


@click.command(short_help="Subscribes to a service whose events start runs.")
@click.argument("provider")
@click.argument("name")
@click.option(
    "--parameters", type=_file, help="A JSON object of what the provider wants to know, such as a repository."
)
@click.option("--credentials", metavar="SET", default="", help="The set of credentials in the file of credentials.")
@click.option(
    "--properties",
    type=_file,
    help="For a subscription that you make at the service by hand: a JSON object of what the plugin needs to verify "
    "requests, such as a secret.",
)
@_workspace
@data_option
def subscribe(
    provider: str,
    name: str,
    parameters: Path | None,
    credentials: str,
    properties: Path | None,
    workspace: str | None,
    data: Path | None,
) -> None:
    """Subscribes to a service by means of the plugin of PROVIDER (author/plugin/provider), under a NAME of your choice,
    and prints the URL to which the service sends its events.

    Needs HEADRACE_PUBLIC_URL, and the credentials of the plugin as its tools do. If it is interrupted, repeat it.
    """
    values = json_object("--parameters", parameters)
    by_hand = None if properties is None else json_object("--properties", properties)

    async def work() -> TriggerSubscription:
        from headrace.triggers.subscriptions import SubscriptionRequest

        async with installation(data) as running:
            workspace_name = workspace or running.settings.workspace
            request = SubscriptionRequest(workspace_name, name, provider, values, credentials, by_hand)
            return await running.subscriptions.subscribe(request)

    subscription = wait_for(work())
    say(f"Enter this URL at the service of '{name}':" if subscription.manual else f"Subscribed '{name}' to {provider}.")
    click.echo(subscription.endpoint)


@click.command(short_help="Ends a subscription.")
@click.argument("name")
@click.option("--force", is_flag=True, help="Remove it even if that fails at the service.")
@_workspace
@data_option
def unsubscribe(name: str, force: bool, workspace: str | None, data: Path | None) -> None:
    """Ends the subscription NAME at the service, and removes it. If that fails, it stays in the list with the error."""

    async def work() -> TriggerSubscription:
        async with installation(data) as running:
            subscription = await running.subscriptions.find(workspace or running.settings.workspace, name)
            await running.subscriptions.unsubscribe(subscription, force=force)
            return subscription

    subscription_record = wait_for(work())
    say(
        f"Removed '{subscription_record.name}'."
        + (" End it at the service, too." if subscription_record.manual else "")
    )


@click.command(short_help="Renews a subscription now.")
@click.argument("name")
@_workspace
@data_option
def refresh(name: str, workspace: str | None, data: Path | None) -> None:
    """Renews the subscription NAME at the service, which a server does by itself an hour before it expires."""

    async def work() -> TriggerSubscription:
        async with installation(data) as running:
            subscription = await running.subscriptions.find(workspace or running.settings.workspace, name)
            return await running.subscriptions.refresh(subscription)

    subscription_record = wait_for(work())
    until = "" if subscription_record.expires_at < 0 else f" It expires on {when(subscription_record.expires_at)}."
    say(f"Renewed '{subscription_record.name}'.{until}")


@click.command(short_help="Lists the subscriptions.")
@click.option("--workspace", metavar="NAME", help="Only those of this workspace.")
@json_option
@data_option
def subscriptions(workspace: str | None, as_json: bool, data: Path | None) -> None:
    """Lists the subscriptions, except those of the file HEADRACE_PLUGIN_TRIGGERS. Anyone who knows a URL can send
    requests to its plugin."""

    async def work() -> list[dict[str, Value]]:
        from headrace.api.native.schemas.subscriptions import subscription_body

        async with installation(data) as running:
            service, now = running.subscriptions, running.subscriptions.clock()
            subscriptions = await service.store.subscriptions(workspace)
        return [
            {"workspace": subscription.workspace, **subscription_body(subscription, now, with_url=True)}
            for subscription in subscriptions
        ]

    lines = wait_for(work())
    if as_json:
        click.echo(json.dumps(lines, ensure_ascii=False, indent=2))
    elif lines:
        head = ("WORKSPACE", "NAME", "PROVIDER", "STATUS", "EXPIRES", "URL", "ERROR")
        click.echo(table([head, *map(_row, lines)]))
    else:
        say("There are no subscriptions (see `headrace triggers subscribe`).")


def _row(one: dict[str, Value]) -> tuple[str, ...]:
    expires = "" if one["expires_at"] is None else when(one["expires_at"])
    return (one["workspace"], one["name"], one["provider"], one["status"], expires, one["url"], one["error"] or "")
