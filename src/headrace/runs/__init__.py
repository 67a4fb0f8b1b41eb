"""Runs: submitted, driven by workers, followed, stopped and resumed."""
