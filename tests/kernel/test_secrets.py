"""Secrets are stars wherever anyone looks."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from headrace.kernel.events import NodeFailed, NodeStarted, NodeSucceeded, Record, RunEnded, RunQueued, RunStarted
from headrace.kernel.secrets import STARS, SecretMask, StreamingMask

SECRETS = st.lists(st.text("ab", min_size=4, max_size=6), min_size=1, max_size=3)


def test_every_part_of_an_event_is_masked():
    mask = SecretMask(["hunter2!"])
    event = NodeSucceeded("n", {"a": ["x hunter2! y"], "hunter2!": 1}, {"i": {"d": "hunter2!"}}, {"p": "hunter2!"})
    masked_event = mask.record(Record("run", 1, 0.0, event)).event
    assert masked_event == NodeSucceeded("n", {"a": [f"x {STARS} y"], STARS: 1}, {"i": {"d": STARS}}, {"p": STARS})
    assert mask.event(NodeFailed("n", "bad hunter2!", "X")) == NodeFailed("n", f"bad {STARS}", "X")
    assert mask.event(RunEnded("failed", error="hunter2!")) == RunEnded("failed", error=STARS)
    written = NodeSucceeded("n", {}, assigned={"conversation": {"token": "hunter2!"}})
    assert mask.event(written) == NodeSucceeded("n", {}, assigned={"conversation": {"token": STARS}})
    assert mask.event(NodeStarted("it", {"items": ["hunter2!"]})) == NodeStarted("it", {"items": [STARS]})
    assert mask.event(RunStarted({"token": "hunter2!"})) == RunStarted({"token": STARS})
    queued = mask.event(RunQueued("a", "v", "t", "u", {"i": "hunter2!"}, {"query": "hunter2!"}))
    assert queued == RunQueued("a", "v", "t", "u", {"i": STARS}, {"query": STARS})


def test_a_short_secret_hides_only_a_whole_text():
    mask = SecretMask(["7", "abc"])
    assert mask.value({"pin": "7", "text": "17 monkeys abc"}) == {"pin": STARS, "text": "17 monkeys abc"}


def test_without_secrets_there_is_nothing_to_do():
    assert not SecretMask(["", ""])
    assert SecretMask(["x"])


@given(SECRETS, st.text("abc", max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_text_in_pieces_is_masked_as_the_whole_would_be_and_never_shows_a_secret(
    secrets: list[str], text: str, cuts: list[int]
):
    masked = StreamingMask(SecretMask(secrets))
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    masked_text = "".join(masked.feed(text[a:b]) for a, b in itertools.pairwise(edges)) + masked.end()
    assert not any(secret in masked_text for secret in secrets)
    if len(secrets) == 1:
        assert masked_text == SecretMask(secrets).text(text)
