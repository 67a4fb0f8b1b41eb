"""`headrace triggers` on a data folder without a server, and what `lint` says of triggers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.plugins.fakes import SECRET, install
from tests.triggers.world import cron, triggered, webhook

URL = "https://headrace.example"


@pytest.fixture
def file(tmp_path: Path, invoke: Invoke) -> Path:
    path = tmp_path / "hooks.yml"
    hook, daily = webhook(title="Order received"), cron("0 9 * * *", "Asia/Shanghai", title="Every morning")
    path.write_text(triggered(hook, daily, cron("nonsense", title="Never")))
    assert invoke("apps", "add", path).exit_code == 0
    return path


def listed(invoke: Invoke, *more: str | Path) -> list[dict[str, Any]]:
    return json.loads(invoke("triggers", "list", "--json", *more, HEADRACE_PUBLIC_URL=URL).stdout)


def test_triggers_are_listed(file: Path, invoke: Invoke):
    hook, daily, never = listed(invoke)
    assert (hook["node_id"], hook["title"], hook["kind"], hook["status"]) == (
        "t1",
        "Order received",
        "webhook",
        "active",
    )
    assert hook["url"].startswith(f"{URL}/triggers/webhook/")
    assert (daily["schedule"], daily["timezone"], daily["url"]) == ("0 9 * * *", "Asia/Shanghai", None)
    assert daily["next_at"] % 86400 == 3600
    assert (never["status"], never["next_at"]) == ("invalid", None)
    table = invoke("triggers", "list", file).stdout
    assert "Order received (t1)" in table
    assert "09:00 Asia/Shanghai" in table


def test_no_triggers(tmp_path: Path, invoke: Invoke):
    (tmp_path / ".headrace").mkdir()
    done = invoke("triggers", "list")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "No app that is served has triggers.\n")


def test_pause_and_resume(file: Path, invoke: Invoke):
    assert (
        invoke("triggers", "pause", "triggered", "Every morning").stderr
        == "Paused 'Every morning' (t2) of triggered.\n"
    )
    assert [one["status"] for one in listed(invoke, file)] == ["active", "paused", "invalid"]
    assert invoke("triggers", "resume", file, "t2").exit_code == 0
    assert [one["status"] for one in listed(invoke)] == ["active", "active", "invalid"]
    done = invoke("triggers", "pause", file, "t9")
    assert (done.exit_code, "has no trigger 't9'; there are: t1 (Order received)" in done.stderr) == (2, True)


def test_fire(file: Path, tmp_path: Path, invoke: Invoke):
    inputs = tmp_path / "inputs.json"
    for content, problem in (
        ("[1]", "must be a JSON object"),
        ("{", "not valid JSON"),
        ("[" * 10**5, "not valid JSON"),
    ):
        inputs.write_text(content)
        done = invoke("triggers", "fire", file, "t1", "--inputs", inputs)
        assert (done.exit_code, problem in done.stderr) == (2, True)
    inputs.write_text('{"body": {"a": 1}}')
    run = invoke("triggers", "fire", file, "t1", "--inputs", inputs).stdout.strip()
    assert listed(invoke)[0]["last_run"]["id"] == run


def test_lint_shows_the_next_times(file: Path, invoke: Invoke):
    done = invoke("lint", file)
    assert done.exit_code == 1
    assert "node 'Never': the schedule is never due" in done.stdout
    hook, daily, *_ = done.stderr.splitlines()
    assert hook == f"{file}: webhook 'Order received': once it is served, `headrace triggers list` shows its URL"
    head, _, times = daily.partition("(Asia/Shanghai): ")
    assert head == f"{file}: schedule 'Every morning', 0 9 * * * "
    assert [time[-5:] for time in times.split(", ")] == ["09:00"] * 5
    assert "webhook" not in invoke("lint", file, "--json").stderr


def test_a_subscription_from_the_command_line(tmp_path: Path, invoke: Invoke):
    data = tmp_path / ".headrace"
    data.mkdir()
    install(data)
    parameters = tmp_path / "parameters.json"
    parameters.write_text('{"repository": "acme/shop", "token": "t0ken"}')
    environ = {"HEADRACE_PUBLIC_URL": URL, "FAKE_API_KEY": SECRET}
    done = invoke("triggers", "subscribe", "tests/fake/fake", "shop", "--parameters", parameters, **environ)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"{URL}/triggers/plugin/")
    listing = invoke("triggers", "subscriptions", "--json", **environ).stdout
    (one,) = json.loads(listing)
    assert (one["workspace"], one["name"], one["status"]) == ("default", "shop", "active")
    assert one["url"] == done.stdout.strip()
    assert "t0ken" not in listing
    assert SECRET not in listing
    assert "shop" in invoke("triggers", "subscriptions", **environ).stdout
    done = invoke("triggers", "subscribe", "tests/fake/fake", "shop", "--parameters", parameters, **environ)
    assert (done.exit_code, "has a subscription of the name 'shop'" in done.stderr) == (2, True)
    assert invoke("triggers", "refresh", "shop", **environ).exit_code == 0
    assert invoke("triggers", "unsubscribe", "shop", **environ).stderr == "Removed 'shop'.\n"
    assert "There are no subscriptions" in invoke("triggers", "subscriptions", **environ).stderr
    assert invoke("triggers", "unsubscribe", "shop", **environ).exit_code == 2
