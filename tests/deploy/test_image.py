"""The image, the compose file and the systemd unit: as far as they can be held without any of the three engines."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.settings import Settings
from tests.cli.flows import code, flow
from tests.deploy.image import DOCKERFILE, NOBODY, ROOT, Image, stages, user

DEPLOY = ROOT / "deploy"
SETTINGS = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields}


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_final_image_is_small_and_nobodys() -> None:
    build, final = stages()
    assert [item.base for item in (build, final)] == ["python:3.12-slim-bookworm AS build", "python:3.12-slim-bookworm"]
    assert final.the("USER") == "10001:10001"
    assert json.loads(final.the("ENTRYPOINT")) == ["tini", "--", "headrace"]
    assert final.the("STOPSIGNAL") == "SIGTERM"
    assert (final.the("EXPOSE"), final.the("VOLUME")) == ("8040", "/var/lib/headrace")
    runs = " ".join(argument for name, argument in final.steps if name == "RUN")
    assert not re.search(r"\b(gcc|build-essential|pip|uv|curl|git)\b", runs)
    assert "rm -rf /var/lib/apt/lists/*" in runs
    assert {name for name in final.environment if name.startswith("HEADRACE_")} <= SETTINGS


def test_the_build_is_sent_what_it_needs_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    copied = {
        source
        for stage in stages()
        for name, argument in stage.steps
        if name == "COPY" and not argument.startswith("--from=")
        for source in argument.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder of the user's own: the container's only one."""
    with tempfile.TemporaryDirectory(prefix="headrace-data-") as folder:
        if user() is not None:
            os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


