"""Which parameters of OpenAI's chat completions are honoured, ignored or refused. docs/openai.md is generated from it,
and tests compare it with OpenAI's own client."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.api.http.errors import BadParameter
from headrace.values import Value

HONOURED: Mapping[str, str] = {
    "model": "the app's name, or its id where several apps that the key can access have that name",
    "messages": "text and `image_url` parts; what the user said since the last answer is the query, what came before "
    "is `sys.history`",
    "stream": "chunks as the app's answer grows",
    "stream_options": "`include_usage`",
    "user": "the run's end user; without it all clients share one",
    "metadata": "values fill the app's text inputs of those names; `conversation_id` may stand here, too",
    "inputs": "beyond OpenAI's: the app's inputs by name, of any type",
    "conversation_id": "beyond OpenAI's: the stored conversation to continue; every answer of a chat has it",
}

IGNORED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "frequency_penalty",
            "logit_bias",
            "max_completion_tokens",
            "max_tokens",
            "presence_penalty",
            "reasoning_effort",
            "seed",
            "stop",
            "temperature",
            "top_p",
            "verbosity",
        ),
        "the app's own nodes configure their models",
    ),
    **dict.fromkeys(
        ("moderation", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        "nothing of the kind here",
    ),
    "parallel_tool_calls": "there are no tools to call",
    "safety_identifier": "`user` names the end user",
    "service_tier": "there is one",
    "store": "runs are kept either way",
}


def _given(value: Value) -> bool:
    return bool(value)


def _chosen(value: Value) -> bool:
    return value not in (None, "none", "auto")


REFUSED: Mapping[str, tuple[Callable[[Value], bool], str]] = {
    "tools": (_given, "unless empty"),
    "functions": (_given, "unless empty"),
    "tool_choice": (_chosen, "unless `none` or `auto`"),
    "function_call": (_chosen, "unless `none` or `auto`"),
    "n": (lambda value: value not in (None, 1), "unless 1"),
    "logprobs": (_given, "unless false"),
    "top_logprobs": (_given, "unless 0"),
    "audio": (_given, "speech has endpoints of its own: `/v1/text-to-audio`"),
    "modalities": (lambda value: value not in (None, ["text"]), 'unless `["text"]`'),
    "response_format": (lambda value: value not in (None, {"type": "text"}), "unless `text`"),
    "web_search_options": (_given, "what an app searches is in its graph"),
}
"""By name: whether a value is refused, and which are not."""


def refuse_unsupported(body: Mapping[str, Value]) -> None:
    """BadParameter where the request asks for something that apps do not do."""
    for name, (refused, _) in REFUSED.items():
        if refused(body.get(name)):
            what = "more than one answer" if name == "n" else f"'{name}'"
            message = f"An app served here does not support {what}: its own workflow says what it does."
            raise BadParameter(message, name, "unsupported_parameter")


def table() -> str:
    """All of them as a table in Markdown."""
    rows = [(name, "honoured", meaning) for name, meaning in HONOURED.items()]
    rows += [(name, "refused", unless) for name, (_, unless) in REFUSED.items()]
    rows += [(name, "ignored", why) for name, why in sorted(IGNORED.items())]
    lines = (f"| `{name}` | {what} | {why} |" for name, what, why in rows)
    return "\n".join(["| parameter | | |", "|---|---|---|", *lines])
