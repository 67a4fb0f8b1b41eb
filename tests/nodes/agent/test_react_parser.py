"""The ReAct format, and that it is read in the same way however it is cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.nodes.agent.react_parser import Action, ReactParser

WEATHER = '{"action": "weather", "action_input": {"city": "Rome"}}'
ROME = Action("weather", {"city": "Rome"})


def read(pieces: Sequence[str]) -> tuple[str, Action | None, str]:
    """(thought, action, answer)."""
    parser = ReactParser()
    answer = "".join([*map(parser.feed, pieces), parser.end()])
    return parser.thought, parser.action, answer


@pytest.mark.parametrize(
    ("text", "thought", "action", "answer"),
    [
        (f"Thought: hm\n\nAction: {WEATHER}", "hm", ROME, ""),
        (f"thought: hm\naction: {WEATHER}\nObservation: made up", "hm", ROME, ""),
        (f"THOUGHT: hm\nACTION:\n```json\n{WEATHER}\n```", "hm", ROME, ""),
        (f"Thought: hm Action: [{WEATHER}]", "hm", ROME, ""),
        ('Action: {"action": "weather", "action_input": "Rome"}', "", Action("weather", "Rome"), ""),
        ('Action: {"Action": "x", "Action Input": {}}', "", Action("x", {}), ""),
        ('Action: {"tool_input": "a }{ \\" b", "tool": "x"}', "", Action("x", 'a }{ " b'), ""),
        ("Thought: I know.\nFinalAnswer: It rains.\nReally.", "I know.", None, " It rains.\nReally."),
        ("Final Answer: It {rains}.", "", None, " It {rains}."),
        ("finalanswer:x", "", None, "x"),
        ("A plain answer.", "A plain answer.", None, ""),
        ("see xThought: no marker inside a word", "see xThought: no marker inside a word", None, ""),
        ("the final action: look", "the final  look", None, ""),
        ('Not an action: {"a": 1}. Fin', 'Not an  {"a": 1}. Fin', None, ""),
        ("a list [1, 2] and [] of things", "a list [1, 2] and [] of things", None, ""),
        (f'{{"a": 1, "b": [2]}} then {WEATHER}', '{"a": 1, "b": [2]} then', ROME, ""),
        (f"an open {{ brace, then {WEATHER}", "an open { brace, then", ROME, ""),
        ("an open [ bracket\nFinalAnswer: yes", "an open [ bracket", None, " yes"),
        ('Action: {"action": "x"', 'Action: {"action": "x"'.removeprefix("Action:").strip(), None, ""),
        ('{"action": 5, "action_input": 1}', '{"action": 5, "action_input": 1}', None, ""),
        ("", "", None, ""),
    ],
)
def test_what_a_model_writes(text: str, thought: str, action: Action | None, answer: str):
    assert read([text]) == (thought, action, answer)
    assert read([*text]) == (thought, action, answer)


@pytest.mark.parametrize("name", ["Final Answer", "FinalAnswer", "final_answer", "final answer "])
def test_an_action_may_be_the_final_answer(name: str):
    assert Action(name, "x").is_final
    assert not Action("finally", "x").is_final


MARKERS = ["Thought:", "Action:", "FinalAnswer:", "final answer:", "final action:", "Observation:", "f", "Fi"]
JSON = [WEATHER, '{"a": 1}', "[1]", "{", "}", "[", "]", '"', "\\"]
PARTS = st.sampled_from([*MARKERS, *JSON, "```json\n", "```", "text", "日本", " ", "\n"])


@given(st.lists(PARTS, max_size=12).map("".join), st.data())
def test_cuts_make_no_difference(text: str, data: st.DataObject):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(pieces) == read([text])


def test_much_unbalanced_text_takes_linear_time():
    """Each of these once took a quadratic number of steps."""
    for text in ("{" * 200_000, '{"a":' * 50_000, "[" * 200_000, "f" * 200_000):
        assert read([text])[1] is None
