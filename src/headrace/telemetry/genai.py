"""OpenTelemetry's GenAI conventions for a node that calls a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from headrace.kernel.events import NodeSucceeded
from headrace.kernel.graph import NodeSpec
from headrace.telemetry.run_tracker import Outcome, cost_of

_PROVIDERS = {  # whose names in the conventions differ from Dify's
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
    """The name of a span, and its attributes about the model."""

    name: str
    attributes: Mapping[str, Any]


def conventions(spec: NodeSpec, outcome: Outcome | None) -> ModelSpan | None:
    """The name and attributes of the span of a node that calls a model; None for other nodes. For a failed node the
    model is that of the workflow file."""
    if not spec.traits.calls_model:
        return None
    process: Mapping[str, Any] = outcome.process if outcome else {}
    model_config: Any = spec.config.get("model")
    model = cast("dict[str, Any]", model_config) if isinstance(model_config, dict) else {}
    provider = str(process.get("model_provider") or model.get("provider") or "").rpartition("/")[2]
    name = str(process.get("model_name") or model.get("name") or "")
    mode = process.get("model_mode") or model.get("mode")
    operation = "text_completion" if mode == "completion" else "chat"
    provider = _PROVIDERS.get(provider, provider)
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.system": provider,  # its name in earlier conventions
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


def _parameters(model: Any) -> dict[str, Any]:
    params = cast("dict[str, Any]", model) if isinstance(model, dict) else {}
    return {
        f"gen_ai.request.{name}": kind(params[name])
        for name, kind in _PARAMETERS.items()
        if isinstance(params.get(name), int | float)
    }
