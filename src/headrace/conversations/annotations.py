"""Annotation reply: a question that a person has answered gets that answer, without a model.

Dify compares questions by embeddings. Here a question matches an annotation with the same words, whatever its case,
spacing and punctuation.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakValueDictionary

from headrace.ports import Annotation, Conversations

_PAGE = 500  # annotations read at once
_FRESH = 1.0  # seconds after which annotations are read again, for other processes may write them
_APPS = 100  # whose questions are kept in memory
# Punctuation without meaning: not `#`, `+`, `%` and the like, which distinguish C# from C, nor a number's sign.
_PUNCTUATION = re.compile(r"""[.,;:!?'"`´‘’‚“”„«»‹›()\[\]{}<>…·、。「」『』【】〈〉《》¿¡_]|[-‐‑‒–—―](?!\d)""")


class _Questions(NamedTuple):
    """An app's normalized questions with the newest annotation of each; `at` on the monotonic clock."""

    at: float
    annotations: Mapping[str, str]


class Annotations:
    """Matches and changes the annotations of apps. Within this process no hit is lost, and no change overwritten by
    one."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._writing = asyncio.Lock()
        self._questions: OrderedDict[str, _Questions] = (
            OrderedDict()
        )  # by app, so that a message need not read all of them
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by app
        self._changes = 0

    async def answer(self, app: str, query: str) -> Annotation | None:
        """The annotation that answers a query, its hit counted; None if annotation reply is off or none matches.
        Changes by another process are noticed within a second."""
        if await self._conversations.annotation_reply(app) is None:
            return None
        question = normalized(query)
        matching = (await self._questions_of(app)).get(question)
        if matching is None:
            return None
        async with self._writing:
            latest = await self._conversations.find_annotation(matching)
            if latest is None or normalized(latest.question) != question:
                return None
            hit = replace(latest, hits=latest.hits + 1)
            await self._conversations.save_annotation(hit)
        return hit

    async def _questions_of(self, app: str) -> Mapping[str, str]:
        questions = self._fresh(app)
        if questions is None:
            lock = self._reading.setdefault(app, asyncio.Lock())
            async with lock:  # the next one need not read them again
                questions = self._fresh(app) or await self._read(app)
        return questions.annotations

    def _fresh(self, app: str) -> _Questions | None:
        questions = self._questions.get(app)
        return questions if questions is not None and time.monotonic() - questions.at < _FRESH else None

    async def _read(self, app: str) -> _Questions:
        changes, page, at = self._changes, 1, time.monotonic()
        annotations: dict[str, str] = {}
        while True:
            _, some = await self._conversations.annotations(app, page=page, limit=_PAGE)
            for annotation in some:  # the newest come first
                annotations.setdefault(normalized(annotation.question), annotation.id)
            if len(some) < _PAGE:
                break
            page += 1
        questions = _Questions(at, annotations)
        if changes == self._changes:  # otherwise they may be out of date already
            self._questions[app] = questions
            self._questions.move_to_end(app)
            if len(self._questions) > _APPS:
                self._questions.popitem(last=False)
        return questions

    def _changed(self, app: str) -> None:
        self._changes += 1
        self._questions.pop(app, None)

    async def add(self, annotation: Annotation) -> None:
        """Adds an annotation."""
        await self._conversations.save_annotation(annotation)
        self._changed(annotation.app)

    async def find(self, app: str, annotation: str) -> Annotation | None:
        """An app's annotation; None if it has none with this id."""
        annotation_record = await self._conversations.find_annotation(annotation)
        return annotation_record if annotation_record is not None and annotation_record.app == app else None

    async def change(self, app: str, annotation: str, question: str, answer: str) -> Annotation | None:
        """Rewrites an app's annotation; None if it has none with this id."""
        async with self._writing:
            existing = await self.find(app, annotation)
            if existing is None:
                return None
            new = replace(existing, question=question, answer=answer)
            await self._conversations.save_annotation(new)
            self._changed(app)
        return new

    async def remove(self, app: str, annotation: str) -> bool:
        """False if the app has none with this id."""
        async with self._writing:
            existing = await self.find(app, annotation)
            removed = existing is not None and await self._conversations.remove_annotation(annotation)
            self._changed(app)
        return removed


def normalized(question: str) -> str:
    """A question as it is compared. One that is only punctuation is compared as it is."""
    text = unicodedata.normalize("NFKC", question).casefold()
    return " ".join(_PUNCTUATION.sub(" ", text).split()) or text.strip()
