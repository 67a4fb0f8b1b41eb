"""What the llm node makes of an answer: reasoning and JSON objects."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.ports.services import ChatChunk
from tests.nodes.llm_world import Model, failure, node, run

# -------------------------------------------------------------------------------------------------------- reasoning

NATIVE = [ChatChunk(reasoning="let me"), ChatChunk(reasoning=" see"), ChatChunk("Yes"), ChatChunk(".")]
INLINE = [ChatChunk(text) for text in ("<th", "ink>let me", " see</thi", "nk>\n\nYes", ".")]


async def test_reasoning_is_tagged_in_the_text():
    ran = await run(node(), Model(NATIVE))
    assert ran.texts == ["<think>\nlet me", " see", "\n</think>Yes", "."]
    assert ran.text == "<think>\nlet me see\n</think>Yes."
    assert ran.result.outputs["reasoning_content"] == ""
    assert (await run(node(), Model(INLINE))).text == "<think>let me see</think>\n\nYes."


@pytest.mark.parametrize("says", [NATIVE, INLINE], ids=["a field of its own", "inside the text"])
async def test_reasoning_is_separated_from_the_text(says: Sequence[ChatChunk]):
    ran = await run(node(reasoning_format="separated"), Model(says))
    assert ran.texts == ["Yes", "."]
    assert ran.text == "Yes."
    assert ran.result.outputs["reasoning_content"] == "let me see"


@pytest.mark.parametrize(
    ("says", "text", "reasoning"),
    [
        ("<think>a</think>x<THINK lang='en'>b</THINK>y", "xy", "a\nb"),
        ("<think>never closed", "", "never closed"),
        ("x <think></think> y", "x  y", ""),
        ("1 < 2 and <b>bold</b> <thinker>", "1 < 2 and <b>bold</b> <thinker>", ""),
        ("ends with <thi", "ends with <thi", ""),
        ("</think>x", "</think>x", ""),
        ("a\n\n<think>t</think>\n\nb", "a\n\nb", "t"),
        (" \n a\n \n\n b \n\n", "a\n\n b", ""),
    ],
)
async def test_tags_cut_anywhere(says: str, text: str, reasoning: str):
    for size in (1, 2, 5, len(says)):
        pieces = [ChatChunk(says[at : at + size]) for at in range(0, len(says), size)]
        ran = await run(node(reasoning_format="separated"), Model(pieces))
        outputs = ran.result.outputs
        assert (outputs["text"], outputs["reasoning_content"]) == (text, reasoning), size
        assert "".join(ran.texts) == text, size  # what is streamed is what the node returns


async def test_a_thought_without_an_answer_is_closed():
    ran = await run(node(), Model([ChatChunk(reasoning="hm")]))
    assert ran.text == "".join(ran.texts) == "<think>\nhm\n</think>"


# ------------------------------------------------------------------------------------------------ structured output

SCHEMA = {"schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}


@pytest.mark.parametrize(
    "says",
    [
        '{"a": 1}',
        '```json\n{"a": 1}\n```',
        'Here it is:\n```\n{"a": 1}\n```\nBye {',
        'Sure! {"a": 1} Anything else?',
        '<think>{"a": 2}</think>{"a": 1}',
        '[{"a": 1}]',
        '{"a": 1,}',
        "{'a': 1}",
        '{not json} {"a": 1}',
    ],
)
async def test_structured_output(says: str):
    for switch in ("structured_output_enabled", "structured_output_switch_on"):
        ran = await run(node(structured_output=SCHEMA, **{switch: True}), Model([ChatChunk(says)]))
        assert ran.request.schema == SCHEMA["schema"]
        assert ran.result.outputs["structured_output"] == {"a": 1}
        assert ran.text == says


@pytest.mark.parametrize("says", ["no", "", "7", "{" * 10_000, "[" * 100_000])
async def test_an_answer_that_holds_no_object(says: str):
    async with asyncio.timeout(60):
        error = await failure(node(structured_output=SCHEMA, structured_output_enabled=True), Model([ChatChunk(says)]))
    assert error.kind == "LLMNodeError"
    assert str(error).startswith("Failed to parse structured output")
    assert len(str(error)) < 1000


@pytest.mark.parametrize("schema", [{}, {"schema": None}, {"schema": {}}, {"schema": "x"}])
async def test_a_schema_that_is_none(schema: dict[str, Any]):
    error = await failure(node(structured_output=schema, structured_output_enabled=True))
    assert (str(error), error.kind) == ("Please provide a valid structured output schema", "LLMNodeError")


async def test_structured_output_is_off_unless_switched_on():
    ran = await run(node(structured_output=SCHEMA, structured_output_enabled=False))
    assert ran.request.schema is None
    assert "structured_output" not in ran.result.outputs
