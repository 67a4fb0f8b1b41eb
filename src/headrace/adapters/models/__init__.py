"""Language models and speech: OpenAI's protocols as dozens of providers implement them, and an offline demo model."""

from headrace.adapters.models.client import ModelClient
from headrace.adapters.models.prices import load_prices
from headrace.adapters.models.providers import PROVIDERS
from headrace.adapters.models.speech import SpeechClient

__all__ = ["PROVIDERS", "ModelClient", "SpeechClient", "load_prices"]
