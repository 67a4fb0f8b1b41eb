"""App packages (`.ifpkg`): what they hold is loaded or named, and nothing in them is trusted."""

from __future__ import annotations

import hashlib
import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headrace.dsl.package import MANIFEST, is_package, packaged, text_of
from headrace.errors import LoadError
from tests.cli.conftest import Invoke, invoke
from tests.cli.flows import field, flow

__all__ = ["invoke"]

DSL = b"app: {mode: workflow, name: n}\nkind: app\nversion: 0.7.0\n"


def manifest(content: bytes = DSL, path: str = "app.yaml", **more: Any) -> dict[str, Any]:
    """As Dify writes it."""
    entry = {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {"format": "dify.app", "format_version": 1, "apps": [entry], **more}


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as zip_file:
        for name, content in members.items():
            zip_file.writestr(name, content)
    return file.getvalue()


def package(content: bytes = DSL, **more: Any) -> bytes:
    """An app package with this app in it."""
    return archive({MANIFEST: yaml.safe_dump(manifest(content, **more)).encode(), "app.yaml": content})


def refusal(content: bytes) -> str:
    with pytest.raises(LoadError) as refused:
        text_of(content, "f.ifpkg")
    return str(refused.value)


def test_a_packaged_workflow_runs_and_is_fine(tmp_path: Path, invoke: Invoke):
    plain = flow(tmp_path / "echo.yml", variables=[field("q", required=True)]).read_bytes()
    file = tmp_path / "echo.ifpkg"
    file.write_bytes(package(plain))
    assert invoke("lint", file).stdout == f"{file}: no problems\n"
    assert '"q": "hello"' in invoke("run", file, "-i", "q=hello").stdout


def test_skills_and_files_of_agents_are_passed_over():
    skill = {"id": "s_000001", "path": "s_000001.zip", "scope": "agent_config", "name": "write", "size": 3}
    index = manifest(agent_resources={"agent_1": {"skills": [skill]}})
    content = archive({MANIFEST: yaml.safe_dump(index).encode(), "app.yaml": DSL, "s_000001.zip": b"PK?"})
    assert text_of(content, "f.ifpkg") == DSL.decode()


def test_plain_text_is_no_package():
    assert not is_package(DSL)
    assert text_of(b"\xef\xbb\xbf" + DSL, "f.yml") == DSL.decode()


DAMAGED = DSL.replace(b"name: n", b"name: m")
REFUSED = [
    (
        archive({MANIFEST: b"format: dify.roster-agent\nformat_version: 1\n", "app.yaml": DSL}),
        "the package holds an agent (an app of mode 'agent'), which Headrace does not run",
    ),
    (archive({MANIFEST: b"format: app_bundle\n"}), "packages of format 'app_bundle' are not supported"),
    (package(format_version=2), "packages of format version 2 are not supported, only 1"),
    (package(apps=[]), f"{MANIFEST} must name one app, with its path"),
    (package(apps=[3]), f"{MANIFEST} must name one app, with its path"),
    (package(apps="app.yaml"), f"{MANIFEST} must name one app, with its path"),
    (package(apps=[{"path": "gone.yaml"}]), "the package has no members named 'gone.yaml', not one"),
    (
        archive({MANIFEST: yaml.safe_dump(manifest()).encode(), "app.yaml": DAMAGED}),
        "the package is damaged: app.yaml is not what manifest.yaml says of it",
    ),
    (
        archive({"flow.yml": DSL}),
        "is a ZIP archive without a manifest.yaml, so not an app package of Dify (.ifpkg): unpack it, and use flow.yml",
    ),
    (archive({}), "is a ZIP archive without a manifest.yaml, so not an app package of Dify (.ifpkg)"),
    (archive({MANIFEST: b"- 1\n"}), "the file contains a list, not a mapping"),
    (archive({MANIFEST: b"a: ["}), "not valid YAML"),
    (package(b"\xff"), "is not UTF-8 text (byte 0)"),
    (package(package()), "app.yaml in the package is an archive itself, not a workflow file"),
    (archive({MANIFEST: b"#" * 2_000_000}), "manifest.yaml in the package is larger than 1 MB"),
    (archive({MANIFEST: b"a: 1"}, zipfile.ZIP_BZIP2), "is compressed by an unsupported method"),
    (package()[:40], "the package cannot be unpacked"),
]


@pytest.mark.parametrize("name", ["a\x1b[31m\nb.yml", "a" * 5000 + ".yml", "\u202egnp.yml"])
def test_names_of_members_do_nothing_to_a_terminal(name: str):
    for content in (
        archive({name: DSL}),
        package(apps=[{"path": name}]),
        archive({MANIFEST: yaml.safe_dump(manifest(path=name)).encode(), name: b"\xff"}),
    ):
        message = refusal(content)
        assert message.isprintable()
        assert len(message) < 300


def test_a_digest_in_capitals_is_the_same():
    entry = {"path": "app.yaml", "sha256": hashlib.sha256(DSL).hexdigest().upper()}
    assert text_of(package(apps=[entry]), "f.ifpkg") == DSL.decode()


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_no_app_is_named(content: bytes, message: str):
    assert message in refusal(content)


def test_a_member_that_stands_twice_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zip_file:
        zip_file.writestr(MANIFEST, yaml.safe_dump(manifest()))
        zip_file.writestr("app.yaml", DAMAGED)
        with pytest.warns(UserWarning, match="Duplicate name"):
            zip_file.writestr("app.yaml", DSL)
    assert "2 members named 'app.yaml'" in refusal(file.getvalue())


def test_a_bomb_is_not_unpacked():
    bomb = archive({MANIFEST: yaml.safe_dump(manifest()).encode(), "app.yaml": b" " * 60_000_000})
    assert len(bomb) < 100_000
    assert "app.yaml in the package is larger than 40 MB" in refusal(bomb)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_package_is_refused_or_read(changes: list[tuple[int, int]]):
    content = bytearray(package())
    for at, byte in changes:
        content[at % len(content)] = byte
    with suppress(LoadError):
        assert packaged(io.BytesIO(bytes(content)), "f.ifpkg") == DSL.decode()