def test_its_steps_make_a_server_that_is_healthy_and_ends_well(image: Image, data: Path) -> None:
    """Started as the container starts it, by a user who may write to the data folder and nowhere else."""
    folder = image.root / "flows"
    folder.mkdir(exist_ok=True)
    source = flow(
        folder / "code.yml",
        code("def main():\n    return {'y': str(6 * 7)}\n", y="string"),
        outputs={"y": ("code", "y")},
    )
    source.chmod(0o644)
    command = [*json.loads(image.final.the("ENTRYPOINT"))[2:], *json.loads(image.here(image.final.the("CMD")))]
    ready = data / "ready.json"
    env = image.environment(data, HEADRACE_PORT="0")
    process = subprocess.Popen(
        [image.bin / command[0], *command[1:], "--ready-file", str(ready)],
        cwd=data,
        env=env,
        user=user(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not ready.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        readiness = json.loads(ready.read_text())
        port = readiness["url"].rpartition(":")[2]
        check = [image.here(part) for part in image.final.health_check]
        healthy = image.run(check, {**env, "HEADRACE_PORT": port})
        assert (healthy.returncode, healthy.stderr) == (0, "")

        # the confined process of code nodes works as that user, too
        body = json.dumps({"inputs": {}, "response_mode": "blocking", "user": "u"})
        key = readiness["apps"][0]["key"]
        script = f"""
import json, sys, urllib.request
headers = {{"Authorization": "Bearer {key}", "Content-Type": "application/json"}}
request = urllib.request.Request("{readiness["url"]}/v1/workflows/run", sys.argv[1].encode(), headers)
print(json.load(urllib.request.urlopen(request))["data"]["outputs"]["y"])
"""
        ran = image.run([str(image.bin / "python"), "-I", "-c", script, body], env)
        assert (ran.stdout, ran.stderr) == ("42\n", "")
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    sick = image.run([image.here(part) for part in image.final.health_check], {**env, "HEADRACE_PORT": port})
    assert sick.returncode == 1


def test_the_wheel_holds_all_that_it_needs(image: Image) -> None:
    source = image.root / "src" / "src"
    packaged = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert len(packaged) > 100
    (installed,) = (image.root / "opt" / "headrace" / "lib").glob("python*/site-packages")
    assert {path for path in packaged if not (installed / path).exists()} == set()


# ------------------------------------------------------------------------------------------------------------ compose

SERVICE = {
    "build", "image", "restart", "stop_grace_period", "ports", "volumes", "environment", "read_only", "tmpfs",
    "cap_drop", "security_opt", "pids_limit", "networks", "profiles", "depends_on",
}  # fmt: skip


def test_the_compose_file_says_only_what_compose_knows() -> None:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(document) == {"name", "services", "volumes", "networks"}
    for service in document["services"].values():
        assert set(service) <= SERVICE
        assert "build" in service or re.fullmatch(r"[a-z]+:[0-9.]+(-\w+)?", service["image"])
        for mount in service["volumes"]:
            source, target = mount.split(":")[:2]
            assert source in document["volumes"] or (DEPLOY / source).exists() or source == "./certificates"
            assert target.startswith("/")
        assert set(service["networks"]) <= set(document["networks"])
        for name, condition in service.get("depends_on", {}).items():
            assert name in document["services"]
            assert condition == {"condition": "service_healthy"}
    headrace = document["services"]["headrace"]
    assert (DEPLOY / headrace["build"]["context"] / headrace["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert {name for name in headrace["environment"] if name.startswith("HEADRACE_")} <= SETTINGS
    assert headrace["environment"]["HEADRACE_TRUSTED_PROXIES"] in str(document["networks"])
    drain = Settings.model_fields["drain_seconds"].default
    assert int(headrace["stop_grace_period"].removesuffix("s")) > drain + 10
    assert headrace["read_only"] is True
    assert f"{headrace['volumes'][0].split(':')[1]}" == stages()[1].the("VOLUME")
    assert headrace["volumes"][1] == "./flows:/flows:ro"
    assert json.loads(stages()[1].the("CMD"))[:2] == ["serve", "/flows"]


# ------------------------------------------------------------------------------------------------------------ systemd


def unit() -> dict[str, str]:
    text = (DEPLOY / "headrace.service").read_text()
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_the_unit_gives_a_drain_its_time_and_code_nodes_their_sandbox() -> None:
    received = unit()
    assert received["KillMode"] == "mixed"  # else the signal ends code nodes in mid-run
    assert int(received["TimeoutStopSec"]) > Settings.model_fields["drain_seconds"].default + 10
    assert {"seccomp", "landlock_create_ruleset", "landlock_restrict_self"} <= set(received["SystemCallFilter"].split())
    assert received["NoNewPrivileges"] == "yes"
    assert received["ProtectSystem"] == "strict"
    assert received["CapabilityBoundingSet"] == ""
    named = re.findall(r"HEADRACE_\w+", received["Environment"])
    assert set(named) <= SETTINGS


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NOT CHECKED: the systemd unit, because there is no systemd-analyze here")
    file = tmp_path / "headrace.service"
    text = (DEPLOY / "headrace.service").read_text()
    file.write_text(text.replace("/opt/headrace/bin/headrace", "/bin/true"))
    done = subprocess.run([analyze, "verify", file], capture_output=True, text=True, check=False)
    own = [line for line in done.stderr.splitlines() if "headrace.service" in line]
    assert (done.returncode, own) == (0, [])
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", file], capture_output=True, text=True, check=False
    )
    assert rated.returncode == 0, rated.stdout.splitlines()[-1]  # 2.0 of 10 at most: hardened


def test_code_runs_where_no_memory_becomes_executable() -> None:
    """MemoryDenyWriteExecute, as far as a process can put it on by itself."""
    program = """
import asyncio, ctypes
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, inherited by every process from here on
    raise SystemExit("old kernel")
from headrace.adapters.sandbox import LocalSandbox
async def main():
    sandbox = LocalSandbox()
    code = "def main(a):\\n    import decimal, ctypes\\n    return {'x': str(decimal.Decimal(a) + 1)}"
    print((await sandbox.run("python3", code, {"a": 1}, 10))["x"])
    print((await sandbox.run("javascript", "function main({a}) { return {x: a + 2} }", {"a": 1}, 10))["x"])
    await sandbox.aclose()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "2\n3\n" or "old kernel" in done.stderr, done.stderr
