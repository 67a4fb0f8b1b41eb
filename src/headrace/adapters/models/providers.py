"""Model providers: their base URLs, peculiarities and credentials.

A workflow names a provider as `openai` or `langgenius/openai/openai`: the last part is its name. Credentials come from
the environment: `<PROVIDER>_API_KEY` and `<PROVIDER>_BASE_URL`, with the name in upper case, and `_` for anything but
letters and digits. Those with a protocol of their own are in `Endpoint.protocol`; all others implement OpenAI's chat
protocol, which is also assumed of a provider that is not in the table if its base URL is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from headrace.adapters.models import aws, google_cloud
from headrace.adapters.models.endpoint import (
    AZURE_API_VERSION,
    IMAGE,
    NOT_INITIALIZED,
    Endpoint,
    Provider,
    first_set,
)
from headrace.adapters.urls import is_base_url
from headrace.errors import NodeError

DEMO = "demo"  # the built-in model, which is in no table
_MEDIA = frozenset({"image", "audio", "document"})
_VIDEO = frozenset({"image", "video"})
_ANTHROPIC_VERSION = "2023-06-01"


_TABLE = (
    Provider("openai", "https://api.openai.com/v1", media=_MEDIA, schema="native"),
    Provider("azure_openai", media=_MEDIA, schema="native"),
    Provider("openai_api_compatible", key=False, media=IMAGE, thinking="template"),
    Provider("anthropic", "https://api.anthropic.com/v1"),
    Provider("gemini", "https://generativelanguage.googleapis.com", aliases=("GOOGLE",), user=False),
    Provider("google", "https://generativelanguage.googleapis.com", aliases=("GEMINI",), user=False),
    Provider("deepseek", "https://api.deepseek.com", media=frozenset(), schema="object", thinking="object"),
    Provider(
        "tongyi",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        aliases=("DASHSCOPE",),
        media=_VIDEO,
        schema="object",
    ),
    Provider("siliconflow", "https://api.siliconflow.cn/v1", media=_VIDEO),
    Provider(
        "volcengine_maas",
        "https://ark.cn-beijing.volces.com/api/v3",
        aliases=("ARK", "VOLCENGINE"),
        media=_VIDEO,
        schema="object",
        thinking="object",
    ),
    Provider("moonshot", "https://api.moonshot.cn/v1", schema="object", thinking="object"),
    Provider("zhipuai", "https://open.bigmodel.cn/api/paas/v4", media=_VIDEO, schema="object", thinking="object"),
    Provider("minimax", "https://api.minimaxi.com/v1", schema="object"),
    Provider("baichuan", "https://api.baichuan-ai.com/v1", schema="object"),
    Provider("stepfun", "https://api.stepfun.com/v1", media=_VIDEO, schema="object"),
    Provider("hunyuan", "https://api.hunyuan.cloud.tencent.com/v1", schema="object"),
    Provider("spark", "https://spark-api-open.xf-yun.com/v1", schema="object"),
    Provider("yi", "https://api.lingyiwanwu.com/v1", schema="object"),
    Provider("wenxin", "https://qianfan.baidubce.com/v2", aliases=("QIANFAN",), schema="object"),
    Provider("zhinao", "https://api.360.cn/v1"),
    Provider("gitee_ai", "https://ai.gitee.com/v1"),
    Provider("modelscope", "https://api-inference.modelscope.cn/v1"),
    Provider("ppio", "https://api.ppinfra.com/v3/openai"),
    Provider("aihubmix", "https://aihubmix.com/v1"),
    Provider("openrouter", "https://openrouter.ai/api/v1", media=_MEDIA),
    Provider("groq", "https://api.groq.com/openai/v1"),
    Provider("togetherai", "https://api.together.xyz/v1", aliases=("TOGETHER",)),
    Provider("fireworks", "https://api.fireworks.ai/inference/v1"),
    Provider(
        "mistralai",
        "https://api.mistral.ai/v1",
        aliases=("MISTRAL",),
        schema="native",
        stream_usage=False,
        user=False,
    ),
    Provider("perplexity", "https://api.perplexity.ai"),
    Provider("x", "https://api.x.ai/v1", aliases=("XAI",), schema="native"),
    Provider("nvidia", "https://integrate.api.nvidia.com/v1"),
    Provider("cohere", "https://api.cohere.ai/compatibility/v1"),
    Provider("novita", "https://api.novita.ai/v3/openai"),
    Provider("deepinfra", "https://api.deepinfra.com/v1/openai"),
    Provider("cerebras", "https://api.cerebras.ai/v1"),
    Provider("sambanova", "https://api.sambanova.ai/v1"),
    Provider("upstage", "https://api.upstage.ai/v1"),
    Provider("huggingface_hub", "https://router.huggingface.co/v1", aliases=("HUGGINGFACE",)),
    Provider("ollama", "http://localhost:11434/v1", key=False),
    Provider("xinference", "http://localhost:9997/v1", key=False, thinking="template"),
    Provider("localai", "http://localhost:8080/v1", key=False),
    Provider("vllm", "http://localhost:8000/v1", key=False, media=_VIDEO, thinking="template"),
    Provider("lmstudio", "http://localhost:1234/v1", key=False),
    Provider("gpustack", key=False, thinking="template"),
)
PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in _TABLE}

FOREIGN: Mapping[str, str] = {
    "sagemaker": "Amazon SageMaker",
    "replicate": "Replicate",
    "triton_inference_server": "Triton",
    "watsonx": "IBM watsonx",
    "oci": "Oracle Cloud",
}
"""Providers with another protocol, which need a gateway that implements OpenAI's."""


