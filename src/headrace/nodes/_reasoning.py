"""A model's reasoning, kept apart from its answer.

Some providers send it in a field of its own, some models write `<think>…</think>` into the text. Dify has two forms
(`reasoning_format`): tagged keeps it in the text, between those tags; separated removes it from the text.
"""

from __future__ import annotations

import re

_OPEN = re.compile(r"<think(\s[^<>]{0,512})?>", re.IGNORECASE)
_CLOSE = re.compile(r"</think>", re.IGNORECASE)
_EITHER = re.compile(f"{_OPEN.pattern}|{_CLOSE.pattern}", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n\s*\n")
_LONGEST = len("<think") + 1 + 512  # characters that may still become an opening tag


class TaggedReasoning:
    """Puts reasoning into the text as Dify's providers do."""

    reasoning = ""

    def __init__(self) -> None:
        self._thinking = False

    def feed(self, text: str, reasoning: str) -> tuple[str, str]:
        """(the text that a piece of the answer adds, the reasoning to stream: none, as it is in the text)."""
        tags = ""
        if reasoning:
            tags = reasoning if self._thinking else f"<think>\n{reasoning}"
            self._thinking = True
        if text and self._thinking:
            self._thinking = False
            tags += "\n</think>"
        return tags + text, ""

    def end(self) -> tuple[str, str]:
        """Closes reasoning that no answer followed."""
        return ("\n</think>" if self._thinking else ""), ""


class SeparatedReasoning:
    """Removes reasoning from text that arrives in pieces; a tag may be split anywhere. Reasoning ends with its first
    closing tag, as in Dify; with `nested`, with the one that belongs to its opening tag."""

    def __init__(self, *, nested: bool = False) -> None:
        self._inside = _EITHER if nested else _CLOSE
        self._depth = 0  # of tags that are open
        self._pending = ""  # perhaps the beginning of a tag
        self._space: list[str] = []  # white space after the text, which more text may follow
        self._has_text = False
        self._text_since_thought = False
        self._thoughts: list[list[str]] = []
        self._new_thoughts: list[str] = []

    @property
    def reasoning(self) -> str:
        """All reasoning, one thought after another."""
        return "\n".join(joined_text for parts in self._thoughts if (joined_text := "".join(parts).strip()))

    def feed(self, text: str, reasoning: str = "") -> tuple[str, str]:
        """The (text, reasoning) that a piece of the answer adds."""
        if reasoning:
            if not self._thoughts or self._text_since_thought:
                self._thoughts.append([])
            self._think(reasoning)
            self._text_since_thought = False
        rest, self._pending = self._pending + text, ""
        clean = ""
        while rest:
            tag = (self._inside if self._depth else _OPEN).search(rest)
            if tag is None:
                keep = max(
                    _unfinished_end(rest) if self._depth else 0,
                    _unfinished_start(rest) if not self._depth or self._inside is _EITHER else 0,
                )
                rest, self._pending = rest[: len(rest) - keep], rest[len(rest) - keep :]
            piece = rest[: tag.start()] if tag else rest
            if self._depth:
                self._think(piece)
            else:
                clean += piece
            if tag is None:
                break
            if tag[0].startswith("</"):
                self._depth -= 1
            else:
                self._depth += 1
                self._thoughts.append([])
            rest = rest[tag.end() :]
        return self._trimmed(clean), self._take_thoughts()

    def end(self) -> tuple[str, str]:
        """What was held back because a tag might have begun there."""
        pending, self._pending = self._pending, ""
        if not self._depth:
            return self._trimmed(pending), ""
        self._think(pending)
        return "", self._take_thoughts()

    def _think(self, piece: str) -> None:
        self._thoughts[-1].append(piece)
        self._new_thoughts.append(piece)

    def _take_thoughts(self) -> str:
        thoughts, self._new_thoughts = "".join(self._new_thoughts), []
        return thoughts

    def _trimmed(self, clean: str) -> str:
        """The text as Dify stores it: without white space around it, and at most one blank line in a row. So the
        streamed text is the one that the node returns."""
        if not clean or clean.isspace():
            if self._has_text:
                self._space.append(clean)
            return ""
        clean = "".join((*self._space, clean)) if self._has_text else clean.lstrip()
        text = clean.rstrip()
        self._space = [clean[len(text) :]]
        self._has_text = self._text_since_thought = True
        return _BLANK_LINES.sub("\n\n", text)


def _unfinished_end(text: str) -> int:
    """How many characters at the end may be the beginning of a closing tag."""
    tail = text[at:].lower() if (at := text.rfind("<")) >= 0 else ""
    return len(tail) if "</think>".startswith(tail) else 0


def _unfinished_start(text: str) -> int:
    """How many characters at the end may be the beginning of an opening tag."""
    tail = text[at:].lower() if (at := text.rfind("<")) >= 0 else ""
    if "<think".startswith(tail):
        return len(tail)
    attributes = tail.startswith("<think") and tail[6].isspace() and ">" not in tail and len(tail) <= _LONGEST
    return len(tail) if attributes else 0


def without_reasoning(text: str) -> str:
    """A whole text without its reasoning."""
    separation = SeparatedReasoning()
    return separation.feed(text)[0] + separation.end()[0]
