"""Questions and answers: from a table of two columns, or written by a model for each chunk of a document."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from headrace.errors import NodeError
from headrace.ports.services import ChatRequest, Message, Models

_QUESTION, _ANSWER = re.compile(r"Q\d+:"), re.compile(r"A\d+:")
_INDENTED_LINES = re.compile(r"\n\s*")
_PROMPT = (
    "The user sends a part of a longer document. Write the questions that it answers, and the answer to each, in "
    "{language}. Each question must be understood without the text; each answer must be complete, and say nothing that "
    "the text does not. Write nothing else, and follow this form:\nQ1: question\nA1: answer\nQ2: question\nA2: answer"
)


class Pair(NamedTuple):
    question: str
    answer: str


class ChunkWriter:
    """A model that writes about chunks. `model` is PROVIDER/MODEL, "" for none."""

    def __init__(self, models: Models, model: str) -> None:
        self._models = models
        self._provider, _, self._model = model.rpartition("/")

    async def questions(self, text: str, language: str) -> list[Pair]:
        """What a text answers. NodeError if the model fails, or none is set."""
        if not self._provider:
            reason = "Questions and answers need a model: set HEADRACE_SUMMARY_MODEL to PROVIDER/MODEL."
            raise NodeError(reason, "ProviderTokenNotInitError")
        return pairs_in(await self._answer(self._provider, self._model, _PROMPT.format(language=language), text))

    async def summary(self, text: str, provider: str, model: str, instruction: str) -> str:
        """The summary of a text by a model of its own. NodeError if the model fails."""
        prompt = instruction or "Summarize the text of the user in a few sentences, in the language of the text."
        return (await self._answer(provider or self._provider, model or self._model, prompt, text)).strip()

    async def _answer(self, provider: str, model: str, prompt: str, text: str) -> str:
        request = ChatRequest(provider, model, (Message("system", prompt), Message("user", text)))
        return "".join([chunk.text async for chunk in self._models.chat(request)])


def pairs_in(answer: str) -> list[Pair]:
    """The pairs in a model's answer; what does not follow the form is left out, as a question of several lines."""
    pairs: list[tuple[str, str]] = []
    position = 0
    mark = _ANSWER.search(answer)
    while (start := _QUESTION.search(answer, position)) and mark is not None:
        position = start.end()
        if mark.start() < position:
            mark = _ANSWER.search(answer, position)
            if mark is None:
                break
        question = answer[position : mark.start()].strip()
        if "\n" not in question:
            following = _QUESTION.search(answer, mark.end())
            position = following.start() if following else len(answer)
            pairs.append((question, _INDENTED_LINES.sub("\n", answer[mark.end() : position].strip())))
    return _complete(pairs)


def _complete(pairs: Iterable[Sequence[str]]) -> list[Pair]:
    """The pairs whose question and answer are not empty."""
    stripped = (Pair(pair[0].strip(), pair[1].strip()) for pair in pairs)
    return [pair for pair in stripped if pair.question and pair.answer]


def pairs_of_table(text: str) -> list[Pair]:
    """The pairs of a CSV file: the first two columns of each row. NodeError if it has none."""
    try:
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    except csv.Error as error:
        raise NodeError(f"The CSV file cannot be read: {error}", "TextExtractionError") from error
    pairs = _complete(row for row in rows if len(row) > 1)
    if pairs and (pairs[0].question.casefold(), pairs[0].answer.casefold()) in _HEADERS:
        del pairs[0]
    if not pairs:
        raise NodeError("The CSV file has no rows with a question and an answer.", "TextExtractionError")
    return pairs


_HEADERS = frozenset({("question", "answer"), ("问题", "答案"), ("問題", "答案")})
