"""Forms of a run, filled in on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import click

from headrace.cli.interrupts import raising_interrupts
from headrace.cli.shared import BadUsage, printable_lines, say
from headrace.cli.uploads import upload
from headrace.errors import RequestError

if TYPE_CHECKING:
    from headrace.apps.catalog import Release
    from headrace.kernel.events import RunId
    from headrace.main import Service
    from headrace.runs.forms import TokenForm
    from headrace.values import Value


async def fill_in(running: Service, release: Release, run: RunId, user: str) -> None:
    """Asks for the first form that a paused run waits for, until the answer is valid or its time is over.
    KeyboardInterrupt for Ctrl-C."""
    from headrace.kernel.forms import WAITING
    from headrace.ports import FormToken
    from headrace.runs.forms import expire_forms, read_form, submit_form

    form = next(form for form in await running.run_service.forms.forms_of(run) if form.status == WAITING)
    waiting_form = await read_form(running.run_service, form, FormToken("", form.id, run, "terminal"))
    assert waiting_form is not None  # nothing else has the run of this process
    say(printable_lines(f"\n{waiting_form.request.title}\n\n{waiting_form.request.content}\n"))
    while True:
        with raising_interrupts():
            inputs, action = _answer(waiting_form)
        try:
            files = {
                item["output_variable_name"]: item for item in waiting_form.request.inputs if "file" in item["type"]
            }
            for name, item in files.items():
                uploads = [await upload(running, release, path, name) for path in inputs[name]]
                inputs[name] = uploads if item["type"] == "file-list" else uploads[0]
            resolve = partial(running.files.resolve, app=release.app.id)
            return await submit_form(running.run_service, waiting_form, action, inputs, user, resolve)
        except BadUsage as error:
            say(f"Error: {error.message}")
        except RequestError as error:
            say(f"Error: {error}")
            if error.status != 400:  # its time is over
                return await expire_forms(running.run_service)


def _answer(waiting_form: TokenForm) -> tuple[dict[str, Value], str]:
    request = waiting_form.request
    try:
        inputs = {str(item["output_variable_name"]): _value(item, request.defaults) for item in request.inputs}
        actions = [str(action["id"]) for action in request.actions]
        for action in request.actions:
            say(printable_lines(f"  {action['id']}: {action['title']}"))
        return inputs, str(click.prompt("action", type=click.Choice(actions), err=True, show_choices=False))
    except click.Abort:
        raise KeyboardInterrupt from None


def _value(item: Mapping[str, Value], defaults: Mapping[str, Value]) -> Value:
    name, kind = str(item["output_variable_name"]), item["type"]
    if kind == "paragraph":
        source = cast("Mapping[str, Value]", item.get("default") or {})
        default = defaults.get(name, source.get("value", "") if source.get("type") == "constant" else "")
        return str(click.prompt(name, default=default, err=True))
    if kind == "select":
        options: Any = click.Choice([str(option) for option in item["option_source"]["value"]])
        return str(click.prompt(name, type=options, err=True))
    text = "paths, separated by spaces" if kind == "file-list" else "path"
    path = str(click.prompt(f"{name} ({text})", err=True))
    return path.split() if kind == "file-list" else [path]
