"""A typed Python module for one workflow: models of what it takes and puts out, and functions that call it."""

from headrace.cli.generating.module import MARK, form_of, module

__all__ = ["MARK", "form_of", "module"]
