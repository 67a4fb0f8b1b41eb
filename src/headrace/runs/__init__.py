"""Runs: how they are submitted, driven by workers, followed, stopped and resumed."""
