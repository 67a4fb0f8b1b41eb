"""Hosts on one PostgreSQL, each with a data folder and workflow files of its own: what one of them has given out is
valid at the others."""

from __future__ import annotations

import json
import pathlib
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.human_input.flows import REVIEW
from tests.postgresql import Server
from tests.s3 import S3Server
from tests.server.process import Serve
from tests.server.test_forms import call, ended, paused, submit


@pytest.fixture
def database(postgresql_server: Server) -> str:
    return postgresql_server.new_database()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as exit_stack:
        yield exit_stack


def host(stack: ExitStack, folder: pathlib.Path, database: str, **environ: str) -> Serve:
    flows = folder / "flows"
    flows.mkdir(parents=True)
    (flows / "review.yml").write_text(REVIEW, "utf-8")
    variables = {"HEADRACE_DATABASE_URL": database, **environ}
    return stack.enter_context(Serve(folder, [], variables, ["--name", f"shop={flows}"]))


def test_hosts_share_keys_signatures_forms_and_apps(tmp_path: pathlib.Path, database: str, stack: ExitStack) -> None:
    one, two = (host(stack, tmp_path / name, database) for name in ("one", "two"))
    assert one.keys == two.keys
    assert one.apps["review"]["app_id"] == two.apps["review"]["app_id"]
    secrets = [call(at, "GET", "/api/v1/callbacks/secret") for at in (one, two)]
    assert secrets[0] == secrets[1]
    run, token = paused(one)
    assert submit(two, token, "from the other host") == (200, {})
    assert [ended(at, run)["status"] for at in (one, two)] == ["succeeded"] * 2
    assert not (tmp_path / "two" / "data" / "secret").exists()


def test_a_host_with_another_secret_does_not_start(tmp_path: pathlib.Path, database: str, stack: ExitStack) -> None:
    secret = tmp_path / "secret"
    secret.write_text("ab" * 32)
    one = host(stack, tmp_path / "one", database, HEADRACE_SECRET_FILE=str(secret))
    with pytest.raises(AssertionError, match="is not the secret of this database") as refused:
        host(stack, tmp_path / "two", database, HEADRACE_SECRET="cd" * 32)
    assert "Traceback" not in str(refused.value)
    assert "cd" * 32 not in str(refused.value)
    three = host(stack, tmp_path / "three", database, HEADRACE_SECRET="ab" * 32)
    assert three.keys == one.keys


def test_hosts_share_files(tmp_path: pathlib.Path, database: str, s3: S3Server, stack: ExitStack) -> None:
    bucket = s3.new_bucket()
    one, two = (host(stack, tmp_path / name, database, HEADRACE_FILES_URL=bucket) for name in ("one", "two"))
    content = bytes(range(256)) * 100
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: a/b\r\n\r\n'
    headers = {"Authorization": f"Bearer {one.keys['review']}", "Content-Type": "multipart/form-data; boundary=x"}
    upload = urllib.request.Request(f"{one.url}/v1/files/upload", head + content + b"\r\n--x--\r\n", headers)
    with urllib.request.urlopen(upload, timeout=60) as response:
        url = urllib.parse.urlsplit(json.load(response)["source_url"])
    for at in (one, two):
        with urllib.request.urlopen(f"{at.url}{url.path}?{url.query}", timeout=60) as response:
            assert response.read() == content
    assert not any((tmp_path / name / "data" / "files").exists() for name in ("one", "two"))
