"""`.env` in the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.cli.flows import field, flow, llm


@pytest.fixture
def needs_key(tmp_path: Path) -> Path:
    return flow(tmp_path / "ask.yml", llm("deepseek"), variables=[field("query")], outputs={"t": ("llm", "text")})


@pytest.mark.parametrize(
    "text",
    [
        "DEEPSEEK_API_KEY=sk-of-the-file",
        "\ufeff# a comment\n\nexport DEEPSEEK_API_KEY='sk-of-the-file'  # mine\n",
        'OTHER="several\nlines"\nDEEPSEEK_API_KEY=sk-of-the-file\n',
    ],
)
def test_credentials_of_models(text: str, needs_key: Path, tmp_path: Path, invoke: Invoke):
    assert "DEEPSEEK_API_KEY" in invoke("lint", needs_key).stdout
    (tmp_path / ".env").write_text(text, "utf-8")
    assert invoke("lint", needs_key).stdout == f"{needs_key}: no problems\n"


def test_the_environment_takes_precedence(tmp_path: Path, invoke: Invoke):
    (tmp_path / ".env").write_text("HEADRACE_LOG_LEVEL=never\nHEADRACE_DATA=elsewhere\n")
    assert "HEADRACE_LOG_LEVEL: must be one of" in invoke("apps", "list").stderr
    assert invoke("apps", "list", HEADRACE_LOG_LEVEL="ERROR").stderr.startswith("Error: elsewhere: no such folder.")
    done = invoke("apps", "list", HEADRACE_LOG_LEVEL="ERROR", HEADRACE_DATA="here")
    assert done.stderr.startswith("Error: here: no such folder.")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"A=1\nsk-secret\n", "line 2: must be NAME=VALUE"),
        (b"A=1\n\nsk secret\n", "line 2: must be NAME=VALUE"),
        (b"sk='secret", "line 1: must be NAME=VALUE"),
        (b"sk=secret\0", "line 1: must be NAME=VALUE"),
        (b"'sk=secret'=x", "line 1: must be NAME=VALUE"),
        (b"sk=secret\xff", "is not UTF-8 text (byte 9)"),
    ],
)
def test_a_file_that_is_not_valid_is_named_without_its_text(
    content: bytes, problem: str, tmp_path: Path, invoke: Invoke
):
    (tmp_path / ".env").write_bytes(content)
    done = invoke("apps", "list")
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"Error: .env: {problem}\n")


def test_a_folder_of_that_name_is_none(needs_key: Path, tmp_path: Path, invoke: Invoke):
    (tmp_path / ".env").mkdir()
    assert invoke("lint", needs_key).exit_code == 1
