"""`invoke`: a command in this process, for what needs no process of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace.cli import cli
from tests.cli.flows import environ

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Calls the command line in the test's own folder; `input` is what stdin has, other keywords the environment."""
    monkeypatch.chdir(tmp_path)
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    handlers, levels = root.handlers[:], (root.level, uvicorn.level)

    def call(*arguments: str | Path, input: str | bytes = "", **more: str) -> Result:
        with monkeypatch.context() as patched:
            clean = environ(**more)
            for name in {*more, *os.environ}:
                if name in clean:
                    patched.setenv(name, clean[name])
                else:
                    patched.delenv(name, raising=False)
            before = {*os.environ}
            try:
                return CliRunner().invoke(cli, [*map(str, arguments)], input=input, catch_exceptions=False)
            finally:
                for name in os.environ.keys() - before:  # those of a `.env`
                    del os.environ[name]

    yield call
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    uvicorn.setLevel(levels[1])
