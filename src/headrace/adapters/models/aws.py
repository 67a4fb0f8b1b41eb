"""Amazon Bedrock's addresses, credentials and names of models.

The credentials are those of AWS's own tools: a Bedrock API key, an access key, or what a profile, a web identity or a
container provides, which botocore (the extra `bedrock`) resolves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from headrace.adapters.models.endpoint import NOT_INITIALIZED, Endpoint, Provider, first_set
from headrace.adapters.urls import is_base_url
from headrace.errors import NodeError

BEDROCK = Provider("bedrock")

_KEYS = ("AWS_BEARER_TOKEN_BEDROCK", "BEDROCK_API_KEY")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_ADDRESSES = ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL")
_CHAIN = (
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def is_configured(environ: Mapping[str, str]) -> bool:
    """Whether there are credentials for Bedrock itself."""
    own = environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY")
    return bool(own or first_set(environ, (*_KEYS, *_CHAIN))[1])


def resolve(environ: Mapping[str, str]) -> Endpoint:
    """Bedrock's endpoint. NodeError with kind ProviderTokenNotInitError, which names what is missing."""
    base_name, base = first_set(environ, _ADDRESSES)
    missing: list[str] = []
    if not is_configured(environ):
        missing.append(f"{_KEYS[0]}, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not first_set(environ, _REGIONS)[1]:
        missing.append(_REGIONS[0])
    if missing:
        settings = "; and ".join(missing)
        raise _not_initialized(f"model provider 'bedrock' is not configured. Set {settings} in the environment.")
    if find_spec("botocore") is None:
        raise _not_initialized("model provider 'bedrock' needs an extra: pip install \"headrace[bedrock]\"")
    if base and not is_base_url(base):
        raise NodeError(f"{base_name} is not a valid base URL, such as https://example.com.", NOT_INITIALIZED)
    key = first_set(environ, _KEYS)[1]
    secrets = (key, environ.get("AWS_SECRET_ACCESS_KEY", ""), environ.get("AWS_SESSION_TOKEN", ""))
    return Endpoint(
        BEDROCK,
        base.rstrip("/") or f"https://bedrock-runtime.{region_of(environ)}.amazonaws.com",
        {"Authorization": f"Bearer {key}"} if key else {},
        tuple(secret for secret in secrets if secret),
        protocol="converse",
    )


def region_of(environ: Mapping[str, str]) -> str:
    return first_set(environ, _REGIONS)[1]


async def signed(environ: Mapping[str, str], url: str, body: bytes) -> Mapping[str, str]:
    """The headers of a request with AWS's signature, which is valid for some minutes."""
    auth, request = _module("auth"), _module("awsrequest").AWSRequest(method="POST", url=url, data=body)
    auth.SigV4Auth(await _credentials(environ), "bedrock", region_of(environ)).add_auth(request)
    return {str(name): str(value) for name, value in request.headers.items()}


async def _credentials(environ: Mapping[str, str]) -> Any:
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return _module("credentials").Credentials(key, secret, environ.get("AWS_SESSION_TOKEN") or None)
    return await asyncio.to_thread(_resolved)  # reads files and may call a service


def _resolved() -> Any:
    try:
        credentials = _module("session").Session().get_credentials()
        if credentials is not None:
            return credentials.get_frozen_credentials()
    except _module("exceptions").BotoCoreError as error:
        raise NodeError(f"bedrock: AWS credentials could not be resolved: {error}", NOT_INITIALIZED) from error
    raise NodeError("bedrock: AWS credentials could not be resolved.", NOT_INITIALIZED)


def _module(name: str) -> Any:
    return cast("Any", import_module(f"botocore.{name}"))


def _not_initialized(message: str) -> NodeError:
    return NodeError(f"provider_not_initialize: {message}", NOT_INITIALIZED)


# ---------------------------------------------------------------------------------------------------------- models


def model_id(model: str, parameters: Mapping[str, Any], region: str) -> str:
    """The id of a model. In Dify's current files `model` is a family, and parameters name the model and whether other
    regions may answer; older files, and inference profiles, have the id itself. NodeError if the name is unknown."""
    family = _MODELS.get(model)
    if family is None:
        return model
    name = str(parameters.get("model_name") or "")
    if name not in family:
        raise NodeError(
            f"bedrock: the model {name!r} of {model!r} is not known here. Put its Bedrock id, or that of an inference "
            "profile, in place of the model's name.",
            "InvokeBadRequestError",
        )
    area = _area(str(parameters.get("cross-region") or "disabled"), region)
    return f"{area}.{family[name]}" if area else family[name]


def _area(cross_region: str, region: str) -> str:
    match cross_region:
        case "global":
            return "global"
        case "japan":
            return "jp"
        case "geographic":
            start = region.partition("-")[0]
            return {"ap": "apac", "ca": "us"}.get(start, start)
        case _:
            return ""


_MODELS: Mapping[str, Mapping[str, str]] = {
    "anthropic claude 5": {
        "Opus 5": "anthropic.claude-opus-5",
        "Sonnet 5": "anthropic.claude-sonnet-5",
        "Fable 5": "anthropic.claude-fable-5",
    },
    "anthropic claude": {
        "Claude 4.8 Opus": "anthropic.claude-opus-4-8",
        "Claude 4.7 Opus": "anthropic.claude-opus-4-7",
        "Claude 4.6 Sonnet": "anthropic.claude-sonnet-4-6",
        "Claude 4.6 Opus": "anthropic.claude-opus-4-6-v1",
        "Claude 4.5 Opus": "anthropic.claude-opus-4-5-20251101-v1:0",
        "Claude 4.5 Haiku": "anthropic.claude-haiku-4-5-20251001-v1:0",
        "Claude 4.5 Sonnet": "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "Claude 4.1 Opus": "anthropic.claude-opus-4-1-20250805-v1:0",
        "Claude 4.0 Sonnet": "anthropic.claude-sonnet-4-20250514-v1:0",
        "Claude 4.0 Opus": "anthropic.claude-opus-4-20250514-v1:0",
        "Claude 3.7 Sonnet": "anthropic.claude-3-7-sonnet-20250219-v1:0",
        "Claude 3.5 Sonnet V2": "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "Claude 3.5 Sonnet": "anthropic.claude-3-5-sonnet-20240620-v1:0",
        "Claude 3.5 Haiku": "anthropic.claude-3-5-haiku-20241022-v1:0",
        "Claude 3 Sonnet": "anthropic.claude-3-sonnet-20240229-v1:0",
        "Claude 3 Haiku": "anthropic.claude-3-haiku-20240307-v1:0",
        "Claude 3 Opus": "anthropic.claude-3-opus-20240229-v1:0",
    },
    "amazon nova": {
        "Nova Pro V1": "amazon.nova-pro-v1:0",
        "Nova Lite V1": "amazon.nova-lite-v1:0",
        "Nova Lite V2": "amazon.nova-2-lite-v1:0",
        "Nova Micro V1": "amazon.nova-micro-v1:0",
        "Nova Premier V1": "amazon.nova-premier-v1:0",
    },
    "meta": {
        "Llama 3 8B Instruct": "meta.llama3-8b-instruct-v1:0",
        "Llama 3 70B Instruct": "meta.llama3-70b-instruct-v1:0",
        "Llama 3.1 8B Instruct": "meta.llama3-1-8b-instruct-v1:0",
        "Llama 3.1 70B Instruct": "meta.llama3-1-70b-instruct-v1:0",
        "Llama 3.1 405B Instruct": "meta.llama3-1-405b-instruct-v1:0",
        "Llama 3.2 11B Instruct": "meta.llama3-2-11b-instruct-v1:0",
        "Llama 3.2 90B Instruct": "meta.llama3-2-90b-instruct-v1:0",
    },
    "mistral": {
        "Mistral 7B Instruct": "mistral.mistral-7b-instruct-v0:2",
        "Mistral Large": "mistral.mistral-large-2402-v1:0",
        "Mistral Small": "mistral.mistral-small-2402-v1:0",
        "Mixtral 8x7B Instruct": "mistral.mixtral-8x7b-instruct-v0:1",
    },
    "ai21": {
        "Jamba 1.5 Mini": "ai21.jamba-1-5-mini-v1:0",
        "Jamba 1.5 Large": "ai21.jamba-1-5-large-v1:0",
    },
    "deepseek": {"DeepSeek R1": "deepseek.r1-v1:0", "DeepSeek V3.1": "deepseek.v3-v1:0"},
    "cohere": {"Command R": "cohere.command-r-v1:0", "Command R+": "cohere.command-r-plus-v1:0"},
    "qwen": {
        "Qwen3 235B": "qwen.qwen3-235b-a22b-2507-v1:0",
        "Qwen3 32B": "qwen.qwen3-32b-v1:0",
        "Qwen3 Coder 480B": "qwen.qwen3-coder-480b-a35b-v1:0",
        "Qwen3 Coder 30B": "qwen.qwen3-coder-30b-a3b-v1:0",
    },
    "openai": {"GPT OSS 120B": "openai.gpt-oss-120b-1:0", "GPT OSS 20B": "openai.gpt-oss-20b-1:0"},
}
"""Dify's names of models, by family."""
