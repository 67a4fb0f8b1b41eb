"""The contract's promises, each a test in sdks/node/test; and what else is tested there."""

from __future__ import annotations

import re

import pytest

from tests.sdk_node.package import ROOT

_PROMISE = re.compile(r"(?:^- |· )`([a-z]+\.[a-z0-9-]+)`", re.MULTILINE)


def _promises() -> list[str]:
    return _PROMISE.findall((ROOT / "sdks" / "contract.md").read_text())


@pytest.mark.parametrize("promise", _promises())
def test_promise_is_kept(promise: str, outcomes: dict[str, str | None]) -> None:
    assert promise in outcomes, f"no test in sdks/node/test is called {promise}"
    assert outcomes[promise] is None, outcomes[promise]


def test_whatever_else_is_tested_holds(outcomes: dict[str, str | None]) -> None:
    wrong = {name: error for name, error in outcomes.items() if error is not None}
    assert not wrong, "\n\n".join(f"{name}\n{error}" for name, error in wrong.items())
    assert len(outcomes) > len(_promises())
