"""A typed Python module for one workflow: models of its inputs and outputs, and functions that call it."""

from headrace.cli.generating.module import MARK, form_of, module

__all__ = ["MARK", "form_of", "module"]
