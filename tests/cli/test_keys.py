"""`headrace keys` for workspaces: made, listed, rotated, revoked and audited on a data folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.access.keys import Access
from headrace.errors import Unauthorized
from headrace.ports import Principal
from headrace.stores.sql import SqlStorage
from tests.cli.conftest import Invoke
from tests.cli.flows import Server, field, flow

TEAM = ("--workspace", "team")


@pytest.fixture
def apps(tmp_path: Path, invoke: Invoke) -> dict[str, str]:
    """Ids of two apps of `team` and one of `default`, by name."""
    fields: dict[str, str] = {}
    for name, workspace in (("first", "team"), ("second", "team"), ("other", "default")):
        file = flow(tmp_path / f"{name}.yml", variables=[field("query")])
        added = invoke("apps", "add", file, HEADRACE_WORKSPACE=workspace)
        fields[name] = json.loads(added.stdout)["app_id"]
    return fields


def opens(key: str, folder: Path) -> Principal | None:
    """Whom a key stands for; None if it opens nothing."""

    async def work() -> Principal | None:
        store = await SqlStorage.open(f"sqlite:///{folder}/.headrace/headrace.db")
        try:
            return await Access(store.catalog).principal(f"Bearer {key}")
        except Unauthorized:
            return None
        finally:
            await store.aclose()

    return asyncio.run(work())


def listed(invoke: Invoke, *more: str) -> Any:
    return json.loads(invoke("keys", "list", "--json", *more).stdout)


def test_a_workspace_s_key(tmp_path: Path, invoke: Invoke, apps: dict[str, str]):
    created = invoke("keys", "create", *TEAM, "--name", "nightly", "--permission", "run", "--permission", "read")
    key = created.stdout.strip()
    assert key.startswith("ws-")
    principal = opens(key, tmp_path)
    assert principal is not None
    assert (principal.workspace, principal.permissions, principal.apps) == ("team", {"run", "read"}, None)
    [entry] = [item for item in listed(invoke, *TEAM) if item["app_id"] is None]
    assert (entry["id"], entry["name"], entry["prefix"]) == (principal.id, "nightly", key[:8])
    assert (entry["permissions"], entry["apps"], entry["expires_at"]) == (["run", "read"], None, None)
    listing = invoke("keys", "list").stdout
    assert "nightly" in listing
    assert "run read manage" in listing, "the apps' own keys"
    assert key not in listing
    assert key not in str(listed(invoke))
    assert key.encode() not in b"".join(file.read_bytes() for file in (tmp_path / ".headrace").glob("headrace.db*"))


def test_a_knowledge_key(tmp_path: Path, invoke: Invoke, apps: dict[str, str]):
    for more, workspace in ((TEAM, "team"), ((), "default")):
        key = invoke("keys", "create", "--knowledge", *more).stdout.strip()
        assert key.startswith("dataset-")
        principal = opens(key, tmp_path)
        assert principal is not None
        assert (principal.workspace, principal.permissions, principal.apps) == (workspace, {"knowledge"}, None)


def test_a_key_for_some_apps_and_some_time(tmp_path: Path, invoke: Invoke, apps: dict[str, str]):
    created = invoke("keys", "create", *TEAM, "--permission", "read", "--app", "first", "--app", "second.yml")
    principal = opens(created.stdout.strip(), tmp_path)
    assert principal is not None
    assert principal.apps == {apps["first"], apps["second"]}
    invoke("keys", "create", *TEAM, "--permission", "read", "--expires", "30d", "--name", "short")
    [entry] = [item for item in listed(invoke, *TEAM) if item["name"] == "short"]
    assert entry["expires_at"] - entry["created_at"] == pytest.approx(30 * 24 * 3600, abs=2)
    own = invoke("keys", "create", "first", "--permission", "read", "--expires", "1h")
    principal = opens(own.stdout.strip(), tmp_path)
    assert principal is not None
    assert (principal.app, principal.workspace, principal.permissions) == (apps["first"], "team", {"read"})


def test_rotated_and_revoked(tmp_path: Path, invoke: Invoke, apps: dict[str, str]):
    old = invoke("keys", "create", *TEAM, "--permission", "read").stdout.strip()
    rotated = invoke("keys", "rotate", old, "--overlap", "1h")
    new = rotated.stdout.strip()
    assert "is valid until" in rotated.stderr
    assert opens(old, tmp_path) is not None
    assert opens(new, tmp_path) is not None
    again = invoke("keys", "rotate", old)
    assert again.exit_code == 2
    assert "rotated already" in again.stderr
    assert old not in again.stderr
    assert "rotated, until" in invoke("keys", "list").stdout
    last = invoke("keys", "rotate", new[:8], "--overlap", "0s").stdout.strip()
    assert opens(new, tmp_path) is None
    assert "rotated, expired" in invoke("keys", "list").stdout
    assert invoke("keys", "revoke", last).exit_code == 0
    assert opens(last, tmp_path) is None
    body = json.loads(invoke("keys", "audit", *TEAM, "--json", "--limit", "4").stdout)
    assert [(item["action"], item["by"]) for item in body] == [
        ("revoked", "cli"),
        ("rotated", "cli"),
        ("rotated", "cli"),
        ("created", "cli"),
    ]
    assert body[0]["key_id"] == body[1]["about"]["replaced_by"]
    listing = invoke("keys", "audit", HEADRACE_WORKSPACE="team").stdout
    assert listing.splitlines()[1].split()[-5:] == ["revoked", body[0]["key_id"], "workspace", "team", "cli"]
    assert "There are no entries" in invoke("keys", "audit", "--workspace", "nobody").stderr


BAD: Sequence[tuple[Sequence[str], str]] = [
    ([], "name an APP"),
    (["first", *TEAM], "name an APP"),
    (["first", "--app", "second"], "--app goes with --workspace"),
    ([*TEAM], "--permission"),
    ([*TEAM, "--permission", "write"], "write"),
    ([*TEAM, "--permission", "read", "--app", "other"], "'other'"),
    ([*TEAM, "--permission", "read", "--app", "nothing"], "'nothing'"),
    ([*TEAM, "--permission", "read", "--expires", "soon"], "is not a duration"),
    ([*TEAM, "--permission", "read", "--expires", "30"], "is not a duration"),
    ([*TEAM, "--permission", "read", "--expires", "-1d"], "is not a duration"),
    ([*TEAM, "--permission", "read", "--expires", "999999999w"], "is not a duration"),
    ([*TEAM, "--permission", "read", "--expires", "0s"], "in the future"),
    (["--workspace", "", "--permission", "read"], "workspace: "),
    (["--workspace", "a b", "--permission", "read"], "workspace: "),
    (["--workspace", "x" * 101, "--permission", "read"], "workspace: "),
    ([*TEAM, "--permission", "read", "--name", "x" * 101], "name: "),
    (["--knowledge", "first"], "--knowledge"),
    (["--knowledge", "--permission", "read"], "--knowledge"),
    (["--knowledge", *TEAM, "--app", "first"], "--knowledge"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=lambda name: " ".join(name)[:40])
def test_what_makes_no_key(invoke: Invoke, apps: dict[str, str], arguments: Sequence[str], said: str):
    before = listed(invoke)
    created = invoke("keys", "create", *arguments)
    assert (created.exit_code, created.stdout) == (2, "")
    assert said in created.stderr
    assert listed(invoke) == before


def test_a_workspace_without_apps_is_reported(tmp_path: Path, invoke: Invoke, apps: dict[str, str]):
    created = invoke("keys", "create", "--workspace", "taem", "--permission", "read")
    assert created.exit_code == 0
    assert "no apps in the workspace 'taem' yet" in created.stderr
    assert invoke("keys", "list", "--workspace", "nobody").stdout == ""


def test_overlaps_that_are_none(invoke: Invoke, apps: dict[str, str]):
    key = invoke("keys", "create", *TEAM, "--permission", "read").stdout.strip()
    for overlap, said in (("1y", "is not a duration"), ("31d", "overlap: ")):
        refused = invoke("keys", "rotate", key, "--overlap", overlap)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert said in refused.stderr
    unknown = invoke("keys", "rotate", "ws-nothing")
    assert unknown.exit_code == 2
    assert "ws-nothing" not in unknown.stderr


def test_files_are_served_into_a_workspace(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "echo.yml", variables=[field("query")])
    server = Server(file, "--workspace", "team", cwd=tmp_path)
    try:
        key = invoke("keys", "create", *TEAM, "--permission", "run").stdout.strip()
        assert server.call(key, {"query": "hi"})[1]["data"]["outputs"] == {"query": "hi"}
        elsewhere = invoke("keys", "create", "--workspace", "default", "--permission", "run").stdout.strip()
        status, body = server.call(elsewhere, {"query": "hi"})
        assert (status, body["code"]) == (400, "invalid_param")
        app = server.ready["apps"][0]
        assert server.call(app["key"], {"query": "hi"})[0] == 200
    finally:
        server.stop()
    # served again without saying where, it is another app: nothing moves from one workspace to another
    again = Server(file, cwd=tmp_path)
    try:
        assert again.ready["apps"][0]["app_id"] != app["app_id"]
        assert again.call(key, {"query": "hi"})[0] == 200
    finally:
        again.stop()


def test_a_workspace_has_a_plain_name(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "echo.yml", variables=[field("query")])
    refused = invoke("serve", file, "--workspace", "../team")
    assert refused.exit_code == 2
    assert "--workspace" in refused.stderr
