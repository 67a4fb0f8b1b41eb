"""A conversation, its variables and messages, to write down and read back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace.kernel.events import NodeSucceeded, RunEnded, RunQueued, RunStarted
from headrace.ports import Conversation, ConversationVariable, Storage

from .examples import PICTURE, numbered, queued

CONVERSATION = Conversation("c1", "a1", "end-ada", "New 對話", {"city": "礁溪", "photo": PICTURE}, "Hello!", 10.0, 10.0)


def variable(name: str, value: Any, conversation: str = "c1", at: float = 10.0) -> ConversationVariable:
    return ConversationVariable(f"{conversation}-{name}", conversation, name, "string", f"the {name}", value, at, at)


def said(
    run: str, number: int = 1, query: str | None = None, conversation: str | None = "c1", **inputs: Any
) -> RunQueued:
    """A message of a conversation: what its run begins with. Those with an even number come with a picture."""
    system: dict[str, Any] = {
        "query": f"question {number}" if query is None else query,
        "files": [] if number % 2 else [PICTURE],
        "dialogue_count": number,
    }
    return replace(queued(run, "a1", **inputs), system=system, conversation=conversation)


def assigning(**values: Any) -> NodeSucceeded:
    """A node that gives values to variables of the conversation."""
    return NodeSucceeded("set", {}, assigned={"conversation": values})


def answered(text: str, **outputs: Any) -> RunEnded:
    return RunEnded("succeeded", {"answer": text, **outputs})


async def talk(store: Storage, count: int, conversation: str = "c1") -> None:
    """Messages m1, m2, ... with an answer each."""
    for n in range(1, count + 1):
        events = [said(f"m{n}", n, conversation=conversation), RunStarted(), answered(f"answer {n}")]
        await store.journal.append(numbered(f"m{n}", events, at=100.0 * n))


def ids(page: tuple[list[Any], bool]) -> tuple[list[str], bool]:
    """The ids of a page of a list, and whether there are more."""
    return [item.id for item in page[0]], page[1]
