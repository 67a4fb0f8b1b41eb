"""Dify's Service API: one dialect of the five verbs of a run."""
