"""Headrace runs workflows exported from Dify, and answers them through Dify's own API."""

__version__ = "0.1.0"