_CLOUDS = {"bedrock": aws, "vertex_ai": google_cloud}
"""Providers with credentials of their own, unless a gateway is set."""


def last_part(provider: str) -> str:
    """The name of a provider such as `langgenius/openai/openai`."""
    return provider.strip().rstrip("/").rsplit("/", 1)[-1]


def provider_of(name: str) -> Provider:
    """The provider of that name; one that is not in the table only has the base URL that is set."""
    return PROVIDERS.get(name) or Provider(name, key=False)


def resolve(environ: Mapping[str, str], name: str) -> Endpoint:
    """The endpoint of a provider (by the last part of its name), from the environment.

    NodeError with kind ProviderTokenNotInitError, which names the variable to set, if one is missing or malformed.
    """
    if (cloud := _CLOUDS.get(name)) and not environ.get(f"{name.upper()}_BASE_URL", "").strip():
        return cloud.resolve(environ)
    provider = provider_of(name)
    keys = [f"{prefix}_API_KEY" for prefix in provider.prefixes]
    bases = [f"{prefix}_BASE_URL" for prefix in provider.prefixes]
    if name == "azure_openai":
        bases.append("AZURE_OPENAI_ENDPOINT")
    key_name, key = first_set(environ, keys)
    base_name, base = first_set(environ, bases)
    missing = [keys[0]] if provider.key and not key else []
    if not base and not provider.base_url:
        missing.insert(0, bases[0])
    if missing:
        raise NodeError(_not_configured(provider, missing), NOT_INITIALIZED)
    if not (key.isascii() and key.isprintable()):
        raise NodeError(f"{key_name} has characters that no API key has.", NOT_INITIALIZED)
    protocol = _protocol(name, base)
    if protocol == "anthropic":
        headers = {"x-api-key": key, "anthropic-version": _ANTHROPIC_VERSION}
    elif protocol == "gemini":
        headers = {"x-goog-api-key": key}
    elif name == "azure_openai":
        headers = {"api-key": key}
    else:
        headers = {"Authorization": f"Bearer {key}"}
    return Endpoint(
        provider,
        _address(provider, base_name, base) if base else provider.base_url or "",
        headers if key else {},
        tuple(secret for secret in (key, *_hidden(base)) if secret),
        environ.get("AZURE_OPENAI_API_VERSION") or AZURE_API_VERSION,
        protocol,
    )


def _protocol(name: str, base: str) -> Literal["openai", "anthropic", "gemini"]:
    """The protocol of a base URL: a gateway may implement OpenAI's for every provider."""
    path = base.rstrip("/")
    if name == "anthropic" and not path.endswith("/chat/completions"):
        return "anthropic"
    if name in ("gemini", "google") and not path.endswith(("/v1", "/openai", "/chat/completions")):
        return "gemini"
    return "openai"


def configured(environ: Mapping[str, str], name: str) -> bool:
    """Whether anything is set for this provider: a local one has a default URL, but may not be running."""
    if (cloud := _CLOUDS.get(name)) and cloud.is_configured(environ):
        return True
    prefixes = provider_of(name).prefixes
    return bool(first_set(environ, [f"{prefix}_{what}" for prefix in prefixes for what in ("API_KEY", "BASE_URL")])[1])


def _not_configured(provider: Provider, missing: list[str]) -> str:
    name = provider.name
    if not name:
        return "provider_not_initialize: no model is chosen: the model's `provider` is empty."
    if name in FOREIGN:
        return (
            f"provider_not_initialize: {FOREIGN[name]} ('{name}') does not implement the OpenAI chat protocol. Use "
            f"a gateway that does and set {missing[0]}, or choose another provider for this node."
        )
    if name not in PROVIDERS:
        return (
            f"provider_not_initialize: model provider '{name}' is not known here. If it implements the OpenAI "
            f"chat protocol, set {missing[0]} (and {missing[0].removesuffix('_BASE_URL')}_API_KEY) in the environment."
        )
    return (
        f"provider_not_initialize: model provider '{name}' is not configured. "
        f"Set {' and '.join(missing)} in the environment."
    )


def _address(provider: Provider, name: str, base: str) -> str:
    """A base URL as set, normalized: with `/v1` if it has no path, and without the endpoint's path."""
    if not is_base_url(base):
        raise NodeError(f"{name} is not a valid base URL, such as https://example.com/v1.", NOT_INITIALIZED)
    base = base.rstrip("/").removesuffix("/chat/completions")
    bare = provider.name == "azure_openai" or (provider.base_url and not urlsplit(provider.base_url).path)
    return base if bare or urlsplit(base).path else f"{base}/v1"


def _hidden(base: str) -> tuple[str, ...]:
    """The credentials in a base URL."""
    user_info = base.partition("://")[2].partition("/")[0].rpartition("@")[0]
    return (user_info, user_info.partition(":")[2]) if user_info else ()
