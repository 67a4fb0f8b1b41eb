"""Benchmarks: `uv run python benchmarks/run.py` measures Headrace beside its peers."""
