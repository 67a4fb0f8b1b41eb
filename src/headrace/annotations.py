"""Annotation reply: a question that a person has answered gets that answer, and no model is asked.

Dify compares questions by embeddings. Here a question fits an annotation that says the same, whatever its case,
spacing and punctuation.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from dataclasses import replace

from headrace.ports import Annotation, Conversations

_PAGE = 500  # annotations looked at at once
# What sets sentences, and says nothing: not `#`, `+`, `%` and their like, which tell C# from C, nor a number's sign.
_PUNCTUATION = re.compile(r"""[.,;:!?'"`´‘’‚“”„«»‹›()\[\]{}<>…·、。「」『』【】〈〉《》¿¡_]|[-‐‑‒–—―](?!\d)""")


class Annotations:
    """The annotations of apps, as they answer and as they are written. Within this process no hit is lost, and no
    change overwritten by one."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._writing = asyncio.Lock()

    async def answer(self, app: str, query: str) -> Annotation | None:
        """The annotation that answers a query, its hit counted; None where annotation reply is off or none fits."""
        if await self._conversations.annotation_reply(app) is None:
            return None
        found = await self._find(app, normalized(query))
        if found is None:
            return None
        async with self._writing:
            latest = await self._conversations.find_annotation(found.id)
            if latest is None:
                return None
            hit = replace(latest, hits=latest.hits + 1)
            await self._conversations.save_annotation(hit)
        return hit

    async def _find(self, app: str, wanted: str) -> Annotation | None:
        page = 1
        while True:
            _, found = await self._conversations.annotations(app, page=page, limit=_PAGE)
            for annotation in found:
                if normalized(annotation.question) == wanted:
                    return annotation
            if len(found) < _PAGE:
                return None
            page += 1

    async def find(self, app: str, annotation: str) -> Annotation | None:
        """An app's annotation; None where it has none of that id."""
        found = await self._conversations.find_annotation(annotation)
        return found if found is not None and found.app == app else None

    async def change(self, app: str, annotation: str, question: str, answer: str) -> Annotation | None:
        """Rewrites an app's annotation; None where it has none of that id."""
        async with self._writing:
            known = await self.find(app, annotation)
            if known is None:
                return None
            changed = replace(known, question=question, answer=answer)
            await self._conversations.save_annotation(changed)
        return changed

    async def remove(self, app: str, annotation: str) -> bool:
        """False where the app has none of that id."""
        async with self._writing:
            known = await self.find(app, annotation)
            return known is not None and await self._conversations.remove_annotation(annotation)


def normalized(question: str) -> str:
    """What of a question is compared. One of nothing but punctuation stands for itself."""
    text = unicodedata.normalize("NFKC", question).casefold()
    said = " ".join(_PUNCTUATION.sub(" ", text).split())
    return said or text.strip()
