"""Memory: earlier exchanges of the conversation, as many as fit into the model's context window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

from pydantic import Field

from headrace.node import Config, Context, null_means_default
from headrace.nodes._model_call import ModelConfig
from headrace.nodes._prompt import attach, resolved
from headrace.ports.services import Message, Turn, estimate_tokens

MAX_TURNS = 500  # as in Dify

# Context windows in tokens, by the beginning of the model's name. They need not be exact: they keep a long conversation
# from being refused. The name (moonshot-v1-32k) or the parameter `num_ctx` may state the size, too.
_CONTEXT_WINDOWS = (
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
_USUAL_WINDOW = 16_384
_SIZE_IN_NAME = re.compile(r"(?<![\w.])(\d{1,4})k(?![a-z0-9])", re.IGNORECASE)
_ANSWER_TOKENS = 1_024  # reserved for the answer if max_tokens is not set
_FILE_TOKENS = 1_000  # of a picture or document, roughly
_MAX_TOKENS = ("max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")


class RolePrefix(Config):
    """The names of the two sides when the history is a text."""

    user: str = ""
    assistant: str = ""

    _null = null_means_default("user", "assistant")


class Window(Config):
    """Limits memory to the last `size` exchanges."""

    enabled: bool = False
    size: int | None = None

    _null = null_means_default("enabled")


class MemoryConfig(Config):
    """Memory is on if this is set. `query_prompt_template` is the prompt for the user's new question."""

    role_prefix: RolePrefix = Field(default_factory=RolePrefix)
    window: Window = Field(default_factory=Window)
    query_prompt_template: str | None = None

    _null = null_means_default("role_prefix", "window")

    @property
    def max_turns(self) -> int:
        size = self.window.size if self.window.enabled else None
        return min(size, MAX_TURNS) if size and size > 0 else MAX_TURNS


async def recall(ctx: Context, memory: MemoryConfig | None, model: ModelConfig, prompt: str) -> Sequence[Turn]:
    """The last exchanges before this one, oldest first, as many as the memory's window and, beside the prompt, the
    model's context window allow. Empty outside a conversation."""
    conversation = ctx.variables.get(("sys", "conversation_id"))
    if memory is None or not isinstance(conversation, str) or not conversation:
        return ()
    most = memory.max_turns
    turns = _callers_history(ctx)[-most:] or await ctx.resources.history.turns(conversation, ctx.run, most)
    room = room_for(ctx, model, prompt)
    first = len(turns)
    while first > 0 and (room := room - _tokens(turns[first - 1])) >= 0:
        first -= 1
    # the question most likely continues the last exchange: that stays, whatever its length
    return turns[min(first, len(turns) - 1) :] if turns else ()


def _callers_history(ctx: Context) -> list[Turn]:
    """The history that the caller sent (`sys.history`, a list of OpenAI's `{role, content}`). Messages of roles other
    than user and assistant are left out."""
    history = ctx.variables.get(("sys", "history"))
    turns: list[Turn] = []
    questions: list[str] = []
    for message in cast("list[dict[str, str]]", history) if isinstance(history, list) else ():
        if message["role"] == "user":
            questions.append(message["content"])
        elif message["role"] == "assistant":
            turns.append(Turn("\n\n".join(questions), message["content"]))
            questions = []
    return turns


def _tokens(turn: Turn) -> int:
    return estimate_tokens(turn.query) + estimate_tokens(turn.answer) + _FILE_TOKENS * len(turn.files)


def room_for(ctx: Context, model: ModelConfig, prompt: str) -> int:
    """Tokens for the history: the context window less the prompt and the tokens reserved for the answer."""
    parameters = resolved(ctx, model.completion_params)
    window = _number(parameters.get("num_ctx")) or _context_window(model.name)
    answer = next((limit for name in _MAX_TOKENS if (limit := _number(parameters.get(name)))), _ANSWER_TOKENS)
    return max(window - answer, 0) - estimate_tokens(prompt)


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0


def _context_window(name: str) -> int:
    name = name.rpartition("/")[2].lower()
    if size := _SIZE_IN_NAME.search(name):
        return int(size[1]) * 1024
    return next((tokens for start, tokens in _CONTEXT_WINDOWS if name.startswith(start)), _USUAL_WINDOW)


def messages_from(turns: Sequence[Turn], *, vision: bool, detail: str) -> list[Message]:
    """The exchanges as messages; with vision including the files of the questions."""
    messages: list[Message] = []
    for turn in turns:
        question = [Message("user", turn.query)]
        if vision:
            attach(question, turn.files, detail)
        messages += [*question, Message("assistant", turn.answer)]
    return messages


def text_from(turns: Sequence[Turn], prefixes: RolePrefix | None = None) -> str:
    """The exchanges as a text, with a line for each side, and `[image]` for a picture."""
    user = (prefixes and prefixes.user) or "Human"
    assistant = (prefixes and prefixes.assistant) or "Assistant"
    lines = chain.from_iterable((f"{user}: {_question(turn)}", f"{assistant}: {turn.answer}") for turn in turns)
    return "\n".join(lines)


def _question(turn: Turn) -> str:
    return "\n".join([*("[image]" for file in turn.files if file.type == "image"), turn.query])
