"""Dify's plugins: their packages, and where they are installed."""
