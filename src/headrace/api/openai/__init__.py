"""OpenAI's chat completions: apps as models."""
