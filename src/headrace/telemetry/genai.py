"""OpenTelemetry's GenAI conventions for a node that asked a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from headrace.kernel.events import NodeSucceeded
from headrace.kernel.graph import NodeSpec
from headrace.telemetry.run_tracker import Outcome, cost_of

_PROVIDERS = {  # as the conventions call those that Dify calls otherwise
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "mistralai": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "x": "x_ai",
}
_PARAMETERS = {
    "temperature": float,
    "top_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "max_tokens": int,
    "seed": int,
}


class ModelSpan(NamedTuple):
    """What a span is called, and what it says of the model."""

    name: str
    attributes: Mapping[str, Any]


def conventions(spec: NodeSpec, outcome: Outcome | None) -> ModelSpan | None:
    """What a node's span says of the model it asked; None for a node that asks none. Of one that failed, the workflow
    file tells what it would have asked."""
    if not spec.traits.calls_model:
        return None
    process: Mapping[str, Any] = outcome.process if outcome else {}
    declared: Any = spec.config.get("model")
    model = cast("dict[str, Any]", declared) if isinstance(declared, dict) else {}
    provider = str(process.get("model_provider") or model.get("provider") or "").rpartition("/")[2]
    name = str(process.get("model_name") or model.get("name") or "")
    mode = process.get("model_mode") or model.get("mode")
    operation = "text_completion" if mode == "completion" else "chat"
    provider = _PROVIDERS.get(provider, provider)
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.system": provider,  # what the conventions called it before
        "gen_ai.request.model": name,
        **_parameters(model.get("completion_params")),
    }
    if isinstance(outcome, NodeSucceeded):
        attributes |= _usage_attributes(outcome, process)
    return ModelSpan(f"{operation} {name}".rstrip(), attributes)


def _usage_attributes(outcome: NodeSucceeded, process: Mapping[str, Any]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if reason := process.get("finish_reason"):
        attributes["gen_ai.response.finish_reasons"] = (str(reason),)
    usage: Mapping[str, Any] = outcome.usage or {}
    if usage:
        currency, price = cost_of(usage)
        attributes |= {
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens") or 0,
            "gen_ai.usage.output_tokens": usage.get("completion_tokens") or 0,
            "headrace.cost": price,
            "headrace.cost.currency": currency,
        }
    if (first := usage.get("time_to_first_token")) is not None:
        attributes["headrace.time_to_first_token"] = first
    return attributes


def _parameters(declared: Any) -> dict[str, Any]:
    params = cast("dict[str, Any]", declared) if isinstance(declared, dict) else {}
    return {
        f"gen_ai.request.{name}": kind(params[name])
        for name, kind in _PARAMETERS.items()
        if isinstance(params.get(name), int | float)
    }
