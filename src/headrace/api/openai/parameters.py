"""Which parameters of OpenAI's chat completions and responses are honoured, ignored or refused. docs/openai.md is
generated from it, and tests compare it with OpenAI's own client."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.api.http.errors import BadParameter
from headrace.frozen import frozen
from headrace.values import Value

_OPTIONS = {"tools": "tool_choice", "functions": "function_call"}
"""Parameters that offer something, and those that say whether it may be used."""


@frozen
class Parameters:
    """Those of one endpoint by name, and why. `refused` also has whether a value is refused."""

    honoured: Mapping[str, str]
    refused: Mapping[str, tuple[Callable[[Value], bool], str]]
    ignored: Mapping[str, str]

    def check(self, body: Mapping[str, Value]) -> None:
        """BadParameter where the request asks for something that apps do not do."""
        for name, (refused, unless) in self.refused.items():
            if refused(body.get(name)) and body.get(_OPTIONS.get(name, "")) != "none":
                what = "more than one answer" if name == "n" else f"'{name}' ({unless})"
                message = f"An app served here does not support {what}: its own workflow says what it does."
                raise BadParameter(message, name, "unsupported_parameter")

    def table(self) -> str:
        """All of them as a table in Markdown."""
        rows = [(name, "honoured", meaning) for name, meaning in self.honoured.items()]
        rows += [(name, "refused", unless) for name, (_, unless) in self.refused.items()]
        rows += [(name, "ignored", why) for name, why in sorted(self.ignored.items())]
        lines = (f"| `{name}` | {what} | {why} |" for name, what, why in rows)
        return "\n".join(["| parameter | | |", "|---|---|---|", *lines])


def _given(value: Value) -> bool:
    return bool(value)


def _chosen(value: Value) -> bool:
    return value not in (None, "none", "auto")


_OF_MODELS = "the app's own nodes configure their models"
_NOTHING = "nothing of the kind here"
_IGNORED: Mapping[str, str] = {
    **dict.fromkeys(("temperature", "top_p"), _OF_MODELS),
    **dict.fromkeys(
        ("moderation", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        _NOTHING,
    ),
    "parallel_tool_calls": "there are no tools to call",
    "safety_identifier": "`user` names the end user",
    "service_tier": "there is one",
    "store": "runs are kept either way",
}
_USER = "the run's end user; without it all clients share one"
_INPUTS = "beyond OpenAI's: the app's inputs by name, of any type"
_JSON = "`text`; `json_object` and `json_schema` of workflows, see [below](#json)"
_TOOLS = "unless empty, or `tool_choice` is `none`"

CHAT = Parameters(
    honoured={
        "model": "the app's name, or its id where several apps that the key can access have that name",
        "messages": "text, `image_url` and `file` parts; what the user said since the last answer is the query, what "
        "came before is `sys.history`",
        "stream": "chunks as the app's answer grows",
        "stream_options": "`include_usage`",
        "user": _USER,
        "metadata": "values fill the app's text inputs of those names; `conversation_id` may stand here, too",
        "response_format": _JSON,
        "inputs": _INPUTS,
        "conversation_id": "beyond OpenAI's: the stored conversation to continue; every answer of a chat has it",
    },
    refused={
        "tools": (_given, _TOOLS),
        "functions": (_given, "unless empty, or `function_call` is `none`"),
        "tool_choice": (_chosen, "unless `none` or `auto`"),
        "function_call": (_chosen, "unless `none` or `auto`"),
        "n": (lambda value: value not in (None, 1), "unless 1"),
        "logprobs": (_given, "unless false"),
        "top_logprobs": (_given, "unless 0"),
        "audio": (_given, "speech has endpoints of its own: `/v1/text-to-audio`"),
        "modalities": (lambda value: value not in (None, ["text"]), 'unless `["text"]`'),
        "web_search_options": (_given, "what an app searches is in its graph"),
    },
    ignored={
        **_IGNORED,
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
                "verbosity",
            ),
            _OF_MODELS,
        ),
        "prediction": _NOTHING,
    },
)

RESPONSES = Parameters(
    honoured={
        "model": "as above",
        "input": "a text, or messages with `input_text`, `input_image` and `input_file` parts; used like `messages`",
        "instructions": "a system message before the others: part of `sys.history`, so without effect where a stored "
        "conversation continues",
        "previous_response_id": "continues the conversation of that response, with all that was said since",
        "conversation": "the stored conversation to continue; every response of a chat has it, other apps refuse it",
        "stream": "events as the app's answer grows",
        "background": "responds at once; the run goes on, and its response can be retrieved, or cancelled",
        "text": f"`format`: {_JSON}",
        "user": _USER,
        "metadata": "values fill the app's text inputs of those names; returned with the response",
        "inputs": _INPUTS,
    },
    refused={
        "tools": (_given, _TOOLS),
        "tool_choice": (_chosen, "unless `none` or `auto`"),
        "prompt": (_given, "an app has its own prompts"),
        "top_logprobs": (_given, "unless 0"),
    },
    ignored={
        **_IGNORED,
        **dict.fromkeys(("max_output_tokens", "reasoning", "truncation"), _OF_MODELS),
        **dict.fromkeys(("access_programs", "context_management", "image"), _NOTHING),
        "include": "a response has all that there is",
        "max_tool_calls": "there are no tools to call",
        "stream_options": "events are not padded",
    },
)
