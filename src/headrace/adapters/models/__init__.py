"""Language models: the OpenAI chat protocol as dozens of providers speak it, and a demo model that works offline."""

from headrace.adapters.models.client import ModelClient
from headrace.adapters.models.prices import load_prices
from headrace.adapters.models.providers import PROVIDERS

__all__ = ["PROVIDERS", "ModelClient", "load_prices"]
