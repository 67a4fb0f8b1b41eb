"""Language models and speech: OpenAI's protocols as dozens of providers implement them, the models of plugins, and an
offline demo model."""

from headrace.adapters.models.client import ModelClient
from headrace.adapters.models.plugin_calls import ModelCalls
from headrace.adapters.models.plugins import PluginModels, SpeechWithPlugins
from headrace.adapters.models.prices import load_prices
from headrace.adapters.models.providers import PROVIDERS
from headrace.adapters.models.speech import SpeechClient

__all__ = [
    "PROVIDERS",
    "ModelCalls",
    "ModelClient",
    "PluginModels",
    "SpeechClient",
    "SpeechWithPlugins",
    "load_prices",
]
