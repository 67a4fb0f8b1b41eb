"""The llm node's memory: what was said before, as much as the window and the model have room for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from headrace.nodes.llm import LLM
from headrace.ports.services import Message, Turn
from headrace.values import File
from tests.nodes.llm_world import PICTURE, Conversation, Model, Ran, node, run

SYSTEM = [{"role": "system", "text": "Be terse."}]
SAID = [Turn("one?", "one"), Turn("two?", "two"), Turn("three?", "three")]
SCOPES = {"sys": {"query": "four?", "conversation_id": "c1"}, "start": {"query": "x"}}


def remembering(prompt: Any = SYSTEM, *, model: dict[str, Any] | None = None, **memory: Any) -> LLM:
    return node(prompt, memory=memory, model={"provider": "p", "name": "m"} | (model or {}))


async def ask(llm: LLM, turns: Sequence[Turn] = SAID, **scopes: Any) -> tuple[Ran, Conversation]:
    history = Conversation(turns)
    return await run(llm, Model(), SCOPES | scopes, history=history), history


def texts(ran: Ran) -> list[str]:
    return [message.text for message in ran.request.messages]


async def test_what_was_said_comes_between_the_prompt_and_the_question():
    ran, history = await ask(remembering(window={"enabled": True, "size": 2}, query_prompt_template="{{#sys.query#}}"))
    assert history.requests == [("c1", "r", 2)]
    assert ran.request.messages == [
        Message("system", "Be terse."),
        Message("user", "two?"),
        Message("assistant", "two"),
        Message("user", "three?"),
        Message("assistant", "three"),
        Message("user", "four?"),
    ]
    assert [prompt["text"] for prompt in ran.result.process["prompts"]] == texts(ran)


@pytest.mark.parametrize(
    ("memory", "limit"),
    [
        ({}, 500),
        ({"window": None, "role_prefix": None}, 500),
        ({"window": {"enabled": False, "size": 2}}, 500),
        ({"window": {"enabled": True, "size": None}}, 500),
        ({"window": {"enabled": True, "size": 0}}, 500),
        ({"window": {"enabled": True, "size": -3}}, 500),
        ({"window": {"enabled": True, "size": 10_000}}, 500),
        ({"window": {"enabled": None, "size": 7}}, 500),
        ({"window": {"enabled": True, "size": "7"}}, 7),
    ],
)
async def test_how_many_exchanges(memory: dict[str, Any], limit: int):
    ran, history = await ask(remembering(**memory))
    assert history.requests == [("c1", "r", limit)]
    assert texts(ran)[-1] == "four?"
    assert len(texts(ran)) == 8


@pytest.mark.parametrize("conversation", [None, "", 7])
async def test_without_a_conversation_nothing_was_said(conversation: Any):
    ran, history = await ask(remembering(), sys={"query": "four?", "conversation_id": conversation})
    assert (texts(ran), history.requests) == (["Be terse.", "four?"], [])


async def test_without_memory_nothing_is_remembered():
    llm = node(SYSTEM)
    history = Conversation(SAID)
    ran = await run(llm, Model(), SCOPES, history=history)
    assert (texts(ran), history.requests) == (["Be terse."], [])


async def test_a_first_question():
    ran, _ = await ask(remembering(), [])
    assert texts(ran) == ["Be terse.", "four?"]


async def test_what_was_said_is_no_template():
    ran, _ = await ask(remembering(), [Turn("{{#start.query#}}", "{{#sys.query#}} {{#context#}}")])
    assert texts(ran) == ["Be terse.", "{{#start.query#}}", "{{#sys.query#}} {{#context#}}", "four?"]


# ------------------------------------------------------------------------------------------------------------- room


def long(tokens: int) -> Turn:
    return Turn("x" * 4 * (tokens // 2), "y" * 4 * (tokens // 2))


@pytest.mark.parametrize(
    ("model", "remaining"),
    [
        ({"name": "m"}, 15),  # 16,384 tokens for one that nobody knows, of which 1,024 are for the answer
        ({"name": "gpt-4"}, 7),
        ({"name": "gpt-4o-mini"}, 30),
        ({"name": "org/GPT-4o"}, 30),
        ({"name": "moonshot-v1-8k"}, 7),
        ({"name": "doubao-pro-4k-240515"}, 3),
        ({"name": "m", "completion_params": {"num_ctx": 4096}}, 3),
        ({"name": "gpt-4", "completion_params": {"max_tokens": 6144}}, 2),
        ({"name": "gpt-4", "completion_params": {"max_tokens": "{{#start.limit#}}"}}, 4),
        ({"name": "gpt-4", "completion_params": {"max_tokens": 100_000}}, 1),
        ({"name": "gpt-4", "completion_params": {"max_tokens": None}}, 7),
    ],
)
async def test_the_oldest_go_where_the_model_has_no_room(model: dict[str, Any], remaining: int):
    turns = [Turn(f"{number} {turn.query}", turn.answer) for number, turn in enumerate([long(1000)] * 30)]
    ran, _ = await ask(remembering(model=model), turns, start={"limit": 4096})
    questions = [message.text.split()[0] for message in ran.request.messages[1:-1:2]]
    assert questions == [str(number) for number in range(30 - remaining, 30)]


async def test_the_newest_exchange_stays_whatever_its_length():
    ran, _ = await ask(remembering(), [long(10), long(1_000_000)])
    assert [len(text) for text in texts(ran)[1:-1]] == [2_000_000, 2_000_000]


async def test_a_long_question_leaves_less_room():
    turns = [long(1000)] * 10
    ran, _ = await ask(remembering(model={"name": "gpt-4"}), turns, sys={"query": "x" * 20_000, "conversation_id": "c"})
    assert len(texts(ran)) == 2 + 2 * 2


async def test_chinese_takes_more_room():
    ran, _ = await ask(remembering(model={"name": "gpt-4"}), [Turn("問" * 500, "答" * 500)] * 10)
    assert len(texts(ran)) == 2 + 2 * 7


# ------------------------------------------------------------------------------------------------------------ files


SEEN = [Turn("What is it?", "A cat.", [PICTURE])]


async def test_with_vision_the_files_of_questions_are_shown():
    vision = {"enabled": True, "configs": {"detail": "low", "variable_selector": ["sys", "files"]}}
    odd = File("custom", "local_file", "a.bin")
    llm = node(SYSTEM, memory={}, vision=vision)
    history = Conversation([*SEEN, Turn("And this?", "No idea.", [odd])])
    scopes = {"sys": {"query": "Really?", "conversation_id": "c1", "files": []}}
    ran = await run(llm, Model(), scopes, history=history)
    assert ran.request.messages == [
        Message("system", "Be terse."),
        Message("user", "What is it?", (PICTURE,), "low"),
        Message("assistant", "A cat."),
        Message("user", "[Unsupported file type: a.bin (custom)]And this?", (), "low"),
        Message("assistant", "No idea."),
        Message("user", "Really?"),
    ]


async def test_without_vision_they_are_not():
    ran, _ = await ask(remembering(), SEEN)
    assert all(not message.files for message in ran.request.messages)


# -------------------------------------------------------------------------------------------------- completion mode


COMPLETION = {"mode": "completion"}


async def completed(text: str, turns: Sequence[Turn] = SAID[:1], **memory: Any) -> str:
    ran, _ = await ask(remembering({"text": text}, model=COMPLETION, **memory), turns)
    [message] = ran.request.messages
    assert message.role == "user"
    return message.text


async def test_completion_models_get_a_text():
    prefix = {"user": "Guest", "assistant": "Host"}
    template = "<{{#histories#}}>\nGuest: {{#sys.query#}}\nHost:"
    assert await completed(template, role_prefix=prefix) == "<Guest: one?\nHost: one>\nGuest: four?\nHost:"
    assert await completed(template, []) == "<>\nGuest: four?\nHost:"


@pytest.mark.parametrize("prefix", [None, {"user": "", "assistant": ""}, {"user": None}])
async def test_sides_without_a_name_get_the_usual_ones(prefix: Any):
    assert await completed("{{#histories#}} {{#sys.query#}}", role_prefix=prefix) == (
        "Human: one?\nAssistant: one four?"
    )


async def test_a_template_without_a_place_for_them_gets_them_before_it():
    assert await completed("Go on.") == "four?\nHuman: one?\nAssistant: one\nGo on."
    assert await completed("Go on.", []) == "four?\nGo on."
    assert await completed("Go on.", [], query_prompt_template="Q: {{#sys.query#}}") == "Q: four?\nGo on."
    assert await completed("{{#sys.query#}}") == "Human: one?\nAssistant: one\nfour?"


async def test_pictures_are_named_in_a_text():
    assert await completed("{{#histories#}} {{#sys.query#}}", SEEN) == (
        "Human: [image]\nWhat is it?\nAssistant: A cat. four?"
    )


async def test_what_somebody_wrote_is_no_place_for_them():
    ran, _ = await ask(
        remembering({"text": "{{#start.query#}} {{#histories#}} {{#sys.query#}}"}, model=COMPLETION),
        SAID[:1],
        start={"query": "{{#histories#}}"},
    )
    assert texts(ran) == ["{{#histories#}} Human: one?\nAssistant: one four?"]


async def test_what_a_caller_says_was_said_stands_for_the_conversation():
    past_messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one?"},
        {"role": "user", "content": "or two?"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "three?"},
        {"role": "assistant", "content": "three"},
    ]
    turns = {"query": "four?", "conversation_id": "c1", "history": past_messages}
    ran, history = await ask(remembering(), sys=turns)
    assert texts(ran) == ["Be terse.", "one?\n\nor two?", "one", "three?", "three", "four?"]
    assert history.requests == []
    ran, _ = await ask(remembering(window={"enabled": True, "size": 1}), sys=turns)
    assert texts(ran) == ["Be terse.", "three?", "three", "four?"]
