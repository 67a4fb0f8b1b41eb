"""The summary of a text, of any length, by a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.adapters.tools.builtin.builtin_tool import INVOKE_ERROR
from headrace.errors import NodeError
from headrace.ports.services import ChatRequest, Message, Models, UsageMessage, estimate_tokens

_SHORT = 6_000  # tokens of a text that is its own summary
_PIECE = 12_000  # characters that are summarized at once: 12,000 tokens at most
_MOST_PIECES = 50
_PROMPT = (
    "Summarize the text of the user, which may be a part of a longer one. Keep its key points and its meaning, "
    "in your own words and in the language of the text. Answer with the summary alone."
)


async def summarized(
    text: str, models: Models, model: str, user: str, instruction: str = ""
) -> tuple[str, Sequence[UsageMessage]]:
    """(summary, what it cost). A short text is returned as it is; `instruction` says more about the summary of others.
    NodeError if no model is set, or the text is too long."""
    if estimate_tokens(text) <= _SHORT:
        return text, ()
    provider, separator, name = model.partition("/")
    if not separator:
        raise NodeError("A summary needs a model: set HEADRACE_SUMMARY_MODEL to PROVIDER/MODEL.", INVOKE_ERROR)
    pieces = list(_pieces(text))
    if len(pieces) > _MOST_PIECES:
        raise NodeError(f"A text of {len(text)} characters is too long to be summarized.", INVOKE_ERROR)
    summaries: list[str] = []
    usages: list[UsageMessage] = []
    for piece in pieces:
        messages = (Message("system", f"{_PROMPT}\n\n{instruction}".rstrip()), Message("user", piece))
        answer: list[str] = []
        async for chunk in models.chat(ChatRequest(provider, name, messages, user=user)):
            answer.append(chunk.text)
            if chunk.usage is not None:
                usages.append(UsageMessage(chunk.usage.wire()))
        summaries.append("".join(answer))
    return "\n".join(summaries), usages


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces, cut between lines if that is possible."""
    start = 0
    while start < len(text):
        end = start + _PIECE
        if end < len(text):
            end = max(text.rfind("\n", start, end), text.rfind(" ", start, end)) + 1 or end
        if piece := text[start:end].strip():
            yield piece
        start = end
