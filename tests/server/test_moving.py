"""The move of an installation from one machine to hosts, by the commands of docs/scaling.md."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse
import urllib.request

from tests.human_input.flows import REVIEW
from tests.postgresql import Server
from tests.s3 import S3Server
from tests.server.process import Serve
from tests.server.test_forms import call, ended, paused, submit

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "scaling.md"


def commands(**replaced: str) -> str:
    """Those of the page, with other values."""
    section = PAGE.read_text("utf-8").partition("## From one machine to hosts")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    text = block[1]
    for name, value in {
        "postgresql://headrace@db.example/headrace": replaced["database"],
        "s3://example-files/headrace": replaced["bucket"],
        "/var/lib/headrace": replaced["folder"],
    }.items():
        assert name in text
        text = text.replace(name, f"'{value}'")
    return text


def host(folder: pathlib.Path, flows: pathlib.Path, **environ: str) -> Serve:
    folder.mkdir()
    return Serve(folder, [], environ, ["--name", f"shop={flows}"])


def test_keys_runs_forms_and_files_move_to_hosts(
    tmp_path: pathlib.Path, postgresql_server: Server, s3: S3Server
) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "review.yml").write_text(REVIEW, "utf-8")
    content = bytes(range(256)) * 100
    with host(tmp_path / "machine", flows) as one:
        answered, token = paused(one)
        assert submit(one, token, "before") == (200, {})
        assert ended(one, answered)["status"] == "succeeded"
        waiting, token = paused(one)
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: a/b\r\n\r\n'
        headers = {"Authorization": f"Bearer {one.keys['review']}", "Content-Type": "multipart/form-data; boundary=x"}
        upload = urllib.request.Request(f"{one.url}/v1/files/upload", head + content + b"\r\n--x--\r\n", headers)
        with urllib.request.urlopen(upload, timeout=60) as response:
            link = urllib.parse.urlsplit(json.load(response)["source_url"])
        before = call(one, "GET", f"/api/v1/workflow-runs/{answered}")
    database, bucket = postgresql_server.new_database(), s3.new_bucket()
    script = commands(database=database, bucket=bucket, folder=str(tmp_path / "machine" / "data"))
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Copied 1 apps, 1 keys, 2 runs, 1 stored file." in done.stdout

    environ = {"HEADRACE_DATABASE_URL": database, "HEADRACE_FILES_URL": bucket}
    with host(tmp_path / "one", flows, **environ) as first, host(tmp_path / "two", flows, **environ) as second:
        for at in (first, second):
            assert at.keys == one.keys
            assert call(at, "GET", f"/api/v1/workflow-runs/{answered}") == before
            with urllib.request.urlopen(f"{at.url}{link.path}?{link.query}", timeout=60) as response:
                assert response.read() == content
        assert submit(second, token, "after") == (200, {})
        assert ended(first, waiting)["status"] == "succeeded"
    assert not any((tmp_path / name / "data" / "secret").exists() for name in ("one", "two"))
