"""Memory: what was said before in the conversation, as far as the model has room for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

from pydantic import Field

from headrace.node import Config, Context, null_means_default
from headrace.nodes._model_call import ModelConfig
from headrace.nodes._prompt import resolved, show
from headrace.ports.services import Message, Turn, estimate_tokens

MAX_TURNS = 500  # Dify's, of any window

# How much a model reads and writes at once, in tokens, by the beginning of its name. Nobody tells us, and it need not
# be exact: it keeps a long conversation from being refused. A name may also say it itself (moonshot-v1-32k), and so may
# the parameter with which inference servers are given it (num_ctx).
_CONTEXTS = (
    ("gpt-3.5", 16_385),
    ("gpt-4o", 128_000),
    ("gpt-4-turbo", 128_000),
    ("gpt-4.1", 1_000_000),
    ("gpt-4", 8_192),
    ("gpt-5", 400_000),
    ("o1", 128_000),
    ("o3", 200_000),
    ("o4", 200_000),
    ("claude", 200_000),
    ("gemini", 1_000_000),
    ("deepseek", 64_000),
    ("glm-4", 128_000),
    ("qwen", 32_768),
)
_ANY_CONTEXT = 16_384
_IN_NAME = re.compile(r"(?<![\w.])(\d{1,4})k(?![a-z0-9])", re.IGNORECASE)
_ANSWER = 1_024  # tokens left for the answer where no max_tokens are set
_FILE = 1_000  # tokens that a picture or document takes, roughly
_LIMITS = ("max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")


class RolePrefix(Config):
    """What the two sides are called in a text."""

    user: str = ""
    assistant: str = ""

    _null = null_means_default("user", "assistant")


class Window(Config):
    """The last `size` exchanges only."""

    enabled: bool = False
    size: int | None = None

    _null = null_means_default("enabled")


class MemoryConfig(Config):
    """Switches memory on. `query_prompt_template` is how the user's new question is put after what was said before."""

    role_prefix: RolePrefix = Field(default_factory=RolePrefix)
    window: Window = Field(default_factory=Window)
    query_prompt_template: str | None = None

    _null = null_means_default("role_prefix", "window")

    @property
    def most(self) -> int:
        """Exchanges at most."""
        size = self.window.size if self.window.enabled else None
        return min(size, MAX_TURNS) if size and size > 0 else MAX_TURNS


async def recall(ctx: Context, memory: MemoryConfig | None, model: ModelConfig, beside: str) -> Sequence[Turn]:
    """The newest exchanges before this one, oldest first, as many as the window has and the model has room for. None
    outside a conversation. `beside` is the text that the model gets besides."""
    conversation = ctx.variables.get(("sys", "conversation_id"))
    if memory is None or not isinstance(conversation, str) or not conversation:
        return ()
    turns = _given(ctx)[-memory.most :] or await ctx.resources.history.turns(conversation, ctx.run, memory.most)
    room = _room(ctx, model) - estimate_tokens(beside)
    kept = len(turns)
    while kept > 0 and (room := room - _tokens(turns[kept - 1])) >= 0:
        kept -= 1
    # the newest exchange is what a question most likely goes on from: it stays, whatever its length
    return turns[min(kept, len(turns) - 1) :] if turns else ()


def _given(ctx: Context) -> list[Turn]:
    """The exchanges that a caller says there were (`sys.history`: OpenAI's `{role, content}`); what is not the user's
    or the assistant's is no part of them."""
    given = ctx.variables.get(("sys", "history"))
    turns: list[Turn] = []
    asked: list[str] = []
    for each in cast("list[dict[str, str]]", given) if isinstance(given, list) else ():
        if each["role"] == "user":
            asked.append(each["content"])
        elif each["role"] == "assistant":
            turns.append(Turn("\n\n".join(asked), each["content"]))
            asked = []
    return turns


def _tokens(turn: Turn) -> int:
    return estimate_tokens(turn.query) + estimate_tokens(turn.answer) + _FILE * len(turn.files)


def _room(ctx: Context, model: ModelConfig) -> int:
    """Tokens for what a model is told: what it takes at once, less what its answer may have."""
    parameters = resolved(ctx, model.completion_params)
    context = _number(parameters.get("num_ctx")) or _context(model.name)
    answer = next((found for name in _LIMITS if (found := _number(parameters.get(name)))), _ANSWER)
    return max(context - answer, 0)


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0


def _context(name: str) -> int:
    name = name.rpartition("/")[2].lower()
    if found := _IN_NAME.search(name):
        return int(found[1]) * 1024
    return next((tokens for start, tokens in _CONTEXTS if name.startswith(start)), _ANY_CONTEXT)


def messages_from(turns: Sequence[Turn], *, vision: bool, detail: str) -> list[Message]:
    """The exchanges as messages; with vision the files of the questions are shown."""
    told: list[Message] = []
    for turn in turns:
        asked = [Message("user", turn.query)]
        if vision:
            show(asked, turn.files, detail)
        told += [*asked, Message("assistant", turn.answer)]
    return told


def text_from(turns: Sequence[Turn], prefixes: RolePrefix | None = None) -> str:
    """The exchanges as a text, a line for each side; a picture is `[image]`."""
    user = (prefixes and prefixes.user) or "Human"
    assistant = (prefixes and prefixes.assistant) or "Assistant"
    lines = chain.from_iterable((f"{user}: {_question(turn)}", f"{assistant}: {turn.answer}") for turn in turns)
    return "\n".join(lines)


def _question(turn: Turn) -> str:
    return "\n".join([*("[image]" for file in turn.files if file.type == "image"), turn.query])
