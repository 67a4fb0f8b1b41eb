"""`headrace diff`: how two files differ, for people and for programs, and an exit code that says whether."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.flows import code, flow

DIFF = Path(__file__).parent.parent / "data" / "diff"


def test_what_people_read(invoke: Invoke):
    done = invoke("diff", DIFF / "old.yml", DIFF / "new.yml")
    assert (done.exit_code, done.stderr) == (1, "")
    assert done.stdout == (DIFF / "old-new.txt").read_text("utf-8")
    assert "sk-" not in done.stdout


def test_what_programs_read(invoke: Invoke):
    done = invoke("diff", DIFF / "old.yml", DIFF / "new.yml", "--json")
    assert (done.exit_code, done.stderr) == (1, "")
    assert json.loads(done.stdout) == json.loads((DIFF / "old-new.json").read_text("utf-8"))


def test_no_difference(tmp_path: Path, invoke: Invoke):
    file = flow(tmp_path / "a.yml")
    done = invoke("diff", file, file)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(invoke("diff", file, file, "--json").stdout)["same"] is True


def test_code_is_compared_line_by_line(tmp_path: Path, invoke: Invoke):
    old = flow(tmp_path / "a.yml", code("def main():\n    x = 1\n    return {}\n"), name="x")
    new = flow(tmp_path / "b.yml", code("def main():\n    x = 2\x1b\n    return {}\n"), name="x")
    done = invoke("diff", old, new)
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "~ node code 'Compute' (code)",
        "    ~ code:",
        "        @@ -1,3 +1,3 @@",
        "         def main():",
        "        -    x = 1",
        "        +    x = 2\\x1b",
        "             return {}",
    ]


def test_a_long_value_is_cut(tmp_path: Path, invoke: Invoke):
    old, new = flow(tmp_path / "a.yml", name="a" * 500), flow(tmp_path / "b.yml", name="b" * 500)
    (line,) = invoke("diff", old, new).stdout.splitlines()
    assert line.startswith('~ app.name: "aaa')
    assert len(line) < 250
    old, new = flow(tmp_path / "a.yml", name="a\n" * 30_000), flow(tmp_path / "b.yml", name="b\n" * 30_000)
    assert "60000 characters -> 60000 characters" in invoke("diff", old, new).stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "the file is empty"),
        (b"a: [", "not valid YAML"),
        (b"- 1", "a list"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"hello: 1", "is it an app exported by Dify?"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, invoke: Invoke, content: bytes | None, message: str):
    good, bad = flow(tmp_path / "good.yml"), tmp_path / "bad.yml"
    if content is not None:
        bad.write_bytes(content)
    for pair in ((good, bad), (bad, good)):
        done = invoke("diff", *pair, "--json")
        assert (done.exit_code, done.stdout) == (2, "")
        assert str(bad) in done.stderr
        assert message in done.stderr


def test_bad_usage(tmp_path: Path, invoke: Invoke):
    assert invoke("diff", flow(tmp_path / "a.yml")).exit_code == 2
