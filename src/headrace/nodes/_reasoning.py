"""A model's thinking, told apart from its answer.

Some providers send it in a field of its own, some models write `<think>…</think>` into the text. Dify knows two forms
(`reasoning_format`): tagged keeps it in the text, between those tags; separated takes it out of the text.
"""

from __future__ import annotations

import re

_OPEN = re.compile(r"<think(\s[^<>]{0,512})?>", re.IGNORECASE)
_CLOSE = re.compile(r"</think>", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n\s*\n")
_LONGEST = len("<think") + 1 + 512  # characters that may yet become an opening tag


class TaggedReasoning:
    """Puts thinking into the text as Dify's providers do, piece by piece."""

    def __init__(self) -> None:
        self._thinking = False

    def feed(self, text: str, reasoning: str) -> str:
        """What a piece of the answer adds to the text."""
        told = ""
        if reasoning:
            told = reasoning if self._thinking else f"<think>\n{reasoning}"
            self._thinking = True
        if text and self._thinking:
            self._thinking = False
            return f"{told}\n</think>{text}"
        return told + text

    def end(self) -> str:
        """What closes a thought that no answer followed."""
        return "\n</think>" if self._thinking else ""


class SeparatedReasoning:
    """Takes thinking out of text that comes piece by piece; a tag may be cut anywhere."""

    def __init__(self) -> None:
        self._thinking = False
        self._held = ""
        self._space: list[str] = []  # white space after the text; more text may follow, or nothing
        self._text_since_thought = False
        self._text: list[str] = []
        self._thoughts: list[list[str]] = []
        self._thought: list[str] = []  # of them, what nobody has been told of yet

    def feed(self, text: str, reasoning: str = "") -> str:
        """What a piece adds to the text without its thinking."""
        if reasoning:
            if not self._thoughts or self._text_since_thought:
                self._thoughts.append([])
            self._think(reasoning)
            self._text_since_thought = False
        work, self._held = self._held + text, ""
        clean = ""
        while work:
            tag = (_CLOSE if self._thinking else _OPEN).search(work)
            if tag is None:
                keep = _unfinished(work, thinking=self._thinking)
                work, self._held = work[: len(work) - keep], work[len(work) - keep :]
            piece = work[: tag.start()] if tag else work
            if self._thinking:
                self._think(piece)
            else:
                clean += piece
            if tag is None:
                break
            self._thinking = not self._thinking
            if self._thinking:
                self._thoughts.append([])
            work = work[tag.end() :]
        return self._say(clean)

    def end(self) -> str:
        """What was held back in case a tag began there."""
        held, self._held = self._held, ""
        if self._thinking:
            self._think(held)
            return ""
        return self._say(held)

    def thought(self) -> str:
        """What the thinking grew by since this was called last."""
        thought, self._thought = "".join(self._thought), []
        return thought

    def _think(self, piece: str) -> None:
        self._thoughts[-1].append(piece)
        self._thought.append(piece)

    def _say(self, clean: str) -> str:
        """The text as Dify keeps it: without white space around it, and with one blank line for several. So what is
        streamed is what the node returns."""
        if not clean or clean.isspace():
            if self._text:
                self._space.append(clean)
            return ""
        clean = "".join((*self._space, clean)) if self._text else clean.lstrip()
        text = clean.rstrip()
        self._space = [clean[len(text) :]]
        text = _BLANK_LINES.sub("\n\n", text)
        self._text.append(text)
        self._text_since_thought = True
        return text

    @property
    def text(self) -> str:
        """The whole answer without its thinking."""
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        """All thoughts, one after another."""
        return "\n".join(thought for parts in self._thoughts if (thought := "".join(parts).strip()))


def _unfinished(text: str, *, thinking: bool) -> int:
    """How many characters at the end may be the beginning of a tag."""
    at = text.rfind("<")
    if at < 0:
        return 0
    tail = text[at:].lower()
    if thinking:
        return len(tail) if "</think>".startswith(tail) else 0
    if "<think".startswith(tail):
        return len(tail)
    attributes = tail.startswith("<think") and tail[6].isspace() and ">" not in tail and len(tail) <= _LONGEST
    return len(tail) if attributes else 0


def without_thinking(text: str) -> str:
    """A whole text without its thinking."""
    separated = SeparatedReasoning()
    separated.feed(text)
    separated.end()
    return separated.text
